//! A namespace deleted with an open hold stays until the incident is resolved and its recordings are released. If the
//! operator's Secret is missing, Site and hold report it, and the documented workaround works.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use toezicht::api::{IncidentHold, RecordingPolicy, Site};

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::cluster::TestNamespace;
use crate::support::scene::{POLICY, SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::eventually;

const CONDITION_TIMEOUT: Duration = Duration::from_secs(60);
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
const CAMERA: &str = "fietsenstalling";
const FINALIZER: &str = "toezicht.dev/holds-of-die-heijgrave";

/// Creates a Site with a segment under an open hold, in another namespace than the operator's Lease.
async fn site_with_held_segment(
    lease: &TestNamespace,
    instance: &str,
) -> (Process, Scene, BucketScene, String) {
    let server = S3Server::primary();
    let other = TestNamespace::new(&lease.client, instance).await;
    let operator = Process::with_config(lease, &other, instance, config_for_store(&server.endpoint));
    wait_for_leader(lease, instance).await;
    let scene = Scene::within(other, server.clone(), |_, _| ()).await;
    scene.wait_for_site("StorageEnforced", "True", CONDITION_TIMEOUT).await;
    let bucket = BucketScene::of_bucket(server, &scene.bucket.name);
    let start = Timestamp::now() - SignedDuration::from_mins(47);
    let key = bucket.record(CAMERA, start).await;
    let until = start + SignedDuration::from_mins(3);
    scene.declare("inbraak", &[CAMERA], start, Some(until)).await;
    scene.wait_for_hold("inbraak", "Placed", "True", CONDITION_TIMEOUT).await;
    assert!(bucket.protection(&key).await.is_some_and(|(is_held, _)| is_held));
    let secrets = scene.namespace.api::<Secret>();
    eventually("the operator's Secret has the finalizer", CONDITION_TIMEOUT, || async {
        let secret = secrets.get("s3-operator").await.map_err(|e| e.to_string())?;
        let finalizers = secret.metadata.finalizers.unwrap_or_default();
        let has_finalizer = finalizers.iter().any(|name| name == FINALIZER);
        has_finalizer.then_some(()).ok_or_else(|| format!("{finalizers:?}"))
    })
    .await;
    (operator, scene, bucket, key)
}

async fn delete_namespace(scene: &Scene) {
    let all: Api<Namespace> = Api::all(scene.namespace.client.clone());
    let name = &scene.namespace.name;
    all.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the policy and the recorders' Secret are deleted", CONDITION_TIMEOUT, || async {
        let policies = scene.namespace.api::<RecordingPolicy>();
        let recorders = scene.namespace.api::<Secret>();
        let policy = policies.get_opt(POLICY).await.map_err(|e| e.to_string())?;
        let secret = recorders.get_opt("s3-recorder").await.map_err(|e| e.to_string())?;
        (policy.is_none() && secret.is_none())
            .then_some(())
            .ok_or_else(|| "the policy or the Secret still exists".to_owned())
    })
    .await;
}

async fn wait_until_namespace_is_deleted(scene: &Scene) {
    let all: Api<Namespace> = Api::all(scene.namespace.client.clone());
    eventually("the namespace is deleted", DELETION_TIMEOUT, || async {
        let left = all.get_opt(&scene.namespace.name).await;
        match left.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(left) => {
                let hold = scene.namespace.api::<IncidentHold>().get_opt("inbraak").await;
                let site = scene.namespace.api::<Site>().get_opt(SITE).await;
                Err(format!("{:?}; {hold:?}; {site:?}", left.status))
            }
        }
    })
    .await;
}

/// Waits until a condition of the Site has the status and contains `part` in its message.
async fn wait_for_site_message(scene: &Scene, type_: &str, status: &str, part: &str) {
    let sites = scene.namespace.api::<Site>();
    eventually(&format!("{type_}={status}: {part}"), CONDITION_TIMEOUT, || async {
        let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
        let conditions = site.status.unwrap_or_default().conditions;
        let is_reported = conditions.iter().any(|condition| {
            condition.type_ == type_ && condition.status == status && condition.message.contains(part)
        });
        is_reported.then_some(()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_with_open_hold_is_deleted_after_resolution() {
    with_chart_scaled_down("going", async |namespace| {
        let (_operator, scene, bucket, key) = site_with_held_segment(&namespace, "going").await;
        delete_namespace(&scene).await;
        wait_for_site_message(&scene, "Ready", "False", "these holds are open: inbraak; resolve").await;
        assert!(bucket.protection(&key).await.is_some_and(|(is_held, _)| is_held));

        scene.resolve("inbraak").await;
        wait_until_namespace_is_deleted(&scene).await;
        assert_eq!(bucket.protection(&key).await, Some((false, "video".into())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hold_without_secret_reports_stalled_until_finalizer_is_removed() {
    with_chart_scaled_down("stuck", async |namespace| {
        let (operator, scene, bucket, key) = site_with_held_segment(&namespace, "stuck").await;
        // As if the operator had been down.
        operator.kill().await;
        delete_namespace(&scene).await;
        let secrets = scene.namespace.api::<Secret>();
        let without_finalizers = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        secrets.patch("s3-operator", &PatchParams::default(), &without_finalizers).await.unwrap();
        let config = config_for_store(&S3Server::primary().endpoint);
        let _second = Process::with_config(&namespace, &scene.namespace, "stuck-second", config);
        wait_for_leader(&namespace, "stuck-second").await;

        scene.resolve("inbraak").await;
        wait_for_site_message(&scene, "Stalled", "True", "spec.storage.operator.credentialsRef").await;
        wait_for_site_message(
            &scene,
            "Stalled",
            "True",
            "docs/how-to/delete-a-site.md#a-namespace-that-stays-terminating",
        )
        .await;
        wait_for_site_message(&scene, "StorageEnforced", "Unknown", "s3-operator").await;
        let message = scene
            .wait_for_hold_reason("inbraak", ["Stalled", "True", "DependencyNotReady"], CONDITION_TIMEOUT)
            .await;
        assert!(
            message.contains("docs/how-to/delete-a-site.md#a-namespace-that-stays-terminating"),
            "{message}"
        );
        assert!(bucket.protection(&key).await.is_some_and(|(is_held, _)| is_held));

        let holds = scene.namespace.api::<IncidentHold>();
        holds.patch("inbraak", &PatchParams::default(), &without_finalizers).await.unwrap();
        wait_until_namespace_is_deleted(&scene).await;
        assert!(
            bucket.protection(&key).await.is_some_and(|(is_held, _)| is_held),
            "removing the finalizer releases nothing"
        );
    })
    .await;
}
