//! Single versions of which the store refuses something, or fails at it: they are a matter of the holds that cover them alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::tests::{PassFixture, hal_entry, hold};
use super::*;
use crate::controllers::retention::report::placement_status;
use crate::rules::recording::Class;
use crate::rules::recording::key::Key;
use crate::rules::recording::version::ListedVersion;
use crate::storage::s3::stub::{ReceivedRequest, Stub, error_answer, versions_answer};

/// A store that has a recording of `hal` and one of `gang`. That of `hal` is held or not, and whoever would change that gets this
/// answer; that of `gang` has the marks that it was given.
async fn rejecting_store(now: Timestamp, held: &'static str, answer: (u16, &'static str)) -> Stub {
    let before = now - SignedDuration::from_hours(1);
    let recorded = ["gang", "hal"].map(|camera| ListedVersion {
        key: Key::new(Class::Video, camera, before, 60_000, &[7; 32]).unwrap().to_string(),
        id: "1".into(),
        is_marker: false,
        is_latest: true,
        modified: before,
        size: 1,
        etag: "e".into(),
    });
    let kept = Arc::<Mutex<BTreeMap<String, String>>>::default();
    Stub::start(move |asked| {
        let mut kept = kept.lock().unwrap();
        match asked.method.as_str() {
            "PUT" if asked.path.contains("/video/hal/") => error_answer(answer.0, answer.1),
            "PUT" => {
                let body = String::from_utf8(asked.body.to_vec()).unwrap();
                kept.insert(subresource_path(asked), body);
                (200, String::new())
            }
            "GET" if kept.contains_key(&subresource_path(asked)) => {
                (200, kept[&subresource_path(asked)].clone())
            }
            "GET" if asked.query_parameter("uploads").is_some() => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            "GET" if asked.query_parameter("legal-hold").is_some() => {
                (200, format!("<LegalHold><Status>{held}</Status></LegalHold>"))
            }
            "GET" if asked.query_parameter("tagging").is_some() => {
                (200, "<Tagging><TagSet></TagSet></Tagging>".to_owned())
            }
            "GET" => match asked.query_parameter("prefix") {
                Some(prefix) if prefix.starts_with("video/") => versions_answer(asked, &recorded),
                Some(_) => versions_answer(asked, &[]),
                None => error_answer(404, "NoSuchKey"),
            },
            _ => (200, String::new()),
        }
    })
    .await
}

/// Where an object, or a mark of it, is kept.
fn subresource_path(asked: &ReceivedRequest) -> String {
    let mut marks = ["legal-hold", "tagging"].into_iter();
    let mark = marks.find(|mark| asked.query_parameter(mark).is_some());
    format!("{} {}", asked.path, mark.unwrap_or_default())
}

/// One version that the store does not protect, or fails at for good, keeps the holds that cover it from being proved, and no
/// other.
#[tokio::test]
async fn failure_on_one_open_hold_does_not_block_the_others() {
    let now = Timestamp::now();
    for answer in [(403, "AccessDenied"), (500, "InternalError")] {
        let has_failed = answer.0 == 500;
        let stub = rejecting_store(now, "OFF", answer).await;
        let mut of_gang = hal_entry("gang", now);
        of_gang.cameras = ["gang".to_owned()].into();
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

        // What the store failed at is tried again after five minutes at most, however long verifications take, and whatever looks
        // are made before.
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
            assert!(!later.is_verify_due());
            assert_eq!(later.is_full_pass_due(&BTreeMap::new()), is_due, "{answer:?}, after {seconds} s");
            if has_failed && !is_due {
                let (outcome, _) = later.run().await;
                let again = outcome.verify_at.unwrap();
                assert!(again <= now + SignedDuration::from_mins(5), "{again}");
            }
        }
    }
}

/// One version that the store does not let go of keeps the hold that covered it unreleased, and no other.
#[tokio::test]
async fn rejection_of_one_resolved_hold_does_not_block_the_others() {
    let now = Timestamp::now();
    let stub = rejecting_store(now, "ON", (403, "AccessDenied")).await;
    let [of_gang, late] = ["gang", "late"].map(|uid| {
        let mut entry = hal_entry(uid, now).resolved(now);
        entry.cameras = ["gang".to_owned()].into();
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

    // It is tried again in a minute, also where another is released meanwhile; until then its status stays.
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

/// Recordings that are released are, though the store does not delete the hold's manifest: that is told of this hold, which is
/// tried again later, and another is ended.
#[tokio::test]
async fn undeletable_manifest_does_not_block_closing_other_holds() {
    let now = Timestamp::now();
    let manifest = "ledger/manifests/hal/00000.json";
    let ledger = Arc::<Mutex<BTreeMap<String, String>>>::default();
    let stub = Stub::start(move |asked| match asked.method.as_str() {
        "DELETE" => error_answer(403, "AccessDenied"),
        "PUT" => {
            let body = String::from_utf8(asked.body.to_vec()).unwrap();
            ledger.lock().unwrap().insert(asked.path.clone(), body);
            (200, String::new())
        }
        "GET" if asked.query_parameter("uploads").is_some() => {
            (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
        }
        "GET" if asked.query_parameter("prefix").is_some() => {
            let listed = ListedVersion {
                key: manifest.into(),
                id: "1".into(),
                is_marker: false,
                is_latest: true,
                modified: now,
                size: 1,
                etag: "e".into(),
            };
            versions_answer(asked, &[listed])
        }
        _ => match ledger.lock().unwrap().get(&asked.path) {
            Some(body) => (200, body.clone()),
            None => error_answer(404, "NoSuchKey"),
        },
    })
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
    assert!(
        stays.error.contains("still to be ended: DeleteObject was answered with AccessDenied"),
        "{stays:?}"
    );
}
