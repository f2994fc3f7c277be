//! More recordings in a held window than there is room for: whoever may put can make them up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::tests::{PassFixture, hal_entry, hold};
use super::*;
use crate::controllers::retention::report::placement_status;
use crate::rules::recording::Class;
use crate::rules::recording::key::Key;
use crate::rules::recording::version::ListedVersion;
use crate::storage::recordings::hold::memory_budget::MemoryBudget;
use crate::storage::s3::in_doubt_requests::InDoubtRequests;
use crate::storage::s3::stub::{Stub, error_answer, versions_answer};

pub(crate) const RECORDINGS: u8 = 200;

/// What a store was given: by path and mark, or path alone.
pub(crate) type StoredObjects = Arc<Mutex<BTreeMap<String, String>>>;

/// A store with many recordings of `hal`, that keeps what it is given.
pub(crate) async fn crowded_store(now: Timestamp) -> (Stub, StoredObjects) {
    let begun = now - SignedDuration::from_mins(100);
    let recorded = (0..RECORDINGS).map(|number| {
        let start = begun + SignedDuration::from_millis(i64::from(number));
        let key = Key::new(Class::Video, "hal", start, 60_000, &[number; 32]).unwrap();
        ListedVersion {
            key: key.to_string(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: begun + SignedDuration::from_mins(2),
            size: 1,
            etag: "e".into(),
        }
    });
    let recorded: Vec<ListedVersion> = recorded.collect();
    let given = StoredObjects::default();
    let kept = given.clone();
    let stub = Stub::start(move |asked| {
        let mut kept = kept.lock().unwrap();
        let mut marks = ["legal-hold", "tagging", "uploads"].into_iter();
        let mark = marks.find(|mark| asked.query_parameter(mark).is_some());
        let place = format!("{} {}", asked.path, mark.unwrap_or_default());
        if asked.method == "PUT" {
            kept.insert(place, String::from_utf8(asked.body.to_vec()).unwrap());
            return (200, String::new());
        }
        match (kept.get(&place), mark, asked.query_parameter("prefix")) {
            (Some(kept), ..) => (200, kept.clone()),
            (_, Some("uploads"), _) => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            (_, Some("legal-hold"), _) => error_answer(404, "NoSuchObjectLockConfiguration"),
            (_, Some(_), _) => (200, "<Tagging><TagSet></TagSet></Tagging>".to_owned()),
            (_, None, Some(prefix)) if prefix.starts_with("video/") => versions_answer(asked, &recorded),
            (_, None, Some(_)) => versions_answer(asked, &[]),
            _ => error_answer(404, "NoSuchKey"),
        }
    })
    .await;
    (stub, given)
}

/// How many recordings were given a legal hold, and how many objects are of manifests.
pub(crate) fn count_held_and_manifests(given: &StoredObjects) -> (usize, usize) {
    let given = given.lock().unwrap();
    let held = given.iter().filter(|(place, body)| {
        place.contains("/video/") && place.ends_with(" legal-hold") && body.contains("ON")
    });
    let manifests = given.keys().filter(|place| place.contains("/ledger/manifests/"));
    (held.count(), manifests.count())
}

/// What a pass goes by in a process that may have so many bytes.
fn fixture_with_memory(bytes: u64, stub: &Stub, plan: &HoldPlan) -> PassFixture {
    PassFixture {
        protection_cache: ProtectionCache::with_budget(
            InDoubtRequests::default(),
            &MemoryBudget::of_process(bytes),
        ),
        ..PassFixture::new(stub.connection(), plan.scopes())
    }
}

/// Each is held; and nothing is claimed of a hold, nothing said to be lost, and no manifest written that lacks some.
#[tokio::test]
async fn versions_beyond_memory_budget_are_held_but_not_claimed() {
    let now = Timestamp::now();
    let (stub, given) = crowded_store(now).await;
    let entry = hal_entry("hal", now);
    let plan = HoldPlan { open: [(entry.uid.clone(), entry)].into(), ..HoldPlan::default() };
    let run_pass = async |bytes: u64, status: serde_json::Value| {
        let scene = fixture_with_memory(bytes, &stub, &plan);
        let holds = [hold("hal", &status)];
        let pass = scene.pass(&holds, &plan, now);
        let (mut outcome, failed) = pass.run().await;
        assert!(failed.is_none(), "{failed:?}");
        let (lost, written) = pass.write_manifests(&mut outcome).await;
        assert_eq!((lost, outcome.drift.is_none()), (0, true), "{:?}", outcome.drift);
        let placed = placement_status(&holds[0], &plan, &outcome, now).unwrap();
        (placed, written.is_ok(), BTreeSet::from_iter(outcome.proved))
    };
    // Enough for some of the first listing.
    let (placed, _, proved) = run_pass(20_000, json!(null)).await;
    assert_eq!(count_held_and_manifests(&given), (usize::from(RECORDINGS), 0));
    assert!(proved.is_empty(), "{proved:?}");
    assert_eq!(placed.segments, i64::from(RECORDINGS));
    let told = placed.store_rejection.clone().unwrap().to_string();
    assert!(told.starts_with("TooManyVersions: 200 recordings"), "{told}");
    assert!(told.contains("resources.limits.memory"), "{told}");

    // However much there is: what is proved has a manifest, what has none says why.
    let mut proved_from = None;
    for bytes in (10_000..200_000).step_by(2_500) {
        let (placed, is_written, proved) = run_pass(bytes, json!(null)).await;
        let is_proved = proved.contains("hal");
        assert!(is_written, "{bytes}");
        assert_eq!(placed.store_rejection.is_none(), is_proved, "{bytes}: {placed:?}");
        assert_eq!(count_held_and_manifests(&given).1 > 0, proved_from.is_some() || is_proved, "{bytes}");
        proved_from = proved_from.or(is_proved.then_some(bytes));
    }
    assert!(proved_from.is_some_and(|bytes| bytes > 50_000), "{proved_from:?}");

    // With more of it, all is well.
    let (placed, is_written, proved) = run_pass(10_000_000, json!({"placement": placed})).await;
    assert!(is_written && placed.store_rejection.is_none() && proved.contains("hal"), "{placed:?}");
    let (_, manifests) = count_held_and_manifests(&given);
    assert_eq!(manifests, 2, "an index and a part");

    // What a manifest lists is more than there is room for after the next start: what it lost is not known then.
    let (placed, _, proved) = run_pass(10_000, json!({"placement": placed})).await;
    assert!(proved.is_empty() && placed.verified, "{placed:?}");
    let told = placed.store_rejection.unwrap().to_string();
    assert!(told.starts_with("TooManyVersions"), "{told}");
}

/// Nothing is let go of by a manifest that there is no room for.
#[tokio::test]
async fn hold_is_not_released_with_partial_manifest() {
    let now = Timestamp::now();
    let (stub, _) = crowded_store(now).await;
    let entry = hal_entry("hal", now);
    let run_pass = async |bytes: u64, plan: HoldPlan, status: serde_json::Value| {
        let scene = fixture_with_memory(bytes, &stub, &plan);
        let holds = [hold("hal", &status)];
        let pass = scene.pass(&holds, &plan, now);
        let (mut outcome, failed) = pass.run().await;
        assert!(failed.is_none(), "{failed:?}");
        pass.write_manifests(&mut outcome).await.1.unwrap();
        placement_status(&holds[0], &plan, &outcome, now).unwrap()
    };
    let plenty = 10_000_000;
    let open = HoldPlan { open: [(entry.uid.clone(), entry.clone())].into(), ..HoldPlan::default() };
    let placed = run_pass(plenty, open, json!(null)).await;
    assert!(placed.verified, "{placed:?}");
    let closing = || HoldPlan { closing: vec![entry.resolved(now)], ..HoldPlan::default() };
    let kept = run_pass(10_000, closing(), json!({"placement": placed.clone()})).await;
    assert!(kept.release_time.is_none(), "{kept:?}");
    let told = kept.store_rejection.unwrap().to_string();
    assert!(told.starts_with("TooManyVersions: 200 recordings"), "{told}");
    let released = run_pass(plenty, closing(), json!({"placement": placed})).await;
    assert!(released.release_time.is_some(), "{released:?}");
}
