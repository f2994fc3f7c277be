//! A protection that was read for one hold is not trusted for another after a release.

use serde_json::json;

use super::crowded_tests::{RECORDINGS, count_held_and_manifests, crowded_store};
use super::tests::{PassFixture, hal_entry, hold};
use super::*;
use crate::rules::CameraSelector;

/// Another hold stays open throughout, so that the cache is not cleared.
#[tokio::test]
async fn released_versions_are_held_again_for_another_hold() {
    let now = Timestamp::now();
    let (stub, given) = crowded_store(now).await;
    let memory = ProtectionCache::default();
    let (first, second) = (hal_entry("hal", now), hal_entry("second", now));
    let mut other = hal_entry("gang", now);
    other.scope.cameras = CameraSelector::Named(["gang".to_owned()].into());
    let run_pass = async |open: &[&LedgerEntry], closing: &[&LedgerEntry], minute: i64| {
        let now = now + SignedDuration::from_mins(minute);
        let open = open.iter().map(|entry| (entry.uid.clone(), (*entry).clone()));
        let plan = HoldPlan {
            open: open.collect(),
            closing: closing.iter().map(|entry| entry.resolved(now)).collect(),
            ..HoldPlan::default()
        };
        let retention =
            json!({"openHolds": 1, "lastVerificationTime": now, "verificationIntervalSeconds": 900});
        let mut scene = PassFixture::new(stub.connection(), plan.scopes());
        if minute > 0 {
            scene.site.status = serde_json::from_value(json!({"retention": retention})).unwrap();
        }
        let holds = ["hal", "gang", "second"].map(|uid| hold(uid, &json!(null)));
        let pass = RetentionPass { protection_cache: &memory, ..scene.pass(&holds, &plan, now) };
        let (outcome, failed) = pass.run().await;
        assert!(failed.is_none(), "{failed:?}");
        outcome
    };
    let many = usize::from(RECORDINGS);
    let placed = run_pass(&[&first, &other], &[], 0).await;
    assert!(placed.proved.contains(&"hal".to_owned()), "{:?}", placed.proved);
    assert_eq!(count_held_and_manifests(&given).0, many);
    let released = run_pass(&[&other], &[&first], 1).await;
    assert_eq!(released.released, ["hal"]);
    assert_eq!(count_held_and_manifests(&given).0, 0);
    let placed = run_pass(&[&second, &other], &[], 2).await;
    assert!(placed.proved.contains(&"second".to_owned()), "{:?}", placed.proved);
    assert_eq!(count_held_and_manifests(&given).0, many, "it says so, and nothing has a legal hold");
}
