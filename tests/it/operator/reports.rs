//! Conditions that the controllers of policies, cameras and holds report on a real API server.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::events::v1::Event;
use kube::Resource;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};
use toezicht::controllers::runner::Watched;

use super::process::{Process, wait_for_leader, with_chart_scaled_down};
use crate::support::cluster::TestNamespace;
use crate::support::scene::{POLICY, SITE, policy};
use crate::support::wait::{HANG, eventually};

/// The operator's ceiling, below the policy's retention.
const CLUSTER_CEILING: &str = "20d";

#[tokio::test(flavor = "multi_thread")]
async fn policies_cameras_and_holds_report_their_conditions() {
    with_chart_scaled_down("reports", |namespace| async move {
        let operator = Process::with_ceiling(&namespace, "reports", CLUSTER_CEILING);
        wait_for_leader(&namespace, "reports").await;

        check_camera_without_site(&namespace).await;
        check_policy_above_ceiling(&namespace).await;
        check_hold_without_site(&namespace).await;

        create::<Site>(&namespace, site()).await;
        check_camera_with_wrong_secret(&namespace).await;
        check_hold_with_site(&namespace).await;
        check_policy_counts(&namespace).await;
        // An unchanged status is not written again.
        operator.wait_until_in_sync(&namespace).await;
        assert!(!operator.log().contains("zeer-geheim"), "the log contains a secret");
        operator.wait_until_ready().await;
    })
    .await;
}

async fn check_camera_without_site(namespace: &TestNamespace) {
    create::<Camera>(namespace, camera()).await;
    wait_for_condition::<Camera>(
        namespace,
        "receptie",
        "Accepted",
        "False",
        "ReferenceNotFound",
        "spec.siteRef.name",
    )
    .await;
    wait_for_condition::<Camera>(namespace, "receptie", "Permitted", "False", "DependencyNotReady", "").await;
    // The Site may still be created, as when all manifests are applied at once.
    wait_for_condition::<Camera>(namespace, "receptie", "Stalled", "False", "AsRequired", "").await;
}

/// Checks that a policy above the operator's ceiling, which the schema and the chart's admission policy allow, is
/// rejected and not clamped.
async fn check_policy_above_ceiling(namespace: &TestNamespace) {
    create::<RecordingPolicy>(namespace, policy()).await;
    wait_for_condition::<RecordingPolicy>(
        namespace,
        POLICY,
        "Accepted",
        "False",
        "InvalidField",
        "spec.retention.video",
    )
    .await;
    wait_for_condition::<RecordingPolicy>(namespace, POLICY, "InForce", "False", "DependencyNotReady", "")
        .await;
    wait_for_condition::<RecordingPolicy>(namespace, POLICY, "Stalled", "True", "InvalidField", "").await;
    let patch = Patch::Merge(json!({"spec": {"retention": {"video": CLUSTER_CEILING}}}));
    namespace.api::<RecordingPolicy>().patch(POLICY, &PatchParams::default(), &patch).await.unwrap();
    wait_for_condition::<RecordingPolicy>(namespace, POLICY, "Accepted", "True", "Valid", "").await;
    wait_for_condition::<RecordingPolicy>(namespace, POLICY, "InForce", "True", "InForce", "article 11")
        .await;
    wait_for_condition::<RecordingPolicy>(namespace, POLICY, "Ready", "True", "InForce", "").await;
}

async fn check_hold_without_site(namespace: &TestNamespace) {
    create::<IncidentHold>(namespace, hold("incident", "Theft")).await;
    wait_for_condition::<IncidentHold>(
        namespace,
        "incident",
        "Accepted",
        "False",
        "ReferenceNotFound",
        "spec.siteRef.name",
    )
    .await;
}

/// Returns the observed generation and the conditions of the camera.
async fn camera_conditions(namespace: &TestNamespace) -> (Option<i64>, Vec<String>) {
    let status = namespace.api::<Camera>().get("receptie").await.unwrap().status.unwrap();
    let conditions = status.conditions.iter();
    let lines = conditions.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
    (status.observed_generation, lines.collect())
}

/// Checks that a Secret of another type is reported as missing, whatever its contents.
async fn check_camera_with_wrong_secret(namespace: &TestNamespace) {
    let login = || [("username", "u".to_owned()), ("password", "zeer-geheim".to_owned())];
    wait_for_condition::<Camera>(
        namespace,
        "receptie",
        "Accepted",
        "False",
        "ReferenceNotFound",
        "spec.stream.credentialsRef",
    )
    .await;
    let without_secret = camera_conditions(namespace).await;
    namespace.secret("login", "Opaque", login()).await;
    // The change triggers a reconcile while the Secret exists.
    let patch = json!({"spec": {"area": "Balie"}});
    let changed = namespace
        .api::<Camera>()
        .patch("receptie", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let with_wrong_type = eventually("the camera is reconciled again", HANG, || async {
        let (generation, conditions) = camera_conditions(namespace).await;
        if generation == changed.metadata.generation {
            Ok(conditions)
        } else {
            Err(format!("of generation {generation:?}"))
        }
    })
    .await;
    assert_eq!(with_wrong_type, without_secret.1);
    namespace.secret("camera-login", "toezicht.dev/camera", login()).await;
    let patch = json!({"spec": {"stream": {"credentialsRef": {"name": "camera-login"}}}});
    let api = namespace.api::<Camera>();
    api.patch("receptie", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    wait_for_condition::<Camera>(namespace, "receptie", "Accepted", "True", "Valid", "").await;
    wait_for_condition::<Camera>(namespace, "receptie", "Permitted", "True", "Permitted", "").await;
    // No grant covers the site's store, so it has no recorders.
    wait_for_condition::<Site>(namespace, SITE, "Accepted", "False", "NotGranted", "spec.storage").await;
    wait_for_condition::<Camera>(namespace, "receptie", "Recording", "Unknown", "RecorderNotReady", "").await;
    wait_for_condition::<Camera>(namespace, "receptie", "Ready", "False", "RecorderNotReady", "").await;
}

/// Checks that no grant covers the site's store, so no hold can be placed, and none is reported as placed.
async fn check_hold_with_site(namespace: &TestNamespace) {
    wait_for_condition::<IncidentHold>(namespace, "incident", "Accepted", "True", "Valid", "").await;
    wait_for_condition::<IncidentHold>(namespace, "incident", "Placed", "False", "Placing", "").await;
    wait_for_condition::<IncidentHold>(namespace, "incident", "Ready", "False", "Placing", "").await;
    create::<IncidentHold>(namespace, hold("curious", "Curiosity")).await;
    wait_for_condition::<IncidentHold>(
        namespace,
        "curious",
        "Accepted",
        "False",
        "InvalidField",
        "spec.purpose",
    )
    .await;
    wait_for_condition::<IncidentHold>(namespace, "curious", "Placed", "False", "DependencyNotReady", "")
        .await;
    eventually("a warning about the hold", HANG, || async {
        let events =
            namespace.api::<Event>().list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        let is_reported = events.items.iter().any(|event| {
            event.type_.as_deref() == Some("Warning")
                && event.reason.as_deref() == Some("InvalidField")
                && event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some("curious")
        });
        is_reported.then_some(()).ok_or_else(|| format!("{} events", events.items.len()))
    })
    .await;
}

async fn check_policy_counts(namespace: &TestNamespace) {
    eventually("the policy counts its sites and cameras", HANG, || async {
        let policy = namespace.api::<RecordingPolicy>().get(POLICY).await.map_err(|e| e.to_string())?;
        let status = policy.status.unwrap_or_default();
        match (status.sites, status.cameras) {
            (Some(1), Some(1)) => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    })
    .await;
}

async fn wait_for_condition<K>(
    namespace: &TestNamespace,
    name: &str,
    condition: &str,
    status: &str,
    reason: &str,
    part: &str,
) where
    K: Watched,
{
    eventually(&format!("{} {name} {condition}={status} {reason}", K::kind(&())), HANG, || async {
        let object = namespace.api::<K>().get(name).await.map_err(|e| e.to_string())?;
        let all: Vec<String> = object
            .conditions()
            .iter()
            .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
            .collect();
        let beginning = format!("{condition}={status} {reason}: ");
        let found = all.iter().any(|line| line.starts_with(&beginning) && line.contains(part));
        if found { Ok(()) } else { Err(all.join("\n")) }
    })
    .await;
}

async fn create<K>(namespace: &TestNamespace, object: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    namespace.api::<K>().create(&PostParams::default(), &object).await.unwrap();
}

fn camera() -> Value {
    json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": "receptie"},
        "spec": {
            "siteRef": {"name": SITE}, "area": "Receptie", "visible": true,
            "stream": {"url": "rtsp://192.0.2.1/h264", "credentialsRef": {"name": "login"}},
        },
    })
}

fn hold(name: &str, purpose: &str) -> Value {
    json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": name},
        "spec": {
            "siteRef": {"name": SITE}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": purpose,
            "reference": "2026-1",
        },
    })
}

fn site() -> Value {
    let identity = |name: &str| json!({"principal": format!("arn:aws:iam::000000000000:user/{name}"), "credentialsRef": {"name": name}});
    json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "Site", "metadata": {"name": SITE},
        "spec": {
            "displayName": "Die Heijgrave", "address": {"street": "Burgemeester Zwaansweg 4", "city": "Vlijmen"},
            "policyRef": {"name": POLICY},
            "managers": [{"subject": {"kind": "Group", "name": "managers"}}],
            "notices": {"staffInformedDate": "2020-05-05", "signsPostedDate": "2020-05-05"},
            "storage": {
                "bucket": "nobody-granted-this", "endpoint": "https://192.0.2.2", "region": "r",
                "operator": identity("operator"), "recorder": identity("recorder"),
            },
        },
    })
}
