//! A leader frozen while it configures a bucket writes nothing to the store after it is thawed.

use super::process::{Process, config_for_store, leader, wait_for_leader, with_chart_scaled_down};
use crate::support::proxy::{ProxiedRequest, Proxy};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn thawed_leader_writes_nothing_to_store() {
    with_chart_scaled_down("leader-store", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, 28340).await;
        let config = config_for_store(&proxy.endpoint);
        let mut first = Process::with_config(&namespace, &namespace, "store-first", config.clone());
        wait_for_leader(&namespace, "store-first").await;
        let second = Process::with_config(&namespace, &namespace, "store-second", config);
        first.wait_until_ready().await;
        second.wait_until_ready().await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        })
        .await;
        // Configuring a new bucket takes dozens of writes, so the leader is in the middle of them.
        eventually("the leader writes to the store", HANG, || async {
            let requests = proxy.take();
            if requests.iter().any(ProxiedRequest::is_write) { Ok(()) } else { Err(format!("{requests:?}")) }
        })
        .await;
        first.signal("STOP").await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        assert_eq!(leader(&scene.namespace).await.unwrap(), "store-second");
        scene.wait_until_settled(HANG).await;
        second.wait_until_in_sync(&scene.namespace).await;

        // The second leader sends nothing more from now on. Its earlier requests are identified by their local ports.
        second.signal("STOP").await;
        let ports_of_second = second.local_ports();
        let before = proxy.received().len();
        first.signal("CONT").await;
        let ended = first.wait_for_exit().await;
        assert_eq!(ended.code(), Some(3), "{}", first.log());
        // Requests of the first leader would arrive before this one.
        reqwest::get(&proxy.endpoint).await.unwrap();
        let mut late = proxy.received().split_off(before);
        late.retain(|(port, request)| {
            let is_read = request.starts_with("GET ") || request.starts_with("HEAD ");
            !is_read && !ports_of_second.contains(port)
        });
        assert!(late.is_empty(), "{late:?}\n{}", first.log());
    })
    .await;
}
