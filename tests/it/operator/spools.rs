//! A recorder that does not answer may have anything in its spool: its pod stays until the spool is proved empty, or until a
//! person gives it up.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use toezicht::api::{Camera, IncidentHold, Site};
use tokio::time::sleep;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::cluster::TestNamespace;
use crate::support::pod;
use crate::support::proxy::Proxy;
use crate::support::recorded::{
    UNWRITTEN, check_frames, ensure_complete, keys_under, segments, time, wait_until_complete,
};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::silence::Silence;
use crate::support::wait::{HANG, eventually};

const RECORDER: &str = "die-heijgrave-recorder";
const SCALE_DOWN_PORT: u16 = 28351;
const DELETION_PORT: u16 = 28352;
const ROLLOUT_PORT: u16 = 28353;
const KIND_PORT: u16 = 28354;
const BESIDE_PORT: u16 = 28355;
const DECLARED_PORT: u16 = 28356;
const FOREGROUND_PORT: u16 = 28357;
const SIZE_PORT: u16 = 28374;
const GONE_PORT: u16 = 28359;
const ORPHAN_PORT: u16 = 28360;
const LABEL_PORT: u16 = 28375;

/// Starts an operator and a site with one camera for each recorder pod, and waits until all cameras record.
async fn recording_scene(
    namespace: TestNamespace,
    instance: &str,
    proxy: &Proxy,
    cameras: &[&str],
) -> (Process, Scene) {
    let config = config_for_store(&proxy.endpoint);
    let process = Process::with_config(&namespace, &namespace, instance, config);
    wait_for_leader(&namespace, instance).await;
    let scene = Scene::within(namespace, S3Server::primary(), |_, site| {
        site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        site["spec"]["recorder"]["maxCamerasPerPod"] = 1.into();
    })
    .await;
    for camera in cameras {
        scene.camera(camera, "h264/9").await;
        scene.wait_for_camera(camera, "Recording", "True", HANG).await;
    }
    (process, scene)
}

pub async fn wait_for_spooled_segments(scene: &Scene, pod: &str, count: u64) {
    eventually("the spool holds segments", HANG, || async {
        let spooled = pod::metric_of(&scene.namespace, pod, "toezicht_recorder_spool_segments").await?;
        if spooled >= count { Ok(()) } else { Err(format!("{spooled}")) }
    })
    .await;
}

pub async fn wait_for_ready_message(scene: &Scene, parts: &[&str]) {
    eventually("the Site reports what it waits for", HANG, || async {
        let site = scene.namespace.api::<Site>().get(SITE).await.map_err(|e| e.to_string())?;
        let conditions = site.status.unwrap_or_default().conditions;
        let ready = conditions.iter().find(|c| c.type_ == "Ready").ok_or("no Ready")?;
        let has_all = parts.iter().all(|part| ready.message.contains(part));
        has_all.then_some(()).ok_or_else(|| format!("{ready:?}"))
    })
    .await;
}

pub async fn wait_until_gone(scene: &Scene, pod: &str) {
    eventually("the pod is gone", HANG, || async {
        let found = scene.namespace.api::<Pod>().get_opt(pod).await.map_err(|e| e.to_string())?;
        found.map_or(Ok(()), |pod| Err(format!("{:?}", pod.status)))
    })
    .await;
}

pub async fn wait_until_site_is_deleted(scene: &Scene) {
    eventually("the Site is deleted", HANG, || async {
        let left = scene.namespace.api::<Site>().get_opt(SITE).await.map_err(|e| e.to_string())?;
        left.map_or(Ok(()), |site| Err(format!("{:?}", site.status)))
    })
    .await;
}

/// Returns the names of a Site's children of one kind.
async fn children<K>(scene: &Scene) -> Vec<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let params = ListParams::default().labels(&format!("toezicht.dev/site={SITE}"));
    let found = scene.namespace.api::<K>().list(&params).await.unwrap();
    found.items.iter().map(ResourceExt::name_any).collect()
}

/// Asserts that a deleted Site left nothing behind. No garbage collector deletes its children.
pub async fn assert_no_children(scene: &Scene) {
    let mut left = children::<StatefulSet>(scene).await;
    left.extend(children::<Secret>(scene).await);
    left.extend(children::<Service>(scene).await);
    left.extend(children::<ServiceAccount>(scene).await);
    assert_eq!(left, [""; 0]);
}

/// Returns the note of the event that reports lost recordings.
async fn wait_for_loss(scene: &Scene) -> String {
    eventually("the loss is reported", HANG, || async {
        let events = scene.namespace.api::<Event>().list(&ListParams::default()).await;
        let events = events.map_err(|e| e.to_string())?.items;
        let lost = events.into_iter().find(|event| event.reason.as_deref() == Some("RecordingsLost"));
        lost.and_then(|event| event.note).ok_or_else(|| "no RecordingsLost".to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_recorder_is_not_scaled_down() {
    with_chart_scaled_down("spool-scale", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, SCALE_DOWN_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-scale", &proxy, &["deur", "hal"]).await;
        let (pods, second) = (scene.namespace.api::<Pod>(), format!("{RECORDER}-1"));
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &second, 1).await;
        let uid = pods.get(&second).await.unwrap().uid();
        let silence = Silence::new(&pod::address(&scene.namespace, &second).await.unwrap()).await;
        let deleted = Timestamp::now();
        scene.namespace.api::<Camera>().delete("hal", &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene, &[&format!("the content of {second} is unknown"), "discard-spools"])
            .await;
        // Longer than any timeout that there was.
        sleep(Duration::from_secs(75)).await;
        let pod = pods.get(&second).await.unwrap();
        assert_eq!((pod.uid(), pod.metadata.deletion_timestamp), (uid, None), "its spool has the only copy");
        drop(silence);
        wait_for_ready_message(&scene, &[&format!("segments in the spools of {second}")]).await;
        proxy.set_down(false);
        wait_until_gone(&scene, &second).await;
        let recorded = segments(&scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], deleted - UNWRITTEN).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_recorder_that_is_removed_holds_up_no_other() {
    with_chart_scaled_down("spool-beside", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, BESIDE_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-beside", &proxy, &["deur", "hal"]).await;
        let pods = scene.namespace.api::<Pod>();
        let [first, second] = [0, 1].map(|shard| format!("{RECORDER}-{shard}"));
        let uid = |name: String| {
            let pods = pods.clone();
            async move { pods.get_opt(&name).await.unwrap().and_then(|pod| pod.uid()) }
        };
        let before = [uid(first.clone()).await, uid(second.clone()).await];
        let silence = Silence::new(&pod::address(&scene.namespace, &second).await.unwrap()).await;
        let deleted = Timestamp::now();
        scene.namespace.api::<Camera>().delete("hal", &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene, &[&format!("the content of {second} is unknown")]).await;
        let changed = Timestamp::now();
        let resources = json!({"spec": {"recorder": {"resources": {"requests": {"cpu": "20m"}}}}});
        scene.patch_site(resources).await;
        eventually("the recorder that stays is replaced", HANG, || async {
            let now = uid(first.clone()).await;
            if now.is_some() && now != before[0] { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        let replaced = Timestamp::now();
        scene.wait_for_camera("deur", "Recording", "True", HANG).await;
        let pod = pods.get(&second).await.unwrap();
        assert_eq!(
            (pod.uid(), pod.metadata.deletion_timestamp),
            (before[1].clone(), None),
            "its spool is unknown"
        );
        drop(silence);
        wait_until_gone(&scene, &second).await;
        scene.wait_for_site("Ready", "True", HANG).await;
        let live = scene.namespace.api::<StatefulSet>().get(RECORDER).await.unwrap();
        let strategy = live.spec.and_then(|spec| spec.update_strategy).and_then(|strategy| strategy.type_);
        assert_eq!(strategy.as_deref(), Some("RollingUpdate"));
        let gaps = wait_until_complete(&scene.bucket, "deur", &[[changed, replaced]], replaced).await;
        assert!(gaps.len() <= 1, "only the restart: {gaps:?}");
        let recorded = segments(&scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], deleted - UNWRITTEN).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn template_change_waits_for_the_store() {
    with_chart_scaled_down("spool-rollout", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, ROLLOUT_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-rollout", &proxy, &["hal"]).await;
        let (pods, first) = (scene.namespace.api::<Pod>(), format!("{RECORDER}-0"));
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 2).await;
        let uid = pods.get(&first).await.unwrap().uid();
        let resources = json!({"spec": {"recorder": {"resources": {"requests": {"cpu": "20m"}}}}});
        scene.patch_site(resources).await;
        wait_for_ready_message(&scene, &["new template, which waits", &format!("in the spools of {first}")])
            .await;
        sleep(Duration::from_secs(30)).await;
        let pod = pods.get(&first).await.unwrap();
        assert_eq!(
            (pod.uid(), pod.metadata.deletion_timestamp),
            (uid.clone(), None),
            "its spool has the only copy"
        );
        let end = Timestamp::now();
        proxy.set_down(false);
        eventually("the pod is replaced", HANG, || async {
            let pod = pods.get_opt(&first).await.map_err(|e| e.to_string())?;
            let is_new = pod.as_ref().is_some_and(|pod| pod.uid() != uid);
            is_new.then_some(()).ok_or_else(|| format!("{:?}", pod.and_then(|pod| pod.status)))
        })
        .await;
        let replaced = Timestamp::now();
        scene.wait_for_site("Ready", "True", HANG).await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        let gaps = wait_until_complete(&scene.bucket, "hal", &[[end, replaced]], replaced).await;
        assert!(gaps.len() <= 1, "only the restart: {gaps:?}");
    })
    .await;
}

/// With the capacity of a volume that it does not have yet, a recorder would fill its own, and Kubernetes would evict it.
#[tokio::test(flavor = "multi_thread")]
async fn new_size_of_a_spool_waits_for_its_volume() {
    with_chart_scaled_down("spool-size", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, SIZE_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-size", &proxy, &["hal"]).await;
        let (pods, first) = (scene.namespace.api::<Pod>(), format!("{RECORDER}-0"));
        let limit = || async {
            pod::metric_of(&scene.namespace, &first, "toezicht_recorder_spool_limit_bytes").await
        };
        let before = limit().await.unwrap();
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 2).await;
        let uid = pods.get(&first).await.unwrap().uid();
        for size in ["64Mi", "1Gi"] {
            scene.patch_site(json!({"spec": {"recorder": {"spool": {"size": size}}}})).await;
            wait_for_ready_message(
                &scene,
                &["new template, which waits", &format!("in the spools of {first}")],
            )
            .await;
            // The kubelet renews a mounted Secret within a minute.
            sleep(Duration::from_secs(75)).await;
            assert_eq!(limit().await, Ok(before), "{size}");
            let pod = pods.get(&first).await.unwrap();
            assert_eq!((pod.uid(), pod.metadata.deletion_timestamp), (uid.clone(), None), "{size}");
        }
        let end = Timestamp::now();
        proxy.set_down(false);
        eventually("the new pod has the new capacity", HANG, || async {
            let limit = limit().await?;
            if limit == (1 << 30) / 100 * 90 { Ok(()) } else { Err(format!("{limit}")) }
        })
        .await;
        let replaced = Timestamp::now();
        scene.wait_for_site("Ready", "True", HANG).await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        let gaps = wait_until_complete(&scene.bucket, "hal", &[[end, replaced]], replaced).await;
        assert!(gaps.len() <= 1, "only the restart: {gaps:?}");
    })
    .await;
}

/// The new volume cannot be bound here, which does not matter: the old recorder must go without a loss.
#[tokio::test(flavor = "multi_thread")]
async fn new_kind_of_spool_replaces_recorders_without_loss() {
    with_chart_scaled_down("spool-kind", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, KIND_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-kind", &proxy, &["hal"]).await;
        let workloads = scene.namespace.api::<StatefulSet>();
        let class = json!({"spec": {"recorder": {"spool": {"storageClassName": "no-such-class"}}}});
        let changed = Timestamp::now();
        scene.patch_site(class).await;
        eventually("the StatefulSet is created again", HANG, || async {
            let frames = pod::frames(&scene.namespace, "hal").await;
            let live = workloads.get(RECORDER).await.map_err(|e| e.to_string())?;
            let claims = live.spec.and_then(|spec| spec.volume_claim_templates).unwrap_or_default();
            if claims.is_empty() { Err(format!("{frames:?}")) } else { Ok(()) }
        })
        .await;
        let recorded = segments(&scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], changed - UNWRITTEN).unwrap();
        let reason = json!({"metadata": {"annotations": {"toezicht.dev/discard-spools": "the volume was never bound"}}});
        scene.patch_site(reason).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_site_under_hold_waits_for_silent_recorder_until_its_spool_is_given_up() {
    with_chart_scaled_down("spool-delete", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, DELETION_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-delete", &proxy, &["hal"]).await;
        let from = Timestamp::now() - SignedDuration::from_secs(60);
        scene.declare("inbraak", &["hal"], from, None).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let first = format!("{RECORDER}-0");
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 1).await;
        let _silence = Silence::new(&pod::address(&scene.namespace, &first).await.unwrap()).await;
        let sites = scene.namespace.api::<Site>();
        sites.delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene, &[&format!("the content of {first} is unknown")]).await;
        sleep(Duration::from_secs(75)).await;
        let workload = scene.namespace.api::<StatefulSet>().get(RECORDER).await.unwrap();
        assert_eq!(workload.metadata.deletion_timestamp, None, "the hold may cover what is in the spool");

        let reason = json!({"metadata": {"annotations": {"toezicht.dev/discard-spools": "the disk burned"}}});
        scene.patch_site(reason).await;
        wait_until_gone(&scene, &first).await;
        let events = scene.namespace.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let lost = events.iter().find(|event| event.reason.as_deref() == Some("RecordingsLost"));
        let note = lost.and_then(|event| event.note.as_deref()).unwrap_or_default();
        assert!(note.contains("the disk burned") && note.contains(&first), "{note}");
        proxy.set_down(false);
        scene.resolve("inbraak").await;
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
        let discards = keys_under(&scene.bucket, "ledger/discards/").await;
        assert_eq!(discards.len(), 1, "the ledger has the loss, once the store is back: {discards:?}");
    })
    .await;
}

/// As `kubectl label pod die-heijgrave-recorder-0 toezicht.dev/site-`. Without a label of its selector, the StatefulSet releases the
/// pod, and cannot create another.
#[tokio::test(flavor = "multi_thread")]
async fn recorder_without_labels_is_waited_for_and_gets_them_back() {
    with_chart_scaled_down("spool-labels", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, LABEL_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-labels", &proxy, &["hal"]).await;
        let from = Timestamp::now() - SignedDuration::from_secs(60);
        scene.declare("inbraak", &["hal"], from, None).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let first = format!("{RECORDER}-0");
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 2).await;
        let pods = scene.namespace.api::<Pod>();
        let uid = pods.get(&first).await.unwrap().uid();
        let labels =
            json!({"metadata": {"labels": {"toezicht.dev/site": null, "app.kubernetes.io/instance": null}}});
        pods.patch(&first, &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
        let deleted = Timestamp::now();
        scene.namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene, &[&first, "this wait has no end", "inbraak"]).await;
        eventually("the pod is adopted again", HANG, || async {
            let pod = pods.get(&first).await.map_err(|e| e.to_string())?;
            let is_whole = pod.labels().get("toezicht.dev/site").is_some_and(|site| site == SITE)
                && pod.labels().contains_key("app.kubernetes.io/instance")
                && !pod.owner_references().is_empty();
            is_whole.then_some(()).ok_or_else(|| format!("{:?}", pod.metadata))
        })
        .await;
        sleep(Duration::from_secs(75)).await;
        let workload = scene.namespace.api::<StatefulSet>().get(RECORDER).await.unwrap();
        assert_eq!(workload.metadata.deletion_timestamp, None, "the hold may cover what is in the spool");
        assert_eq!(pods.get(&first).await.unwrap().uid(), uid);

        proxy.set_down(false);
        wait_until_gone(&scene, &first).await;
        let recorded = segments(&scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], deleted - UNWRITTEN).unwrap();
        scene.resolve("inbraak").await;
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
    })
    .await;
}

/// Waits until the recorders' configuration has a hold, or has it no longer.
async fn wait_for_recorder_hold(scene: &Scene, name: &str, is_followed: bool) {
    let uid = scene.namespace.api::<IncidentHold>().get(name).await.unwrap().uid().unwrap();
    eventually("the recorders' configuration follows the hold", HANG, || async {
        let config = scene.recorder_config().await;
        let config: serde_json::Value = serde_json::from_str(&config).map_err(|e| e.to_string())?;
        let holds = &config["holds"];
        if holds.get(&uid).is_some() == is_followed { Ok(()) } else { Err(format!("{holds}")) }
    })
    .await;
}

/// Without the store, no hold gets into the ledger. It keeps what recorders have, and the spools of a Site that is deleted then.
#[tokio::test(flavor = "multi_thread")]
async fn hold_declared_while_the_store_is_away_keeps_the_spools_of_a_deleted_site() {
    with_chart_scaled_down("spool-declared", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, DECLARED_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-declared", &proxy, &["hal"]).await;
        let first = format!("{RECORDER}-0");
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 1).await;
        let from = Timestamp::now() - SignedDuration::from_secs(60);
        for hold in ["vergissing", "inbraak"] {
            scene.declare(hold, &["hal"], from, None).await;
            scene.wait_for_hold(hold, "Accepted", "True", HANG).await;
            wait_for_recorder_hold(&scene, hold, true).await;
        }
        scene.resolve("vergissing").await;
        wait_for_recorder_hold(&scene, "vergissing", false).await;
        wait_for_recorder_hold(&scene, "inbraak", true).await;

        let (sites, holds) = (scene.namespace.api::<Site>(), scene.namespace.api::<IncidentHold>());
        let inbraak = holds.get("inbraak").await.unwrap();
        assert!(inbraak.status.is_some_and(|status| status.placement.is_none()), "the store is away");
        let deleted = Timestamp::now();
        sites.delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(
            &scene,
            &[&format!("in the spools of {first}"), "this wait has no end", "inbraak"],
        )
        .await;
        let site = sites.get(SITE).await.unwrap();
        assert!(site.status.is_some_and(|status| status.drain_start_time.is_some()));
        proxy.set_down(false);
        wait_until_gone(&scene, &first).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let recorded = segments(&scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], deleted - UNWRITTEN).unwrap();
        assert!(sites.get_opt(SITE).await.unwrap().is_some(), "the Site waits for its hold");
        scene.resolve("inbraak").await;
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
    })
    .await;
}

/// As Argo CD prunes: Kubernetes deletes what the Site owns at once, although its finalizer keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn site_that_is_deleted_in_the_foreground_loses_no_spool() {
    with_chart_scaled_down("spool-foreground", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, FOREGROUND_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-foreground", &proxy, &["hal"]).await;
        let from = Timestamp::now() - SignedDuration::from_secs(60);
        scene.declare("inbraak", &["hal"], from, None).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let (first, away) = (format!("{RECORDER}-0"), Timestamp::now());
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 1).await;
        let (workloads, pods) = (scene.namespace.api::<StatefulSet>(), scene.namespace.api::<Pod>());
        let (secrets, config) = (scene.namespace.api::<Secret>(), format!("{RECORDER}-config"));
        let uids = || async {
            let workload = workloads.get(RECORDER).await.unwrap().metadata;
            let pod = pods.get(&first).await.unwrap().metadata;
            let secret = secrets.get(&config).await.unwrap().metadata;
            [workload, pod, secret].map(|metadata| (metadata.uid, metadata.deletion_timestamp))
        };
        let before = uids().await;

        let sites = scene.namespace.api::<Site>();
        sites.delete(SITE, &DeleteParams::foreground()).await.unwrap();
        eventually("the garbage collector has looked for what the Site owns", HANG, || async {
            let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
            let is_waiting = site.finalizers().iter().any(|name| name == "foregroundDeletion");
            if is_waiting { Err(format!("{:?}", site.metadata)) } else { Ok(()) }
        })
        .await;
        wait_for_ready_message(&scene, &[&format!("in the spools of {first}"), "this wait has no end"]).await;
        assert_eq!(uids().await, before, "the hold covers what is in the spool");

        proxy.set_down(false);
        wait_until_gone(&scene, &first).await;
        let recorded = segments(&scene.bucket, "hal").await;
        assert_eq!(check_frames("hal", &recorded), [], "frames are missing");
        let last = recorded.last().and_then(|segment| segment.frames.last()).map(time);
        assert!(last > Some(away), "{last:?}, {away}");
        scene.resolve("inbraak").await;
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_with_a_deleted_statefulset_of_a_deleted_site_is_reported() {
    with_chart_scaled_down("spool-gone", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, GONE_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-gone", &proxy, &["hal"]).await;
        let from = Timestamp::now() - SignedDuration::from_secs(60);
        scene.declare("inbraak", &["hal"], from, None).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let first = format!("{RECORDER}-0");
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 1).await;
        scene.namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene, &[&format!("in the spools of {first}")]).await;

        let workloads = scene.namespace.api::<StatefulSet>();
        workloads.delete(RECORDER, &DeleteParams::background()).await.unwrap();
        let note = wait_for_loss(&scene).await;
        assert!(note.contains(&first) && note.contains("StatefulSet"), "{note}");
        wait_until_gone(&scene, &first).await;
        wait_for_ready_message(&scene, &["these holds are open: inbraak"]).await;
        assert_eq!(children::<StatefulSet>(&scene).await, [""; 0], "nothing is left that it could upload");
        proxy.set_down(false);
        eventually("the ledger has the loss", HANG, || async {
            let discards = keys_under(&scene.bucket, "ledger/discards/").await;
            if discards.len() == 1 { Ok(()) } else { Err(format!("{discards:?}")) }
        })
        .await;
        scene.resolve("inbraak").await;
        wait_until_site_is_deleted(&scene).await;
        assert_no_children(&scene).await;
    })
    .await;
}

/// The recorder itself is not touched, and neither is its spool.
#[tokio::test(flavor = "multi_thread")]
async fn recorder_without_statefulset_of_a_deleted_site_uploads_and_stops() {
    with_chart_scaled_down("spool-orphan", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, ORPHAN_PORT).await;
        let (_process, scene) = recording_scene(namespace, "spool-orphan", &proxy, &["hal"]).await;
        let (first, away) = (format!("{RECORDER}-0"), Timestamp::now());
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, &first, 1).await;
        scene.namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene, &[&format!("in the spools of {first}")]).await;
        let (workloads, pods) = (scene.namespace.api::<StatefulSet>(), scene.namespace.api::<Pod>());
        let (workload, pod) =
            (workloads.get(RECORDER).await.unwrap().uid(), pods.get(&first).await.unwrap().uid());
        workloads.delete(RECORDER, &DeleteParams::orphan()).await.unwrap();
        eventually("another StatefulSet has the pod", HANG, || async {
            let owner = pods.get(&first).await.map_err(|e| e.to_string())?.metadata.owner_references;
            let owner = owner.unwrap_or_default().into_iter().next().map(|owner| owner.uid);
            if owner.is_some() && owner != workload { Ok(()) } else { Err(format!("{owner:?}")) }
        })
        .await;
        assert_eq!(pods.get(&first).await.unwrap().uid(), pod);
        proxy.set_down(false);
        wait_until_site_is_deleted(&scene).await;
        let recorded = segments(&scene.bucket, "hal").await;
        assert_eq!(check_frames("hal", &recorded), [], "frames are missing");
        let last = recorded.last().and_then(|segment| segment.frames.last()).map(time);
        assert!(last > Some(away), "{last:?}, {away}");
        assert_no_children(&scene).await;
        wait_until_gone(&scene, &first).await;
    })
    .await;
}
