//! What somebody else changes in a bucket, and of what is held in it, is put back and told: by the condition `Intact`, by
//! events and by a metric, each with what it was; also while the recorders' Secret is missing and nothing may be recorded.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use toezicht::api::Site;

use super::process::{Process, config_for_store, leads, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::cluster::TestNamespace;
use crate::support::scene::{SITE, Scene, has};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const CAMERA: &str = "receptie";

async fn operator(namespace: &TestNamespace, server: &S3Server, instance: &str) -> Process {
    let process = Process::with_config(namespace, namespace, instance, config_for_store(&server.endpoint));
    leads(namespace, instance).await;
    process
}

/// Has all marks read by a look that begins after this was called, not in some minutes: the status says that it is time, as it
/// will say then. A look that began before writes over that what it has read, so it may have to be said again.
pub(super) async fn verify(scene: &Scene) {
    let api = scene.namespace.api::<Site>();
    let (asked, times) = (Timestamp::now(), AtomicUsize::new(0));
    eventually("all marks are read", HANG, || async {
        let site = api.get(SITE).await.map_err(|e| e.to_string())?;
        let retention = site.status.and_then(|status| status.retention).unwrap_or_default();
        // When the look began, in whole seconds.
        if retention.last_verification_time.as_ref().is_some_and(|at| at.0 > asked) {
            println!("all marks are read, asked {} times", times.load(Ordering::Relaxed));
            return Ok(());
        }
        if retention.verification_interval_seconds != Some(0) {
            let due = json!({"status": {"retention": {"verificationIntervalSeconds": 0}}});
            times.fetch_add(1, Ordering::Relaxed);
            api.patch_status(SITE, &PatchParams::default(), &Patch::Merge(&due))
                .await
                .map_err(|e| e.to_string())?;
        }
        Err(format!("{:?}, asked at {asked}", retention.last_verification_time))
    })
    .await;
}

/// Waits until `Intact` is `False` and its message has all of these.
async fn is_told(scene: &Scene, parts: &[&str]) {
    eventually(&format!("Intact=False tells of {parts:?}"), HANG, || async {
        let site = scene.namespace.api::<Site>().get(SITE).await;
        let conditions = site.map_err(|e| e.to_string())?.status.unwrap_or_default().conditions;
        has(&conditions, "Intact", "False")?;
        let intact = conditions.iter().find(|condition| condition.type_ == "Intact").unwrap();
        let has_all = parts.iter().all(|part| intact.message.contains(part));
        has_all.then_some(()).ok_or_else(|| intact.message.clone())
    })
    .await;
}

/// Waits until a Warning with this reason has this in its note. Of several within minutes Kubernetes keeps the first's.
async fn wait_for_warning(scene: &Scene, reason: &str, part: &str) {
    eventually(&format!("an event {reason}"), HANG, || async {
        let events = scene.namespace.api::<Event>().list(&ListParams::default()).await;
        let events = events.map_err(|e| e.to_string())?.items;
        let notes = events.iter().filter(|event| {
            event.reason.as_deref() == Some(reason) && event.type_.as_deref() == Some("Warning")
        });
        let notes: Vec<&str> = notes.filter_map(|event| event.note.as_deref()).collect();
        let is_there = notes.iter().any(|note| note.contains(part));
        is_there.then_some(()).ok_or_else(|| format!("{notes:?}"))
    })
    .await;
}

/// Waits until so much drift of a kind is counted for the site.
async fn wait_for_drift_count(process: &Process, scene: &Scene, kind: &str, count: u64) {
    let namespace = &scene.namespace.name;
    let line = format!(
        "toezicht_drift_corrections_total{{namespace=\"{namespace}\",site=\"{SITE}\",subresource=\"{kind}\"}} {count}"
    );
    eventually(&line, HANG, || async {
        let (_, metrics) = process.get("/metrics").await?;
        let drift: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("toezicht_drift_corrections")).collect();
        drift.contains(&line.as_str()).then_some(()).ok_or_else(|| drift.join("\n"))
    })
    .await;
}

async fn check_external_changes(prefix: &str, server: S3Server) {
    with_chart_scaled_down(prefix, async move |namespace| {
        let mut first = operator(&namespace, &server, "drifted-first").await;
        let scene = Scene::within(namespace, server.clone(), |_, _| ()).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        scene.is_settled(HANG).await;
        scene.wait_for_site("Intact", "True", HANG).await;
        let bucket = BucketScene::of_bucket(server.clone(), &scene.bucket.name);
        let start = Timestamp::now() - SignedDuration::from_mins(30);
        let mut keys = Vec::new();
        for minute in 0..4 {
            keys.push(bucket.record(CAMERA, start + SignedDuration::from_mins(2 * minute)).await);
        }
        let until = start + SignedDuration::from_mins(20);
        scene.declare("incident", &[CAMERA], start, Some(until)).await;
        scene.wait_for_hold("incident", "Placed", "True", HANG).await;
        wait_for_drift_count(&first, &scene, "legal_hold", 0).await;
        verify(&scene).await;

        let secrets = scene.namespace.api::<Secret>();
        secrets.delete("s3-recorder", &DeleteParams::default()).await.unwrap();
        scene.wait_for_site("Accepted", "False", HANG).await;

        // All at once, as far as the operator can see: what is put back in between could not be removed.
        scene.pause(true).await;
        first.reconcile_all_twice(&scene.namespace).await;
        bucket.set_hold(&keys[0], false).await;
        bucket.tag(&keys[1], "video").await;
        bucket.hide(&keys[2]).await;
        bucket.set_hold(&keys[3], false).await;
        bucket.remove(&keys[3]).await;
        scene.pause(false).await;
        verify(&scene).await;
        for key in &keys[..3] {
            assert_eq!(bucket.marks(key).await, Some((true, "sealed".into())), "{key}");
            assert_eq!(bucket.versions(key).await.len(), 1, "{key} and no marker");
        }
        // Where the time of a version moves with its legal hold, a sealed one without looks like one that just came.
        let cleared = u64::from(server.name != "seaweedfs");
        let lost = "1 held versions are gone, from incident";
        is_told(&scene, &[lost, "tag", "delete marker"]).await;
        wait_for_warning(&scene, "HoldDriftCorrected", "held versions, restored; for example video/").await;
        wait_for_warning(&scene, "HeldVersionsLost", lost).await;
        for (kind, count) in [("legal_hold", cleared), ("tag", 1), ("delete_marker", 1), ("held_version", 1)]
        {
            wait_for_drift_count(&first, &scene, kind, count).await;
        }

        first.lets_go(&scene.namespace).await;
        let before = bucket.policy().await;
        let client = bucket.operator_client();
        client.delete_bucket_lifecycle().bucket(bucket.bucket()).send().await.unwrap();
        let open = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": format!("arn:aws:s3:::{}/*", bucket.bucket()),
        }]});
        let put = client.put_bucket_policy().bucket(bucket.bucket());
        put.policy(open.to_string()).send().await.unwrap();
        let second = operator(&scene.namespace, &server, "drifted-second").await;
        is_told(&scene, &["lifecycle", "policy"]).await;
        wait_for_warning(&scene, "StorageDrifted", "policy").await;
        assert_eq!(bucket.policy().await, before);
        for kind in ["lifecycle", "policy"] {
            wait_for_drift_count(&second, &scene, kind, 1).await;
        }
        scene.wait_for_site("StorageEnforced", "False", HANG).await;
        // What is held goes on being looked after, and is released though nothing may be recorded.
        scene.resolve("incident").await;
        scene.wait_for_hold("incident", "Released", "True", HANG).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_changes_are_reverted_and_reported() {
    check_external_changes("drifted-first", S3Server::first()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_external_changes_are_reverted_and_reported() {
    check_external_changes("drifted-second", S3Server::second()).await;
}
