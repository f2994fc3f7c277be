//! The chart's admission policies (`ValidatingAdmissionPolicy`), on the real API server.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use toezicht::api::{IncidentHold, RecordingPolicy};

use crate::support::cluster::{TestNamespace, client};
use crate::support::operator;
use crate::support::scene::{POLICY, SITE, policy};

#[tokio::test(flavor = "multi_thread")]
async fn retention_above_ceiling_is_rejected() {
    let _operator = operator::shared().await;
    let namespace = TestNamespace::new(&client().await, "chart-admission").await;
    let policies = namespace.api::<RecordingPolicy>();
    let mut above = policy();
    above["spec"]["retention"]["video"] = "29d".into();
    let above: RecordingPolicy = serde_json::from_value(above).unwrap();
    let rejection = policies.create(&PostParams::default(), &above).await.unwrap_err().to_string();
    assert!(rejection.contains("spec.retention.video: at most 28d on this cluster"), "{rejection}");
    let within: RecordingPolicy = serde_json::from_value(policy()).unwrap();
    policies.create(&PostParams::default(), &within).await.unwrap();
    let raise = Patch::Merge(json!({"spec": {"retention": {"calls": "8d"}}}));
    let rejection = policies.patch(POLICY, &PatchParams::default(), &raise).await.unwrap_err().to_string();
    assert!(rejection.contains("spec.retention.calls: at most 7d on this cluster"), "{rejection}");

    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_of_effective_open_holds_is_rejected() {
    let _operator = operator::shared().await;
    let namespace = TestNamespace::new(&client().await, "chart-holds").await;
    let holds = namespace.api::<IncidentHold>();
    let hold = |finalizers: &[&str]| -> IncidentHold {
        serde_json::from_value(json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold",
            "metadata": {"name": "incident", "finalizers": finalizers},
            "spec": {
                "siteRef": {"name": SITE}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": "Theft",
                "reference": "1",
            },
        }))
        .unwrap()
    };
    let delete = async || holds.delete("incident", &DeleteParams::default()).await;
    let create = async |hold| holds.create(&PostParams::default(), &hold).await.unwrap();
    let check_rejected = async || {
        let rejection = delete().await.unwrap_err().to_string();
        assert!(rejection.contains("an open hold cannot be deleted"), "{rejection}");
    };
    // A hold that protects nothing yet can be deleted.
    create(hold(&[])).await;
    delete().await.unwrap();
    // A hold that is in the ledger, before its status says so.
    create(hold(&["toezicht.dev/hold"])).await;
    check_rejected().await;
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    holds.patch("incident", &PatchParams::default(), &none).await.unwrap();
    let placement = json!({"status": {"placement": {
        "observedGeneration": 1, "acceptanceTime": "2026-01-01T10:00:00Z", "verified": false, "segments": 0, "size": "0 B", "sealedSegments": 0,
    }}});
    let counts = holds.patch_status("incident", &PatchParams::default(), &Patch::Merge(placement)).await;
    counts.unwrap();
    check_rejected().await;
    let resolution = json!({"time": "2026-01-02T10:00:00Z", "by": "b", "outcome": "NothingVisible"});
    let resolve = Patch::Merge(json!({"spec": {"state": "Resolved", "resolution": resolution}}));
    holds.patch("incident", &PatchParams::default(), &resolve).await.unwrap();
    delete().await.unwrap();
    namespace.delete().await;
}
