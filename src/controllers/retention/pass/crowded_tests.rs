//! More recordings in a held window than the memory budget allows, as anyone with put access can create.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use super::tests::{PassFixture, hal_entry, hold};
use super::*;
use crate::controllers::retention::report::placement_status;
use crate::rules::{Class, Key};
use crate::storage::recordings::hold::memory_budget::MemoryBudget;
use crate::storage::s3::in_doubt_requests::InDoubtRequests;
use crate::storage::s3::stub::{FakeBucket, Stub, listed};

pub(crate) const RECORDINGS: u8 = 200;

/// A bucket with many recordings of `hal`.
pub(crate) async fn crowded_store(now: Timestamp) -> (Stub, Arc<Mutex<FakeBucket>>) {
    let begun = now - SignedDuration::from_mins(100);
    let recorded = (0..RECORDINGS).map(|number| {
        let start = begun + SignedDuration::from_millis(i64::from(number));
        let key = Key::new(Class::Video, "hal", start, 60_000, &[number; 32]).unwrap();
        listed(key, "1", begun + SignedDuration::from_mins(2))
    });
    FakeBucket::of(recorded).start(|_, _| None).await
}

/// Returns the number of recordings with a legal hold, and of objects of manifests.
pub(crate) fn count_held_and_manifests(bucket: &Mutex<FakeBucket>) -> (usize, usize) {
    let bodies = &bucket.lock().unwrap().bodies;
    let held = bodies.iter().filter(|(place, body)| {
        place.contains("/video/") && place.ends_with(" legal-hold") && body.contains("ON")
    });
    let manifests = bodies.keys().filter(|place| place.contains("/ledger/manifests/"));
    (held.count(), manifests.count())
}

/// Returns the fixture of a process with so many bytes of memory.
fn fixture_with_memory(bytes: u64, stub: &Stub, plan: &HoldPlan) -> PassFixture {
    PassFixture {
        protection_cache: ProtectionCache::with_budget(
            InDoubtRequests::default(),
            &MemoryBudget::of_process(bytes),
        ),
        ..PassFixture::new(stub.connection(), plan.scopes())
    }
}

/// Each version is held. But no hold is verified, no loss is reported, and no incomplete manifest is written.
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
    // Enough for a part of the first listing.
    let (placed, _, proved) = run_pass(20_000, json!(null)).await;
    assert_eq!(count_held_and_manifests(&given), (usize::from(RECORDINGS), 0));
    assert!(proved.is_empty(), "{proved:?}");
    assert_eq!(placed.segments, i64::from(RECORDINGS));
    let told = placed.store_rejection.clone().unwrap().to_string();
    assert!(told.starts_with("TooManyVersions: 200 recordings"), "{told}");
    assert!(told.contains("resources.limits.memory"), "{told}");

    // At any size, a verified hold has a manifest, and an unverified one has a reason.
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

    // With enough memory, the hold is verified.
    let (placed, is_written, proved) = run_pass(10_000_000, json!({"placement": placed})).await;
    assert!(is_written && placed.store_rejection.is_none() && proved.contains("hal"), "{placed:?}");
    let (_, manifests) = count_held_and_manifests(&given);
    assert_eq!(manifests, 2, "an index and a part");

    // After a restart the manifest exceeds the budget, so its losses are unknown.
    let (placed, _, proved) = run_pass(10_000, json!({"placement": placed})).await;
    assert!(proved.is_empty() && placed.verified, "{placed:?}");
    let told = placed.store_rejection.unwrap().to_string();
    assert!(told.starts_with("TooManyVersions"), "{told}");
}

/// A manifest over the budget cannot prove a release.
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
