//! Coverage that a hold reports, and corrections of mistakes: no recordings, an unknown camera, a wrong year, a
//! resolution in the future.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::{HoldPhase, IncidentHold};

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::eventually;

const CONDITION_TIMEOUT: Duration = Duration::from_secs(60);
const CAMERA: &str = "kantine";

async fn patch_spec(holds: &Api<IncidentHold>, name: &str, spec: Value) -> Result<IncidentHold, kube::Error> {
    let patch = Patch::Merge(json!({"spec": spec}));
    holds.patch(name, &PatchParams::default(), &patch).await
}

async fn wait_for_state(holds: &Api<IncidentHold>, name: &str, state: HoldPhase) {
    eventually(&format!("{name} is {state:?}"), CONDITION_TIMEOUT, || async {
        let hold = holds.get(name).await.map_err(|e| e.to_string())?;
        let status = hold.status.unwrap_or_default();
        (status.state == Some(state)).then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hold_reports_coverage_and_accepts_corrections() {
    with_chart_scaled_down("covers", async |namespace| {
        let server = S3Server::primary();
        let config = config_for_store(&server.endpoint);
        let _operator = Process::with_config(&namespace, &namespace, "covers", config);
        wait_for_leader(&namespace, "covers").await;
        let scene = Scene::within(namespace, server.clone(), |_, _| ()).await;
        scene.wait_for_site("StorageEnforced", "True", CONDITION_TIMEOUT).await;
        let bucket = BucketScene::of_bucket(server, &scene.bucket.name);
        let holds = scene.namespace.api::<IncidentHold>();

        // A fully recorded window in the recent past: coverage is known at once. With one more minute it is not.
        let start = Timestamp::now() - SignedDuration::from_secs(150);
        for minute in 0..2 {
            bucket.record(CAMERA, start + SignedDuration::from_mins(minute)).await;
        }
        let (from, recorded_until) = (start + SignedDuration::from_secs(10), start + SignedDuration::from_secs(115));
        scene.declare("heel", &[CAMERA], from, Some(recorded_until)).await;
        let later = recorded_until + SignedDuration::from_secs(25);
        scene.declare("half", &[CAMERA], from, Some(later)).await;
        for (name, coverage) in [("heel", Some("100%")), ("half", None)] {
            scene.wait_for_hold_reason(name, ["RecordingsFound", "True", "RecordingsFound"], CONDITION_TIMEOUT).await;
            scene.wait_for_hold_reason(name, ["Ready", "True", "Verified"], CONDITION_TIMEOUT).await;
            let hold = holds.get(name).await.unwrap();
            let placement = hold.status.unwrap().placement.unwrap();
            assert_eq!(placement.coverage.as_deref(), coverage, "{name}: {placement:?}");
            assert_eq!(placement.segments, 2);
        }

        // A window an hour too early, before the Site was created.
        let early = start - SignedDuration::from_hours(1);
        let until = early + SignedDuration::from_mins(2);
        scene.declare("te-vroeg", &[], early, Some(until)).await;
        let message = scene.wait_for_hold_reason("te-vroeg", ["RecordingsFound", "False", "NoRecordingsFound"], CONDITION_TIMEOUT).await;
        assert!(message.contains("before the Site was created"), "{message}");
        scene.wait_for_hold_reason("te-vroeg", ["Ready", "False", "NoRecordingsFound"], CONDITION_TIMEOUT).await;

        // A mistyped camera is reported and corrected without a second hold.
        scene.declare("typo", &["kantiene"], from, Some(recorded_until)).await;
        scene.wait_for_hold_reason("typo", ["Ready", "False", "UnknownCamera"], CONDITION_TIMEOUT).await;
        patch_spec(&holds, "typo", json!({"cameras": [CAMERA]})).await.unwrap();
        scene.wait_for_hold_reason("typo", ["Ready", "True", "Verified"], CONDITION_TIMEOUT).await;
        let typo = holds.get("typo").await.unwrap().status.unwrap();
        let coverage = typo.placement.unwrap().coverage;
        assert_eq!((coverage.as_deref(), typo.unknown_cameras), (Some("100%"), vec![]));

        // A window a year ahead protects nothing and can be corrected.
        let year = SignedDuration::from_hours(24 * 365);
        scene.declare("jaar", &[CAMERA], from + year, Some(recorded_until + year)).await;
        wait_for_state(&holds, "jaar", HoldPhase::Scheduled).await;
        scene.wait_for_hold_reason("jaar", ["Stalled", "True", "NotStarted"], CONDITION_TIMEOUT).await;
        patch_spec(&holds, "jaar", json!({"window": {"from": from, "until": recorded_until}})).await.unwrap();
        wait_for_state(&holds, "jaar", HoldPhase::Open).await;
        scene.wait_for_hold_reason("jaar", ["Ready", "True", "Verified"], CONDITION_TIMEOUT).await;

        // A hold that is declared as resolved never enters the ledger.
        scene
            .create::<IncidentHold>(json!({
                "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": "nooit"},
                "spec": {
                    "siteRef": {"name": SITE}, "cameras": [CAMERA], "window": {"from": from, "until": recorded_until}, "purpose": "Theft",
                    "reference": "2026-0413", "state": "Resolved",
                    "resolution": {"time": Timestamp::now() - SignedDuration::from_secs(1), "by": "CISO", "outcome": "Closed"},
                },
            }))
            .await;
        wait_for_state(&holds, "nooit", HoldPhase::Released).await;
        let never = holds.get("nooit").await.unwrap().status.unwrap();
        assert!(never.never_held_time.is_some() && never.placement.is_none(), "{never:?}");

        let resolved = |at: &str| json!({"state": "Resolved", "resolution": {"time": at, "by": "CISO", "outcome": "Closed"}});
        // A resolution in 2062 does not end the hold, is reported, and can be corrected. A past one is final.
        patch_spec(&holds, "heel", resolved("2062-01-01T00:00:00Z")).await.unwrap();
        scene.wait_for_hold_reason("heel", ["Stalled", "True", "ResolutionInFuture"], CONDITION_TIMEOUT).await;
        scene.wait_for_hold_reason("heel", ["Ready", "True", "Verified"], CONDITION_TIMEOUT).await;
        let now = (Timestamp::now() - SignedDuration::from_secs(1)).to_string();
        patch_spec(&holds, "heel", resolved(&now)).await.unwrap();
        scene.wait_for_hold_reason("heel", ["Released", "True", "Verified"], CONDITION_TIMEOUT).await;
        wait_for_state(&holds, "heel", HoldPhase::Released).await;
        let final_ = patch_spec(&holds, "heel", json!({"state": "Open", "resolution": null})).await;
        assert!(final_.unwrap_err().to_string().contains("Resolved is final"));
        let conditions = holds.get("heel").await.unwrap().status.unwrap().conditions;
        assert!(conditions.iter().all(|condition| condition.type_ != "Placed"), "{conditions:?}");
    })
    .await;
}
