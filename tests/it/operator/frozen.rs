//! A leader that is frozen while it works on a bucket writes nothing more to the store when it is thawed.

use super::process::{Process, config_for_store, leader, leads, with_chart_scaled_down};
use crate::support::proxy::{Proxy, Seen};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn thawed_leader_writes_nothing_to_store() {
    with_chart_scaled_down("leader-store", |namespace| async move {
        let proxy = Proxy::start(&S3Server::first().endpoint, 28340).await;
        let config = config_for_store(&proxy.endpoint);
        let mut first = Process::with_config(&namespace, &namespace, "store-first", config.clone());
        leads(&namespace, "store-first").await;
        let second = Process::with_config(&namespace, &namespace, "store-second", config);
        first.is_ready().await;
        second.is_ready().await;
        let scene = Scene::within(namespace, S3Server::first(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        })
        .await;
        // A new bucket takes some dozens of writes: it is in the midst of them.
        eventually("the leader writes to the store", HANG, || async {
            let requests = proxy.take();
            if requests.iter().any(Seen::is_write) { Ok(()) } else { Err(format!("{requests:?}")) }
        })
        .await;
        first.signal("STOP").await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        assert_eq!(leader(&scene.namespace).await.unwrap(), "store-second");
        scene.is_settled(HANG).await;
        second.wait_until_in_sync(&scene.namespace).await;

        // From now on it can ask for nothing more, and what it had asked for is known by its connections.
        second.signal("STOP").await;
        let of_second = second.ports();
        let before = proxy.arrived().len();
        first.signal("CONT").await;
        let ended = first.ends().await;
        assert_eq!(ended.code(), Some(3), "{}", first.said());
        // Behind all that it can have sent.
        reqwest::get(&proxy.endpoint).await.unwrap();
        let mut late = proxy.arrived().split_off(before);
        late.retain(|(port, asked)| {
            let is_read = asked.starts_with("GET ") || asked.starts_with("HEAD ");
            !is_read && !of_second.contains(port)
        });
        assert!(late.is_empty(), "{late:?}\n{}", first.said());
    })
    .await;
}
