//! What a hold says of what it covers, and what people can correct: a hold of nothing, a camera that was never there, a
//! wrong year, a resolution in the future.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use toezicht::api::{HoldPhase, IncidentHold};

use super::process::{Process, config_for_store, leads, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::cluster::{TestNamespace, client};
use crate::support::operator;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(60);
const CAMERA: &str = "kantine";

async fn change(holds: &Api<IncidentHold>, name: &str, spec: Value) -> Result<IncidentHold, kube::Error> {
    let patch = Patch::Merge(json!({"spec": spec}));
    holds.patch(name, &PatchParams::default(), &patch).await
}

async fn wait_for_state(holds: &Api<IncidentHold>, name: &str, state: HoldPhase) {
    eventually(&format!("{name} is {state:?}"), SOON, || async {
        let hold = holds.get(name).await.map_err(|e| e.to_string())?;
        let status = hold.status.unwrap_or_default();
        (status.state == Some(state)).then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hold_reports_coverage_and_accepts_corrections() {
    with_chart_scaled_down("covers", async |namespace| {
        let server = S3Server::first();
        let config = config_for_store(&server.endpoint);
        let _operator = Process::with_config(&namespace, &namespace, "covers", config);
        leads(&namespace, "covers").await;
        let scene = Scene::within(namespace, server.clone(), |_, _| ()).await;
        scene.wait_for_site("StorageEnforced", "True", SOON).await;
        let bucket = BucketScene::of_bucket(server, &scene.bucket.name);
        let holds = scene.namespace.api::<IncidentHold>();

        // Just now, and recorded whole: known at once. One minute more, and it is not.
        let start = Timestamp::now() - SignedDuration::from_secs(150);
        for minute in 0..2 {
            bucket.record(CAMERA, start + SignedDuration::from_mins(minute)).await;
        }
        let (from, whole) = (start + SignedDuration::from_secs(10), start + SignedDuration::from_secs(115));
        scene.declare("heel", &[CAMERA], from, Some(whole)).await;
        let more = whole + SignedDuration::from_secs(25);
        scene.declare("half", &[CAMERA], from, Some(more)).await;
        for (name, coverage) in [("heel", Some("100%")), ("half", None)] {
            scene.wait_for_hold_reason(name, ["RecordingsFound", "True", "RecordingsFound"], SOON).await;
            scene.wait_for_hold_reason(name, ["Ready", "True", "Verified"], SOON).await;
            let hold = holds.get(name).await.unwrap();
            let placement = hold.status.unwrap().placement.unwrap();
            assert_eq!(placement.coverage.as_deref(), coverage, "{name}: {placement:?}");
            assert_eq!(placement.segments, 2);
        }

        // An hour too early, before the Site was created.
        let early = start - SignedDuration::from_hours(1);
        let until = early + SignedDuration::from_mins(2);
        scene.declare("te-vroeg", &[], early, Some(until)).await;
        let message = scene.wait_for_hold_reason("te-vroeg", ["RecordingsFound", "False", "NoRecordingsFound"], SOON).await;
        assert!(message.contains("before the Site was created"), "{message}");
        scene.wait_for_hold_reason("te-vroeg", ["Ready", "False", "NoRecordingsFound"], SOON).await;

        // A typo: told, and corrected without a second hold.
        scene.declare("typo", &["kantiene"], from, Some(whole)).await;
        scene.wait_for_hold_reason("typo", ["Ready", "False", "UnknownCamera"], SOON).await;
        change(&holds, "typo", json!({"cameras": [CAMERA]})).await.unwrap();
        scene.wait_for_hold_reason("typo", ["Ready", "True", "Verified"], SOON).await;
        let typo = holds.get("typo").await.unwrap().status.unwrap();
        let coverage = typo.placement.unwrap().coverage;
        assert_eq!((coverage.as_deref(), typo.unknown_cameras), (Some("100%"), vec![]));

        // A year ahead: it keeps nothing, and can be corrected.
        let year = SignedDuration::from_hours(24 * 365);
        scene.declare("jaar", &[CAMERA], from + year, Some(whole + year)).await;
        wait_for_state(&holds, "jaar", HoldPhase::Scheduled).await;
        scene.wait_for_hold_reason("jaar", ["Stalled", "True", "NotStarted"], SOON).await;
        change(&holds, "jaar", json!({"window": {"from": from, "until": whole}})).await.unwrap();
        wait_for_state(&holds, "jaar", HoldPhase::Open).await;
        scene.wait_for_hold_reason("jaar", ["Ready", "True", "Verified"], SOON).await;

        // Resolved when it was declared: the ledger never has it.
        scene
            .create::<IncidentHold>(json!({
                "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": "nooit"},
                "spec": {
                    "siteRef": {"name": SITE}, "cameras": [CAMERA], "window": {"from": from, "until": whole}, "purpose": "Theft",
                    "reference": "2026-0413", "state": "Resolved",
                    "resolution": {"time": Timestamp::now() - SignedDuration::from_secs(1), "by": "CISO", "outcome": "Closed"},
                },
            }))
            .await;
        wait_for_state(&holds, "nooit", HoldPhase::Released).await;
        let never = holds.get("nooit").await.unwrap().status.unwrap();
        assert!(never.never_held_time.is_some() && never.placement.is_none(), "{never:?}");

        let resolved = |at: &str| json!({"state": "Resolved", "resolution": {"time": at, "by": "CISO", "outcome": "Closed"}});
        // Resolved in 2062: it goes on, says so, and can be corrected; then it is final.
        change(&holds, "heel", resolved("2062-01-01T00:00:00Z")).await.unwrap();
        scene.wait_for_hold_reason("heel", ["Stalled", "True", "ResolutionInFuture"], SOON).await;
        scene.wait_for_hold_reason("heel", ["Ready", "True", "Verified"], SOON).await;
        let now = (Timestamp::now() - SignedDuration::from_secs(1)).to_string();
        change(&holds, "heel", resolved(&now)).await.unwrap();
        scene.wait_for_hold_reason("heel", ["Released", "True", "Verified"], SOON).await;
        wait_for_state(&holds, "heel", HoldPhase::Released).await;
        let final_ = change(&holds, "heel", json!({"state": "Open", "resolution": null})).await;
        assert!(final_.unwrap_err().to_string().contains("Resolved is final"));
        let conditions = holds.get("heel").await.unwrap().status.unwrap().conditions;
        assert!(conditions.iter().all(|condition| condition.type_ != "Placed"), "{conditions:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_policy_rejects_deletion_of_effective_open_holds() {
    let _present = operator::present().await;
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
    let refused = async || {
        let refused = delete().await.unwrap_err().to_string();
        assert!(refused.contains("an open hold cannot be deleted"), "{refused}");
    };
    // As long as nothing is kept for it, it can be withdrawn.
    create(hold(&[])).await;
    delete().await.unwrap();
    // One that the operator has written into the ledger, and has not said so yet.
    create(hold(&["toezicht.dev/hold"])).await;
    refused().await;
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    holds.patch("incident", &PatchParams::default(), &none).await.unwrap();
    let placement = json!({"status": {"placement": {
        "observedGeneration": 1, "acceptanceTime": "2026-01-01T10:00:00Z", "verified": false, "segments": 0, "size": "0 B", "sealedSegments": 0,
    }}});
    let counts = holds.patch_status("incident", &PatchParams::default(), &Patch::Merge(placement)).await;
    counts.unwrap();
    refused().await;
    let resolution = json!({"time": "2026-01-02T10:00:00Z", "by": "b", "outcome": "NothingVisible"});
    change(&holds, "incident", json!({"state": "Resolved", "resolution": resolution})).await.unwrap();
    delete().await.unwrap();
    namespace.delete().await;
}
