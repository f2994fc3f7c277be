//! What was read of a version while one hold had it counts for no other hold once it was let go of.

use serde_json::json;

use super::crowded_tests::{MANY, counts, crowded};
use super::tests::{Scene, hold, of_hal};
use super::*;

/// A hold stays open all the while, so that nothing is forgotten because there is none.
#[tokio::test]
async fn what_was_released_is_held_anew_for_another_hold() {
    let now = Timestamp::now();
    let (stub, given) = crowded(now).await;
    let memory = Memory::default();
    let (first, second) = (of_hal("hal", now), of_hal("second", now));
    let mut other = of_hal("gang", now);
    other.cameras = ["gang".to_owned()].into();
    let look = async |open: &[&Entry], closing: &[&Entry], minute: i64| {
        let now = now + SignedDuration::from_mins(minute);
        let open = open.iter().map(|entry| (entry.uid.clone(), (*entry).clone()));
        let plan = Plan {
            open: open.collect(),
            closing: closing.iter().map(|entry| entry.resolved(now)).collect(),
            ..Plan::default()
        };
        let retention = json!({"openHolds": 1, "verifiedAt": now, "verifiedEverySeconds": 900});
        let mut scene = Scene::new(stub.target(), plan.covers());
        if minute > 0 {
            scene.site.status = serde_json::from_value(json!({"retention": retention})).unwrap();
        }
        let holds = ["hal", "gang", "second"].map(|uid| hold(uid, &json!(null)));
        let pass = Pass { memory: &memory, ..scene.pass(&holds, &plan, now) };
        let (outcome, failed) = pass.run().await;
        assert!(failed.is_none(), "{failed:?}");
        outcome
    };
    let many = usize::from(MANY);
    let placed = look(&[&first, &other], &[], 0).await;
    assert!(placed.proved.contains(&"hal".to_owned()), "{:?}", placed.proved);
    assert_eq!(counts(&given).0, many);
    let released = look(&[&other], &[&first], 1).await;
    assert_eq!(released.released, ["hal"]);
    assert_eq!(counts(&given).0, 0);
    let placed = look(&[&second, &other], &[], 2).await;
    assert!(placed.proved.contains(&"second".to_owned()), "{:?}", placed.proved);
    assert_eq!(counts(&given).0, many, "it says so, and nothing has a legal hold");
}
