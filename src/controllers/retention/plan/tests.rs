use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::controllers::testing;
use crate::rules::{Class, Recording};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn policy() -> RecordingPolicySpec {
    testing::policy().spec
}

fn hold(uid: &str, from: i64, until: Option<i64>, resolved: Option<i64>) -> IncidentHold {
    let mut spec = json!({
        "siteRef": {"name": "s"}, "window": {"from": at(from)}, "purpose": "Theft", "reference": "2026-1",
    });
    if let Some(until) = until {
        spec["window"]["until"] = json!(at(until));
    }
    if let Some(resolved) = resolved {
        spec["state"] = json!("Resolved");
        spec["resolution"] = json!({"time": at(resolved), "by": "G", "outcome": "Closed"});
    }
    serde_json::from_value(json!({"metadata": {"name": "h", "namespace": "n", "uid": uid}, "spec": spec}))
        .unwrap()
}

/// The ledger after a plan was carried out, including its closings.
fn ledger_after(
    mut ledger: BTreeMap<String, LedgerEntry>,
    plan: &HoldPlan,
    now: Timestamp,
) -> BTreeMap<String, LedgerEntry> {
    for entry in &plan.to_write {
        ledger.insert(entry.uid.clone(), entry.clone());
    }
    for entry in &plan.closing {
        ledger.insert(entry.uid.clone(), entry.closed(now));
    }
    ledger
}

#[test]
fn hold_is_in_ledger_from_acceptance_to_release() {
    let (policy, none) = (policy(), BTreeMap::new());
    let plan1 = plan_holds(&none, &[hold("1", 0, None, None)], Some(&policy), at(60));
    assert_eq!((plan1.to_write.len(), plan1.open.len()), (1, 1));
    let ledger = ledger_after(none, &plan1, at(60));

    // If they agree, nothing is written. Without its policy the hold still counts.
    for policy in [Some(&policy), None] {
        let again = plan_holds(&ledger, &[hold("1", 0, None, None)], policy, at(70));
        assert_eq!((again.to_write.len(), again.open.len(), again.closing.len()), (0, 1, 0));
    }
    // A future resolution changes nothing.
    let early = plan_holds(&ledger, &[hold("1", 0, None, Some(100))], None, at(70));
    assert_eq!((early.open.len(), early.closing.len()), (1, 0));
    let resolved = plan_holds(&ledger, &[hold("1", 0, None, Some(100))], None, at(100));
    assert_eq!((resolved.open.len(), resolved.closing.len()), (0, 1));
    let ledger = ledger_after(ledger, &resolved, at(101));
    let after = plan_holds(&ledger, &[hold("1", 0, None, Some(100))], None, at(200));
    assert_eq!(after.closed.len(), 1, "said again, should nobody have heard");
    let rest = HoldPlan { closed: vec![], ..after };
    assert_eq!(rest, HoldPlan::default());
}

#[test]
fn unacceptable_hold_is_not_planned() {
    let mut curious = hold("1", 0, None, None);
    curious.spec.purpose = "Curiosity".into();
    assert_eq!(plan_holds(&BTreeMap::new(), &[curious], Some(&policy()), at(60)), HoldPlan::default());
    assert_eq!(plan_holds(&BTreeMap::new(), &[hold("1", 0, None, None)], None, at(60)), HoldPlan::default());
}

#[test]
fn orphaned_hold_stays_open_until_recreated() {
    let policy = policy();
    let first = plan_holds(&BTreeMap::new(), &[hold("1", 0, Some(50), None)], Some(&policy), at(60));
    let ledger = ledger_after(BTreeMap::new(), &first, at(60));
    let orphan = plan_holds(&ledger, &[], Some(&policy), at(70));
    assert_eq!(
        (orphan.orphaned.as_slice(), orphan.open.len(), orphan.closing.len()),
        (&["h".to_owned()][..], 1, 0)
    );

    let recreated = plan_holds(&ledger, &[hold("2", 10, Some(40), None)], Some(&policy), at(80));
    assert!(recreated.orphaned.is_empty());
    assert_eq!(recreated.open["2"].scope.window.from, at(0), "what the first covered is covered");
    let ledger = ledger_after(ledger, &recreated, at(80));
    assert!(!ledger["1"].is_open() && ledger["2"].is_open());

    // A hold that is re-created as resolved releases its predecessor.
    let ledger = ledger_after(BTreeMap::new(), &first, at(60));
    let resolved = plan_holds(&ledger, &[hold("3", 0, Some(50), Some(90))], Some(&policy), at(100));
    assert_eq!((resolved.open.len(), resolved.closing.len(), resolved.orphaned.len()), (0, 1, 0));
}

/// The operator stopped between the two writes, or a backup was taken between them.
#[test]
fn interrupted_succession_is_completed() {
    let policy = policy();
    let judged = |ledger: &BTreeMap<String, LedgerEntry>, uid: &str, second: i64| {
        plan_holds(ledger, &[hold(uid, 0, Some(50), None)], Some(&policy), at(second))
    };
    let none = BTreeMap::new();
    let ledger = ledger_after(none.clone(), &judged(&none, "1", 60), at(60));
    let mut recreated = judged(&ledger, "2", 80);
    recreated.to_write.truncate(1);
    let ledger = ledger_after(ledger, &recreated, at(80));
    assert!(ledger["1"].is_open() && ledger["2"].is_open(), "{ledger:?}");
    let again = judged(&ledger, "2", 90);
    let ledger = ledger_after(ledger, &again, at(90));
    assert!(!ledger["1"].is_open() && ledger["2"].is_open(), "{ledger:?}");
    assert!(again.orphaned.is_empty());
}

proptest! {
    /// However the spec of an open hold changes, its scope keeps everything that it covered.
    #[test]
    fn scope_of_open_hold_only_grows(
        steps in proptest::collection::vec((proptest::option::of(1_i64..1000), 1_i64..100), 1..6), start in 0_i64..900,
    ) {
        let (mut ledger, mut now) = (BTreeMap::new(), 1000);
        let it = Recording { class: Class::Video, source: "a", start: at(start), end: at(start + 60) };
        let mut was_covered = false;
        for (until, pause) in steps {
            now += pause;
            let plan = plan_holds(&ledger, &[hold("1", 0, until, None)], Some(&policy()), at(now));
            ledger = ledger_after(ledger, &plan, at(now));
            let is_covered = plan.scopes().iter().any(|cover| cover.covers(&it));
            prop_assert!(is_covered || !was_covered);
            was_covered = is_covered;
        }
    }
}

/// From a backup with its finalizer but without status and UID, or after somebody deleted the entry.
#[test]
fn resolved_hold_missing_from_ledger_is_released_if_it_took_effect() {
    let none = BTreeMap::new();
    let mut resolved = hold("2", 0, None, Some(100));
    let never = HoldPlan { report_never_held: vec!["2".to_owned()], ..HoldPlan::default() };
    assert_eq!(plan_holds(&none, std::slice::from_ref(&resolved), None, at(200)), never);
    resolved.metadata.finalizers = Some(vec![crate::controllers::hold::status::FINALIZER.to_owned()]);
    let first = plan_holds(&none, std::slice::from_ref(&resolved), None, at(200));
    assert_eq!((first.open.len(), first.closing.len(), first.to_write.len()), (0, 1, 1));
    let ledger = ledger_after(none.clone(), &first, at(201));
    let then = plan_holds(&ledger, std::slice::from_ref(&resolved), None, at(300));
    assert_eq!((then.closing.len(), then.closed.len()), (0, 1));
    // Its finalizer waits for the release. A status with a placement has the same effect.
    assert!(first.is_in_effect("2") && !then.is_in_effect("2"));
    resolved.metadata.finalizers = None;
    let told = serde_json::json!({"placement": {
        "observedGeneration": 1, "acceptanceTime": at(60), "scopeHash": "", "acknowledged": false, "verified": false,
        "segments": 0, "size": "0 B", "sealedSegments": 0,
    }});
    resolved.status = Some(serde_json::from_value(told).unwrap());
    assert_eq!(plan_holds(&none, &[resolved], None, at(300)).closing.len(), 1);
}

#[test]
fn open_and_resolved_holds_of_one_name_are_distinguished() {
    let (policy, one) = (policy(), hold("1", 0, None, None));
    let ledger =
        ledger_after(BTreeMap::new(), &plan_holds(&BTreeMap::new(), &[one], Some(&policy), at(60)), at(60));
    let (resolved, recreated) = (hold("1", 0, None, Some(70)), hold("2", 0, None, None));
    let both = plan_holds(&ledger, &[resolved.clone(), recreated], Some(&policy), at(80));
    assert_eq!(both.closing[0].name, "h");
    assert!(both.is_open("h"), "what is kept for the new one stays, its manifest too");
    assert!(!plan_holds(&ledger, &[resolved], Some(&policy), at(80)).is_open("h"));
}

/// Whoever may write to the bucket can add an entry, and a panic would end the process for all Sites.
#[test]
fn ledger_entry_until_the_last_year_is_ongoing() {
    let entry: LedgerEntry = serde_json::from_value(json!({
        "format": 1, "uid": "u", "namespace": "n", "name": "h", "reference": "1", "purpose": "Theft", "site": "s",
        "window": {"from": "2026-01-01T00:00:00Z", "until": "9999-12-30T21:59:00Z"}, "acceptedAt": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let plan = plan_holds(&[("u".to_owned(), entry)].into(), &[], None, at(0));
    assert!(plan.is_open("h"));
    let outcome = crate::controllers::retention::PassOutcome::default();
    assert!(crate::controllers::retention::deadlines(&plan, &outcome, at(0)).len() > 1);
}
