//! External changes to a bucket and to held versions are reverted. The condition `Intact`, events and a metric report
//! them, even while the recorders' Secret is missing.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use toezicht::api::Site;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::cluster::TestNamespace;
use crate::support::scene::{SITE, Scene, has};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const CAMERA: &str = "receptie";

async fn start_operator(namespace: &TestNamespace, server: &S3Server, instance: &str) -> Process {
    let process = Process::with_config(namespace, namespace, instance, config_for_store(&server.endpoint));
    wait_for_leader(namespace, instance).await;
    process
}

/// Triggers a full verification of held versions by setting the interval in the status to 0. Waits for one that began
/// after this call. A pass that is already running overwrites the interval, so this may set it several times.
pub(super) async fn force_verification(scene: &Scene) {
    let api = scene.namespace.api::<Site>();
    let (requested_at, attempts) = (Timestamp::now(), AtomicUsize::new(0));
    eventually("the protection of all held versions is verified", HANG, || async {
        let site = api.get(SITE).await.map_err(|e| e.to_string())?;
        let retention = site.status.and_then(|status| status.retention).unwrap_or_default();
        // The start of the pass, in whole seconds.
        if retention.last_verification_time.as_ref().is_some_and(|at| at.0 > requested_at) {
            println!("verified after {} attempts", attempts.load(Ordering::Relaxed));
            return Ok(());
        }
        if retention.verification_interval_seconds != Some(0) {
            let due = json!({"status": {"retention": {"verificationIntervalSeconds": 0}}});
            attempts.fetch_add(1, Ordering::Relaxed);
            api.patch_status(SITE, &PatchParams::default(), &Patch::Merge(&due))
                .await
                .map_err(|e| e.to_string())?;
        }
        Err(format!("{:?}, requested at {requested_at}", retention.last_verification_time))
    })
    .await;
}

/// Waits until `Intact` is `False` and its message contains all of `parts`.
async fn wait_for_drift_message(scene: &Scene, parts: &[&str]) {
    eventually(&format!("Intact=False reports {parts:?}"), HANG, || async {
        let site = scene.namespace.api::<Site>().get(SITE).await;
        let conditions = site.map_err(|e| e.to_string())?.status.unwrap_or_default().conditions;
        has(&conditions, "Intact", "False")?;
        let intact = conditions.iter().find(|condition| condition.type_ == "Intact").unwrap();
        let has_all = parts.iter().all(|part| intact.message.contains(part));
        has_all.then_some(()).ok_or_else(|| intact.message.clone())
    })
    .await;
}

/// Waits for a Warning event with this reason and `part` in its note. Kubernetes keeps the note of the first of
/// similar events.
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

/// Waits until the metric counts `count` corrections of this kind for the site.
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
        let mut first = start_operator(&namespace, &server, "drifted-first").await;
        let scene = Scene::within(namespace, server.clone(), |_, _| ()).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        scene.wait_until_settled(HANG).await;
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
        force_verification(&scene).await;

        let secrets = scene.namespace.api::<Secret>();
        secrets.delete("s3-recorder", &DeleteParams::default()).await.unwrap();
        scene.wait_for_site("Accepted", "False", HANG).await;

        // Pausing makes the operator see all changes at once: a legal hold restored in between would prevent the
        // removal.
        scene.pause(true).await;
        first.reconcile_all_twice(&scene.namespace).await;
        bucket.set_hold(&keys[0], false).await;
        bucket.tag(&keys[1], "video").await;
        bucket.add_delete_marker(&keys[2]).await;
        bucket.set_hold(&keys[3], false).await;
        bucket.remove(&keys[3]).await;
        scene.pause(false).await;
        force_verification(&scene).await;
        for key in &keys[..3] {
            assert_eq!(bucket.protection(key).await, Some((true, "sealed".into())), "{key}");
            assert_eq!(bucket.versions(key).await.len(), 1, "{key}: one version and no delete marker");
        }
        // If the store changes a version's time with its legal hold, a sealed version without one looks like a new
        // upload.
        let cleared = u64::from(server.name != "seaweedfs");
        let loss = "1 held versions are gone, from incident";
        wait_for_drift_message(&scene, &[loss, "tag", "delete marker"]).await;
        wait_for_warning(&scene, "HoldDriftCorrected", "held versions, restored; for example video/").await;
        wait_for_warning(&scene, "HeldVersionsLost", loss).await;
        for (kind, count) in [("legal_hold", cleared), ("tag", 1), ("delete_marker", 1), ("held_version", 1)]
        {
            wait_for_drift_count(&first, &scene, kind, count).await;
        }

        first.release_lease_and_exit(&scene.namespace).await;
        let before = bucket.policy().await;
        let client = bucket.operator_client();
        client.delete_bucket_lifecycle().bucket(bucket.bucket()).send().await.unwrap();
        let open = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": format!("arn:aws:s3:::{}/*", bucket.bucket()),
        }]});
        let put = client.put_bucket_policy().bucket(bucket.bucket());
        put.policy(open.to_string()).send().await.unwrap();
        let second = start_operator(&scene.namespace, &server, "drifted-second").await;
        wait_for_drift_message(&scene, &["lifecycle", "policy"]).await;
        wait_for_warning(&scene, "StorageDrifted", "policy").await;
        assert_eq!(bucket.policy().await, before);
        for kind in ["lifecycle", "policy"] {
            wait_for_drift_count(&second, &scene, kind, 1).await;
        }
        scene.wait_for_site("StorageEnforced", "False", HANG).await;
        // Holds stay reconciled and can be released even if nothing may be recorded.
        scene.resolve("incident").await;
        scene.wait_for_hold("incident", "Released", "True", HANG).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_changes_are_reverted_and_reported() {
    check_external_changes("drifted-first", S3Server::primary()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_external_changes_are_reverted_and_reported() {
    check_external_changes("drifted-second", S3Server::secondary()).await;
}
