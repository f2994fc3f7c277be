//! Rejections and failures of single versions, which concern only the holds that cover them.

use serde_json::json;

use super::tests::{PassFixture, hal_entry, hold};
use super::*;
use crate::controllers::retention::report::placement_status;
use crate::rules::{CameraSelector, Class, Key};
use crate::storage::s3::stub::{FakeBucket, ReceivedRequest, Stub, error_answer, listed};

/// A bucket with a recording of `hal` and one of `gang`, with this legal hold. Writes to that of `hal` get this answer.
async fn rejecting_store(now: Timestamp, held: &str, (status, code): (u16, &'static str)) -> Stub {
    let before = now - SignedDuration::from_hours(1);
    let recorded = ["gang", "hal"]
        .map(|camera| listed(Key::new(Class::Video, camera, before, 60_000, &[7; 32]).unwrap(), "1", before));
    let bucket = FakeBucket::of(recorded).with_legal_hold(held);
    let is_rejected = |asked: &ReceivedRequest| asked.method == "PUT" && asked.path.contains("/video/hal/");
    bucket.start(move |asked, _| is_rejected(asked).then(|| error_answer(status, code))).await.0
}

/// A version that the store does not protect keeps its own holds from verification, and no others.
#[tokio::test]
async fn failure_on_one_open_hold_does_not_block_the_others() {
    let now = Timestamp::now();
    for answer in [(403, "AccessDenied"), (500, "InternalError")] {
        let has_failed = answer.0 == 500;
        let stub = rejecting_store(now, "OFF", answer).await;
        let mut of_gang = hal_entry("gang", now);
        of_gang.scope.cameras = CameraSelector::Named(["gang".to_owned()].into());
        let open = [hal_entry("hal", now), of_gang].map(|entry| (entry.uid.clone(), entry));
        let plan = HoldPlan { open: open.into(), ..HoldPlan::default() };
        let holds = ["hal", "gang"].map(|uid| hold(uid, &json!(null)));
        let mut scene = PassFixture::new(stub.connection(), plan.scopes());
        let (outcome, failed) = scene.pass(&holds, &plan, now).run().await;
        assert!(failed.is_none(), "{failed:?}");
        assert_eq!(outcome.proved, ["gang"]);
        let placed = holds.each_ref().map(|hold| placement_status(hold, &plan, &outcome, now).unwrap());
        let [of_hal, of_gang] = &placed;
        let told = of_hal.store_rejection.as_ref().unwrap();
        assert!(told.versions == 1 && told.error.contains(answer.1), "{told:?}");
        assert_eq!(told.retryable, has_failed);
        assert_eq!((of_hal.segments, of_gang.segments), (0, 1));
        assert!(of_gang.store_rejection.is_none() && of_gang.last_error.is_none(), "{of_gang:?}");

        // A failure is retried after five minutes at most, however long verifications take and however many passes come
        // before.
        let names = ["hal", "gang"].into_iter().zip(&placed);
        let holds: Vec<IncidentHold> =
            names.map(|(uid, placed)| hold(uid, &json!({"placement": placed}))).collect();
        let retention =
            json!({"openHolds": 2, "lastVerificationTime": now, "verificationIntervalSeconds": 80_000});
        scene.site.status = serde_json::from_value(json!({"retention": retention})).unwrap();
        for (seconds, is_due) in [(50, false), (301, has_failed)] {
            let later = RetentionPass {
                protection_cache: &ProtectionCache::default(),
                now: now + SignedDuration::from_secs(seconds),
                ..scene.pass(&holds, &plan, now)
            };
            assert!(!later.schedule().is_verify_due());
            assert_eq!(
                later.schedule().is_full_pass_due(&BTreeMap::new()),
                is_due,
                "{answer:?}, after {seconds} s"
            );
            if has_failed && !is_due {
                let (outcome, _) = later.run().await;
                let again = outcome.verify_at.unwrap();
                assert!(again <= now + SignedDuration::from_mins(5), "{again}");
            }
        }
    }
}

/// A version that the store does not release keeps its own hold unreleased, and no others.
#[tokio::test]
async fn rejection_of_one_resolved_hold_does_not_block_the_others() {
    let now = Timestamp::now();
    let stub = rejecting_store(now, "ON", (403, "AccessDenied")).await;
    let [of_gang, late] = ["gang", "late"].map(|uid| {
        let mut entry = hal_entry(uid, now).resolved(now);
        entry.scope.cameras = CameraSelector::Named(["gang".to_owned()].into());
        entry
    });
    let plan =
        HoldPlan { closing: vec![hal_entry("hal", now).resolved(now), of_gang], ..HoldPlan::default() };
    let holds = ["hal", "gang"].map(|uid| hold(uid, &json!(null)));
    let scene = PassFixture::new(stub.connection(), Vec::new());
    let pass = scene.pass(&holds, &plan, now);
    let (outcome, failed) = pass.run().await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(outcome.released, ["gang"]);
    let [of_hal, of_gang] =
        holds.each_ref().map(|hold| placement_status(hold, &plan, &outcome, now).unwrap());
    assert!(of_gang.release_time.is_some() && of_gang.store_rejection.is_none(), "{of_gang:?}");
    assert!(of_hal.release_time.is_none(), "{of_hal:?}");
    let refused = of_hal.store_rejection.clone().unwrap();
    assert!(refused.versions == 1 && refused.error.contains("AccessDenied"), "{refused:?}");

    // It is retried in a minute, even if another hold is released meanwhile. Until then its status stays.
    let holds = [hold("hal", &json!({"placement": of_hal})), hold("late", &json!(null))];
    let soon = HoldPlan { closing: vec![plan.closing[0].clone(), late], ..HoldPlan::default() };
    let pass = RetentionPass { holds: &holds, plan: &soon, now: now + SignedDuration::from_secs(20), ..pass };
    let (outcome, failed) = pass.run().await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(outcome.released, ["late"]);
    let again = outcome.release_retry_at.unwrap().duration_since(refused.time.0);
    // A status has whole seconds.
    assert!((59..=60).contains(&again.as_secs()), "{again}");
    let [of_hal, late] =
        holds.each_ref().map(|hold| placement_status(hold, &soon, &outcome, pass.now).unwrap());
    let stays = of_hal.store_rejection.unwrap();
    assert_eq!((stays.versions, stays.error), (1, refused.error));
    assert!(late.release_time.is_some() && of_hal.release_time.is_none());
}

/// The recordings are released even if the store does not delete the manifest. Only this hold reports it and is retried
/// later.
#[tokio::test]
async fn undeletable_manifest_does_not_block_closing_other_holds() {
    let now = Timestamp::now();
    let manifest = "ledger/manifests/hal/00000.json";
    let (stub, _) = FakeBucket::of([listed(manifest, "1", now)])
        .start(|asked, _| (asked.method == "DELETE").then(|| error_answer(403, "AccessDenied")))
        .await;
    let plan = HoldPlan {
        closing: ["hal", "gang"].map(|uid| hal_entry(uid, now).resolved(now)).into(),
        ..HoldPlan::default()
    };
    let holds = ["hal", "gang"].map(|uid| hold(uid, &json!(null)));
    let scene = PassFixture::new(stub.connection(), Vec::new());
    let pass = scene.pass(&holds, &plan, now);
    let (outcome, failed) = pass.run().await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(outcome.released, ["gang"]);
    let [of_hal, of_gang] =
        holds.each_ref().map(|hold| placement_status(hold, &plan, &outcome, now).unwrap());
    assert!(of_gang.release_time.is_some() && of_gang.store_rejection.is_none(), "{of_gang:?}");
    let stays = of_hal.store_rejection.unwrap();
    assert_eq!((stays.versions, of_hal.last_error), (0, None));
    assert!(stays.error.contains("is not closed: DeleteObject was answered with AccessDenied"), "{stays:?}");
}
