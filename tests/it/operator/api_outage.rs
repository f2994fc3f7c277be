//! The API server restarts. The operator continues after a short outage. After a long one, the leader has ended and the standby
//! leads. Neither sends many requests.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use toezicht::api::Camera;

use super::process::{
    LEASE, Process, config_for_store, leader, release_lease, wait_for_leader, with_chart_scaled_down,
};
use super::watches::{start, wait_for_cameras};
use crate::support::cluster::TestNamespace;
use crate::support::scene::Scene;
use crate::support::settings::{S3Server, root, setting};
use crate::support::tools::run;
use crate::support::wait::HANG;

/// With a renewal of the Lease before and after it, still within the renew deadline of ten seconds.
const SHORT_OUTAGE: Duration = Duration::from_secs(3);
/// Longer than the leader keeps its Lease.
const LONG_OUTAGE: Duration = Duration::from_secs(20);
/// Largest number of connections that two operators attempt in an outage: each of 13 watches backs off from one second, and each
/// elector tries every two seconds.
const MAX_CONNECTIONS: usize = 150;
/// Largest number of requests of the standby before it leads: one every two seconds. The last renewal may have come right before the
/// outage, so it waits one lease duration of 15 seconds.
const MAX_ELECTIONS: usize = 10;
/// Largest number of requests from the end of an outage until everything is as desired.
const MAX_REQUESTS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn operator_continues_after_api_server_outage() {
    with_chart_scaled_down("outage", async |namespace| {
        let (proxy, mut first) = start(&namespace, "outage-first").await;
        let config = config_for_store(&S3Server::primary().endpoint);
        let second =
            Process::with_cluster(&proxy.kubeconfig, &namespace, &namespace, "outage-second", config);
        second.wait_until_ready().await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, _| {}).await;
        scene.camera("deur", "h264/5").await;
        scene.camera("hal", "h264/6").await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        wait_for_cameras(&scene, &["deur", "hal"]).await;
        scene.wait_until_settled(HANG).await;

        let cameras = scene.namespace.api::<Camera>();
        let holder = holder(&scene.namespace).await;
        let before = proxy.requests().len();
        proxy.set_down(true);
        cameras.delete("hal", &DeleteParams::default()).await.unwrap();
        scene.camera("kantine", "h264/7").await;
        tokio::time::sleep(SHORT_OUTAGE).await;
        proxy.set_down(false);
        wait_for_cameras(&scene, &["deur", "kantine"]).await;
        assert_eq!(self::holder(&scene.namespace).await, holder, "{}", first.log());
        let requests = proxy.requests().split_off(before);
        assert!(requests.len() < MAX_REQUESTS, "{}: {requests:#?}", requests.len());

        let (connections, before) = (proxy.connection_count(), proxy.requests().len());
        proxy.set_down(true);
        cameras.delete("kantine", &DeleteParams::default()).await.unwrap();
        let outage = tokio::time::sleep(LONG_OUTAGE);
        // Another operator could lead by now, so this one must end.
        let ended = first.wait_for_exit().await;
        assert_eq!(ended.code(), Some(3), "{}", first.log());
        outage.await;
        let attempts = proxy.connection_count() - connections;
        assert!(attempts < MAX_CONNECTIONS, "{attempts} connections");
        proxy.set_down(false);
        wait_for_leader(&scene.namespace, "outage-second").await;
        let requests = proxy.requests().split_off(before);
        let elections = requests.iter().take_while(|request| request.contains("/leases/")).count();
        assert!(elections <= MAX_ELECTIONS, "{requests:#?}");
        wait_for_cameras(&scene, &["deur"]).await;
        second.wait_until_ready().await;
        second.wait_until_in_sync(&scene.namespace).await;
        let requests = proxy.requests().split_off(before);
        let own = requests.iter().filter(|request| !request.contains("/leases/")).count();
        assert!(own < MAX_REQUESTS, "{own}: {requests:#?}");
        assert_eq!(leader(&scene.namespace).await.unwrap(), "outage-second");
        println!("short outage and long outage: {attempts} connections, {own} requests");
    })
    .await;
}

/// Returns the identity of the leader's process.
async fn holder(namespace: &TestNamespace) -> Option<String> {
    namespace.api::<Lease>().get(LEASE).await.unwrap().spec.unwrap().holder_identity
}

/// Name of the newest API server in the test bed. It has no nodes, so no other test of the operator needs it.
const NEWEST: &str = "apiserver-newest";

#[tokio::test(flavor = "multi_thread")]
async fn newest_server_restarts_and_operator_continues() {
    let kubeconfig = setting("TOEZICHT_TEST_KUBECONFIG_NEWEST");
    let bed = root().join("tests/testbed/bed").display().to_string();
    let crds = root().join("crds").display().to_string();
    let kubectl = ["--kubeconfig", &kubeconfig];
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crds];
    run("kubectl", &[&kubectl[..], &apply[..]].concat(), None).await;
    let established = ["wait", "crd", "--all", "--for=condition=Established"];
    run("kubectl", &[&kubectl[..], &established[..]].concat(), None).await;

    let namespace = TestNamespace::new(&client_of(&kubeconfig).await, "restart").await;
    release_lease(&namespace).await;
    let config = config_for_store(&S3Server::primary().endpoint);
    let start =
        |instance: &str| Process::with_cluster(&kubeconfig, &namespace, &namespace, instance, config.clone());
    let first = start("restart-first");
    wait_for_leader(&namespace, "restart-first").await;
    let second = start("restart-second");
    second.wait_until_ready().await;
    let scene = Scene::within(namespace, S3Server::primary(), |_, _| {}).await;
    scene.camera("deur", "h264/5").await;
    scene.wait_for_site("StorageEnforced", "True", HANG).await;
    wait_for_cameras(&scene, &["deur"]).await;

    run(&bed, &["stop", NEWEST], None).await;
    run(&bed, &["start", NEWEST], None).await;
    let mut scene = scene;
    // The connections of before are gone.
    scene.namespace.client = client_of(&kubeconfig).await;
    scene.camera("hal", "h264/6").await;
    wait_for_cameras(&scene, &["deur", "hal"]).await;
    let cameras = scene.namespace.api::<Camera>();
    cameras.delete("deur", &DeleteParams::default()).await.unwrap();
    wait_for_cameras(&scene, &["hal"]).await;
    let leads = leader(&scene.namespace).await.unwrap();
    let process = if leads == first.instance { &first } else { &second };
    process.wait_until_ready().await;
    println!("{leads} leads after the restart");
}

async fn client_of(kubeconfig: &str) -> Client {
    // Only the first call takes effect.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}
