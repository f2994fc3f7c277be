//! Recorders that lost their Site: somebody removed its finalizer, or made another object the controller of its StatefulSet. They stop
//! recording, nothing is deleted, and their spools reach the bucket.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use toezicht::api::{RecordingPolicy, Site};
use tokio::time::sleep;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use super::spools::{
    assert_no_children, wait_for_ready_message, wait_for_spooled_segments, wait_until_site_is_deleted,
};
use crate::support::cluster::TestNamespace;
use crate::support::pod;
use crate::support::proxy::Proxy;
use crate::support::recorded::wait_until_complete;
use crate::support::scene::{POLICY, SITE, Scene, policy};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const RECORDER: &str = "die-heijgrave-recorder";
const GONE_PORT: u16 = 28367;
const FOREIGN_PORT: u16 = 28368;

fn through(proxy: &Proxy) -> impl Fn(&mut Value, &mut Value) {
    |_, site| site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into()
}

/// Starts an operator and a site whose camera records. Then the store goes away, until the spool has segments.
async fn spooling_scene(namespace: TestNamespace, instance: &str, proxy: &Proxy) -> (Process, Scene) {
    let process = Process::with_config(&namespace, &namespace, instance, config_for_store(&proxy.endpoint));
    wait_for_leader(&namespace, instance).await;
    let scene = Scene::within(namespace, S3Server::primary(), through(proxy)).await;
    scene.camera("hal", "h264/9").await;
    scene.wait_for_camera("hal", "Recording", "True", HANG).await;
    proxy.set_down(true);
    wait_for_spooled_segments(&scene, &format!("{RECORDER}-0"), 2).await;
    (process, scene)
}

/// Returns the UIDs of StatefulSet, pod and Secret.
async fn uids(scene: &Scene) -> [Option<String>; 3] {
    let workload = scene.namespace.api::<StatefulSet>().get(RECORDER).await.unwrap();
    let pod = scene.namespace.api::<Pod>().get(&format!("{RECORDER}-0")).await.unwrap();
    let secret = scene.namespace.api::<Secret>().get(&format!("{RECORDER}-config")).await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_none() && workload.metadata.deletion_timestamp.is_none());
    [workload.uid(), pod.uid(), secret.uid()]
}

async fn wait_until_silent(scene: &Scene) {
    eventually("the camera is silent", HANG, || async {
        let frames = pod::frames(&scene.namespace, "hal").await?;
        sleep(Duration::from_secs(3)).await;
        let later = pod::frames(&scene.namespace, "hal").await?;
        if later == frames { Ok(()) } else { Err(format!("{frames}, then {later}")) }
    })
    .await;
}

async fn events(scene: &Scene, reason: &str) -> Result<Vec<Event>, String> {
    let events = scene.namespace.api::<Event>().list(&ListParams::default()).await;
    let mut events = events.map_err(|e| e.to_string())?.items;
    events.retain(|event| event.reason.as_deref() == Some(reason));
    Ok(events)
}

async fn wait_for_metric(process: &Process, line: &str, is_there: bool) {
    eventually(&format!("{line}: {is_there}"), HANG, || async {
        let metrics = process.metrics().await?;
        let found = metrics.lines().any(|found| found == line);
        if found == is_there { Ok(()) } else { Err(metrics) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorders_whose_site_is_gone_stop_and_are_taken_over() {
    with_chart_scaled_down("orphans-gone", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, GONE_PORT).await;
        let (mut process, scene) = spooling_scene(namespace, "orphans-gone", &proxy).await;
        let before = uids(&scene).await;
        // While no operator runs, nobody adds the finalizer again, and nobody stops the recorder.
        process.release_lease_and_exit(&scene.namespace).await;
        let sites = scene.namespace.api::<Site>();
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        sites.patch(SITE, &PatchParams::default(), &none).await.unwrap();
        sites.delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_until_site_is_deleted(&scene).await;
        let policies = scene.namespace.api::<RecordingPolicy>();
        policies.delete(POLICY, &DeleteParams::default()).await.unwrap();
        let frames = pod::frames(&scene.namespace, "hal").await.unwrap();
        sleep(Duration::from_secs(3)).await;
        assert!(pod::frames(&scene.namespace, "hal").await.unwrap() > frames, "it records on");

        let stopped = Timestamp::now();
        let config = config_for_store(&proxy.endpoint);
        process = Process::with_config(&scene.namespace, &scene.namespace, "orphans-gone", config);
        wait_for_leader(&scene.namespace, "orphans-gone").await;
        wait_until_silent(&scene).await;
        let metric =
            format!(r#"toezicht_orphaned_recorders{{namespace="{}",site="{SITE}"}} 1"#, scene.namespace.name);
        wait_for_metric(&process, &metric, true).await;
        eventually("the warning is published", HANG, || async {
            let found = events(&scene, "SiteGone").await?;
            if found.is_empty() { Err("no SiteGone".to_owned()) } else { Ok(()) }
        })
        .await;
        assert_eq!(uids(&scene).await, before, "nothing is deleted");
        wait_for_spooled_segments(&scene, &format!("{RECORDER}-0"), 2).await;

        scene.create::<RecordingPolicy>(policy()).await;
        let mut site = scene.site();
        through(&proxy)(&mut Value::Null, &mut site);
        scene.create::<Site>(site).await;
        proxy.set_down(false);
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        let restart = Timestamp::now();
        wait_until_complete(&scene.bucket, "hal", &[[stopped, restart]], restart).await;
        assert_eq!(uids(&scene).await, before, "the new Site takes them over");
        wait_for_metric(&process, &metric, false).await;
        sites.delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statefulset_of_a_deleted_site_that_another_party_controls_is_waited_for() {
    with_chart_scaled_down("orphans-foreign", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, FOREIGN_PORT).await;
        let (_process, scene) = spooling_scene(namespace, "orphans-foreign", &proxy).await;
        let before = uids(&scene).await;
        let theirs: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "theirs"}})).unwrap();
        let theirs = scene.namespace.api::<ConfigMap>().create(&PostParams::default(), &theirs).await.unwrap();
        let owner = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": theirs.uid(), "controller": true,
        });
        let set_owners = async |owners: Value| {
            let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
            let workloads = scene.namespace.api::<StatefulSet>();
            workloads.patch(RECORDER, &PatchParams::default(), &patch).await.unwrap();
        };
        set_owners(json!([owner])).await;
        scene.wait_for_site_reason("Ready", "ForeignObject", HANG).await;
        let sites = scene.namespace.api::<Site>();
        sites.delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(
            &scene,
            &["being deleted", "remove its controller from metadata.ownerReferences"],
        )
        .await;
        let silent = Timestamp::now();
        wait_until_silent(&scene).await;
        sleep(Duration::from_secs(15)).await;
        assert_eq!(uids(&scene).await, before, "it belongs to another party");
        assert_eq!(events(&scene, "RecordingsLost").await.map(|found| found.len()), Ok(0));

        set_owners(Value::Null).await;
        proxy.set_down(false);
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
        assert_eq!(events(&scene, "RecordingsLost").await.map(|found| found.len()), Ok(0));
        let ends = [[silent, Timestamp::now()]];
        // It stops at the deletion, a moment before the message.
        let until = silent - Duration::from_secs(15);
        wait_until_complete(&scene.bucket, "hal", &ends, until).await;
    })
    .await;
}
