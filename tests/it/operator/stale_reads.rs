//! The operator reads less, or older objects, than the API server has: the three patterns of "Automatic Reliability Testing for
//! Cluster Management Controllers" (Sieve, OSDI 2022). Nothing that cannot be undone follows from an old read.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold};

use super::process::{Process, config_for_store, release_lease, wait_for_leader, with_chart_scaled_down};
use super::watches::{configured_cameras, current_version, set_stream, start, wait_for_cameras};
use crate::storage::scene::Scene as BucketScene;
use crate::support::api_proxy::GoneForm;
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

const WORKLOAD: &str = "die-heijgrave-recorder";
/// More events than a test causes: a watch with this lag delivers nothing.
const EVERYTHING: usize = 1_000_000;
/// Kinds whose watches the tests delay, as in the API server's paths.
const KINDS: [&str; 6] = ["sites", "cameras", "incidentholds", "statefulsets", "secrets", "pods"];

/// Suspends the recording of a camera for the next day.
async fn suspend(scene: &Scene, camera: &str) {
    let (from, until) = (Timestamp::now(), Timestamp::now() + SignedDuration::from_hours(24));
    let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap();
    let suspension = json!({
        "cameras": [camera], "from": second(from), "until": second(until), "reason": "Gemeenteraadsverkiezing",
    });
    scene.patch_site(json!({"spec": {"suspensions": [suspension]}})).await;
}

/// Returns the number of suspensions of a camera in the recorders' configuration.
async fn suspensions(scene: &Scene, camera: &str) -> usize {
    let config: Value = serde_json::from_str(&scene.recorder_config().await).unwrap();
    let cameras = config["cameras"].as_array().unwrap();
    let found = cameras.iter().find(|other| other["name"] == camera).unwrap();
    found["suspended"].as_array().map_or(0, Vec::len)
}

/// Intermediate states: what happens while the operator does not watch is seen as one change.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_no_watch_reported_take_effect() {
    with_chart_scaled_down("stale-gap", async |namespace| {
        let (proxy, _operator) = start(&namespace, "gap").await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, _| {}).await;
        for (name, path) in [("deur", "h264/5"), ("hal", "h264/6")] {
            scene.camera(name, path).await;
        }
        scene.wait_for_camera("deur", "Recording", "True", HANG).await;
        let workloads = scene.namespace.api::<StatefulSet>();
        let before = workloads.get(WORKLOAD).await.unwrap();

        let cameras = scene.namespace.api::<Camera>();
        for kind in KINDS {
            proxy.begin_gap(kind);
        }
        // A pair that leaves nothing, an object that is replaced, and a child that somebody deletes.
        scene.camera("kort", "h264/7").await;
        cameras.delete("kort", &DeleteParams::default()).await.unwrap();
        cameras.delete("hal", &DeleteParams::default()).await.unwrap();
        scene.camera("hal", "h264/7").await;
        workloads.delete(WORKLOAD, &DeleteParams::default()).await.unwrap();
        suspend(&scene, "deur").await;
        let version = current_version(&scene.namespace).await;
        for kind in KINDS {
            proxy.end_gap(kind, version, GoneForm::Event);
        }
        wait_for_cameras(&scene, &["deur", "hal"]).await;
        eventually("the replaced camera and the suspension are configured", HANG, || async {
            let found = configured_cameras(&scene).await;
            let is_replaced = found.iter().any(|(name, url)| name == "hal" && url.ends_with("h264/7"));
            let is_suspended = suspensions(&scene, "deur").await == 1;
            (is_replaced && is_suspended).then_some(()).ok_or_else(|| format!("{found:?}, {is_suspended}"))
        })
        .await;
        eventually("the StatefulSet is there again", HANG, || async {
            let found = workloads.get_opt(WORKLOAD).await.map_err(|e| e.to_string())?;
            found.filter(|found| found.uid() != before.uid()).map(|_| ()).ok_or_else(String::new)
        })
        .await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
    })
    .await;
}

/// Observability gaps: the watches are behind. The operator acts on what it knows, undoes nothing newer, and catches up.
#[tokio::test(flavor = "multi_thread")]
async fn late_watches_undo_nothing() {
    with_chart_scaled_down("stale-late", async |namespace| {
        let server = S3Server::primary();
        let (proxy, operator) = start(&namespace, "late").await;
        let scene = Scene::within(namespace, server.clone(), |_, _| {}).await;
        scene.camera("deur", "h264/5").await;
        scene.wait_for_camera("deur", "Recording", "True", HANG).await;
        scene.wait_until_settled(HANG).await;
        let bucket = BucketScene::of_bucket(server, &scene.bucket.name);
        let from = Timestamp::now() - SignedDuration::from_mins(30);
        let key = bucket.record("deur", from + SignedDuration::from_mins(1)).await;
        let old_lists = old_lists(&scene).await;

        scene.camera("hal", "h264/6").await;
        scene.declare("open", &["deur"], from, None).await;
        scene.wait_for_hold("open", "Placed", "True", HANG).await;
        suspend(&scene, "deur").await;
        eventually("the suspension is configured", HANG, || async {
            let found = suspensions(&scene, "deur").await;
            (found == 1).then_some(()).ok_or_else(|| format!("{found}"))
        })
        .await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        let before = undoable(&scene, &bucket, &key).await;

        // Two states behind, then nothing at all, while people go on.
        for lag in [2, EVERYTHING] {
            for kind in KINDS {
                proxy.set_lag(kind, lag);
            }
            scene.patch_site(json!({"spec": {"displayName": format!("Zwembad {lag}")}})).await;
            set_stream(&scene, "hal", "h264/7").await;
            scene.camera(&format!("achter-{lag}"), "h264/8").await;
        }
        // One read of the API server shows that the operator still works.
        let reads = proxy.requests().len();
        eventually("the operator goes on", HANG, || async {
            let requests = proxy.requests().split_off(reads);
            let is_own = |request: &&String| !request.contains("/leases/");
            requests.iter().find(is_own).map(|_| ()).ok_or_else(|| format!("{requests:?}"))
        })
        .await;
        assert_eq!(undoable(&scene, &bucket, &key).await, before, "{}", operator.log());
        assert_eq!(suspensions(&scene, "deur").await, 1);
        for kind in KINDS {
            proxy.set_lag(kind, 0);
        }
        let all = ["achter-1000000", "achter-2", "deur", "hal"];
        wait_for_cameras(&scene, &all).await;
        assert_eq!(suspensions(&scene, "deur").await, 1);

        // Time travel: the next operator lists what was there before all of this, and its watches deliver nothing.
        operator.kill().await;
        release_lease(&scene.namespace).await;
        let before = undoable(&scene, &bucket, &key).await;
        let marker = proxy.requests().len();
        for (kind, list) in &old_lists {
            proxy.replay_list(kind, Some(list.clone()));
            proxy.set_lag(kind, EVERYTHING);
        }
        let config = config_for_store(&S3Server::primary().endpoint);
        let next =
            Process::with_cluster(&proxy.kubeconfig, &scene.namespace, &scene.namespace, "past", config);
        wait_for_leader(&scene.namespace, "past").await;
        next.wait_until_ready().await;
        eventually("the operator has reconciled the old Site", HANG, || async {
            let metrics = next.metrics().await?;
            let is_reconciled = |kind: &str| {
                let prefix = format!("toezicht_reconciles_total{{controller=\"{kind}\"");
                metrics.lines().any(|line| line.starts_with(&prefix) && !line.ends_with(" 0"))
            };
            let all = ["Site", "Retention", "Camera"].into_iter().all(is_reconciled);
            all.then_some(()).ok_or_else(|| metrics.clone())
        })
        .await;
        assert!(proxy.replay_count() >= old_lists.len(), "{}", next.log());
        assert_eq!(undoable(&scene, &bucket, &key).await, before, "{}", next.log());
        for (kind, _) in &old_lists {
            proxy.replay_list(kind, None);
            proxy.set_lag(kind, 0);
        }
        wait_for_cameras(&scene, &all).await;
        eventually("the suspension is configured again", HANG, || async {
            let found = suspensions(&scene, "deur").await;
            (found == 1).then_some(()).ok_or_else(|| format!("{found}"))
        })
        .await;
        assert_eq!(undoable(&scene, &bucket, &key).await, before, "{}", next.log());
        // On a real API server none of this can happen: each list is a consistent read.
        let requests = proxy.requests().split_off(marker);
        let from_cache = requests.iter().filter(|request| {
            request.starts_with("GET ") && request.contains("resourceVersion=") && !request.contains("watch=")
        });
        assert_eq!(from_cache.count(), 0, "{requests:#?}");
    })
    .await;
}

/// Returns a list of each kind as it is now.
async fn old_lists(scene: &Scene) -> Vec<(&'static str, Value)> {
    let mut lists = Vec::new();
    for kind in KINDS {
        // Those of the watchers have selectors. These kinds have only the recorders' objects here.
        if kind == "secrets" {
            continue;
        }
        let group = match kind {
            "statefulsets" => "/apis/apps/v1",
            "pods" => "/api/v1",
            _ => "/apis/toezicht.dev/v1alpha1",
        };
        let path = format!("{group}/namespaces/{}/{kind}", scene.namespace.name);
        let list = run("kubectl", &["get", "--raw", &path], None).await;
        lists.push((kind, serde_json::from_str(&list).unwrap()));
    }
    lists
}

/// Returns what an old read could destroy: the recorders, the hold and its protection in the bucket.
async fn undoable(scene: &Scene, bucket: &BucketScene, key: &str) -> Vec<String> {
    let workload = scene.namespace.api::<StatefulSet>().get(WORKLOAD).await.unwrap();
    let hold = scene.namespace.api::<IncidentHold>().get("open").await.unwrap();
    let entry = format!("ledger/holds/{}.json", hold.uid().unwrap());
    vec![
        format!(
            "StatefulSet {:?}: {:?} replicas",
            workload.uid(),
            workload.spec.and_then(|spec| spec.replicas)
        ),
        format!("IncidentHold {:?}: {:?}", hold.uid(), hold.finalizers()),
        format!("{key}: {:?}", bucket.protection(key).await),
        format!("{entry}: {} versions", bucket.versions(&entry).await.len().min(1)),
    ]
}
