use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::api::ReleaseWait;
use crate::rules::LedgerEntry;
use crate::storage::OpenHoldsError;
use crate::storage::recordings::hold::Unchecked;

fn hold() -> IncidentHold {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "h", "namespace": "n", "uid": "1", "generation": 1},
        "spec": {
            "siteRef": {"name": "s"}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": "Theft", "reference": "2026-1",
            "state": "Resolved", "resolution": {"time": "2026-01-02T10:00:00Z", "by": "G", "outcome": "Closed"},
        },
    }))
    .unwrap()
}

/// A rejection is reported until the next full pass, and does not revoke an earlier verification.
#[test]
fn rejection_is_reported_until_next_full_pass() {
    let mut hold = hold();
    let now = Timestamp::UNIX_EPOCH;
    let entry = LedgerEntry::new("1".into(), "n".into(), "h".into(), &hold.spec, now);
    let cover = entry.scope.clone();
    let plan = HoldPlan { open: [("1".to_owned(), entry)].into(), ..HoldPlan::default() };
    let mut report = |refused: Option<Option<u64>>| {
        let coverage = refused.map(|refused| {
            let mut coverage = Coverage::new(&cover, &BTreeMap::new(), now);
            coverage.errors = refused
                .map(|versions| PassErrors { versions, first_error: OpenHoldsError("a".into()).into() });
            ("1".to_owned(), coverage)
        });
        let proved = coverage.iter().filter(|(_, coverage)| coverage.errors.is_none());
        let outcome = PassOutcome {
            proved: proved.map(|(uid, _)| uid.clone()).collect(),
            coverage: coverage.into_iter().collect(),
            ..PassOutcome::default()
        };
        let next = placement_status(&hold, &plan, &outcome, now).unwrap();
        let told = (next.verified, next.store_rejection.as_ref().map(|refusal| refusal.versions));
        hold.status.get_or_insert_default().placement = Some(next);
        told
    };
    assert_eq!(report(Some(Some(2))), (false, Some(2)));
    assert_eq!(report(None), (false, Some(2)), "what came lately says nothing of it");
    assert_eq!(report(Some(None)), (true, None));
    assert_eq!(report(None), (true, None));
    assert_eq!(report(Some(Some(1))), (true, Some(1)), "as it was found before");
    assert_eq!(report(Some(None)), (true, None));
}

/// The operator stopped between the closing in the ledger and the status.
#[test]
fn hold_closed_in_ledger_is_released() {
    let hold = hold();
    let (begun, closed) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1));
    let entry = LedgerEntry::new("1".into(), "n".into(), "h".into(), &hold.spec, begun);
    let said = |plan: &HoldPlan| {
        placement_status(&hold, plan, &PassOutcome::default(), closed).unwrap().release_time
    };
    let closing = HoldPlan { closing: vec![entry.clone()], ..HoldPlan::default() };
    assert_eq!(said(&closing), None);
    let closed_plan = HoldPlan { closed: vec![entry.closed(closed)], ..HoldPlan::default() };
    assert_eq!(said(&closed_plan), Some(Time(closed)));
}

/// The rejection is reported while it delays the release. A hold that waits for something else does not report it.
#[test]
fn release_rejection_is_reported_until_retried() {
    let mut hold = hold();
    let now = Timestamp::UNIX_EPOCH;
    let plan = HoldPlan {
        closing: vec![LedgerEntry::new("1".into(), "n".into(), "h".into(), &hold.spec, now)],
        ..HoldPlan::default()
    };
    let mut report = |outcome: PassOutcome| {
        let next = placement_status(&hold, &plan, &outcome, now).unwrap();
        let told = next.store_rejection.as_ref().map(|refusal| refusal.versions);
        hold.status.get_or_insert_default().placement = Some(next);
        told
    };
    let refused = || PassOutcome {
        release_rejections: [(
            "1".to_owned(),
            PassErrors { versions: 3, first_error: OpenHoldsError("a".into()).into() },
        )]
        .into(),
        ..PassOutcome::default()
    };
    let put_off = || PassOutcome {
        release_from: Some(now),
        deferred_releases: ["1".to_owned()].into(),
        ..PassOutcome::default()
    };
    assert_eq!(report(refused()), Some(3));
    assert_eq!(report(put_off()), Some(3));
    let waits = PassOutcome { release_from: Some(now), ..PassOutcome::default() };
    assert_eq!(report(waits), None);
    assert_eq!(report(refused()), Some(3));
    assert_eq!(report(PassOutcome::default()), None);
}

#[test]
fn release_wait_is_reported_until_it_ends() {
    let (mut hold, now) = (hold(), Timestamp::UNIX_EPOCH);
    let entry = LedgerEntry::new("1".into(), "n".into(), "h".into(), &hold.spec, now);
    let plan = HoldPlan { closing: vec![entry], ..HoldPlan::default() };
    for wait in [Some(ReleaseWait::EarlierRequests), Some(ReleaseWait::Recorders), None] {
        let release_waits = wait.map(|wait| ("1".to_owned(), wait)).into_iter().collect();
        let outcome = PassOutcome { release_waits, ..PassOutcome::default() };
        let next = placement_status(&hold, &plan, &outcome, now).unwrap();
        assert_eq!(next.release_wait, wait);
        hold.status.get_or_insert_default().placement = Some(next);
    }
}

/// Unvisited sources of calls concern holds with calls, until these are released.
#[test]
fn unvisited_calls_are_reported_only_for_holds_with_calls() {
    let (hold, now) = (hold(), Timestamp::UNIX_EPOCH);
    let entry = LedgerEntry::new("1".into(), "n".into(), "h".into(), &hold.spec, now);
    let told = |calls: bool, released: bool| {
        let mut entry = entry.clone();
        entry.scope.calls = calls;
        let plan = HoldPlan { closing: vec![entry], ..HoldPlan::default() };
        let unseen = Unchecked { has_unvisited_calls: true, ..Unchecked::default() };
        let outcome = PassOutcome {
            unseen,
            released: released.then(|| "1".to_owned()).into_iter().collect(),
            ..PassOutcome::default()
        };
        let refused = placement_status(&hold, &plan, &outcome, now).unwrap().store_rejection;
        refused.map(|refused| refused.to_string())
    };
    assert!(told(true, false).unwrap().starts_with("TooManySources: "));
    assert_eq!((told(false, false), told(true, true)), (None, None));
}

/// A fully recorded window is reported as soon as its segments arrived, and an unknown one is not reported.
#[test]
fn coverage_is_reported_once_known() {
    let mut hold = hold();
    hold.spec.cameras = vec!["trap".to_owned()];
    let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
    hold.spec.window = crate::api::TimeWindow { from: Time(at(0)), until: Some(Time(at(90))) };
    let entry = LedgerEntry::new("1".into(), "n".into(), "h".into(), &hold.spec, at(95));
    let plan = HoldPlan { open: [("1".to_owned(), entry.clone())].into(), ..HoldPlan::default() };
    let told = |hold: &IncidentHold, now: Timestamp, recorded: &[(i64, i64)]| {
        let mut coverage = Coverage::new(&entry.scope, &BTreeMap::new(), now);
        for (start, end) in recorded {
            let recording = crate::rules::recording::Recording {
                class: crate::rules::recording::Class::Video,
                source: "trap",
                start: at(*start),
                end: at(*end),
            };
            coverage.add(&recording, 5, false);
        }
        let outcome =
            PassOutcome { coverage: vec![("1".to_owned(), coverage.finish())], ..PassOutcome::default() };
        let next = placement_status(hold, &plan, &outcome, now).unwrap();
        let known = next.coverage_until_time.map(|known| known.0);
        let sources = next.sources.iter().map(|source| (source.segments, source.recorded_seconds));
        (next.coverage, known, sources.collect::<Vec<_>>())
    };
    let whole = [(-20, 40), (40, 100)];
    assert_eq!(told(&hold, at(100), &whole), (Some("100%".into()), Some(at(90)), vec![(2, 90)]));
    assert_eq!(told(&hold, at(100), &whole[..1]), (None, Some(at(40)), vec![(1, 40)]));
    assert_eq!(told(&hold, at(100), &[]), (None, None, vec![(0, 0)]));
    let arrived = at(90) + crate::storage::recordings::hold::coverage::MAX_UPLOAD_DELAY;
    assert_eq!(told(&hold, arrived, &whole[..1]), (Some("44%".into()), Some(at(90)), vec![(1, 40)]));
    assert_eq!(told(&hold, arrived, &[]), (Some("0%".into()), Some(at(90)), vec![(0, 0)]));

    // A removed name without recordings is not missed.
    hold.spec.cameras = vec!["trappenhuis".to_owned()];
    assert_eq!(told(&hold, arrived, &[]), (None, Some(at(90)), vec![]));
    assert_eq!(told(&hold, arrived, &whole).2, [(2, 90)], "what there is stays");
}

/// Only after the ledger was read: it may have a predecessor of the same name.
#[test]
fn hold_resolved_before_taking_effect_is_released_once_ledger_is_read() {
    let (hold, now) = (hold(), Timestamp::UNIX_EPOCH);
    let plan = HoldPlan { report_never_held: vec!["1".to_owned()], ..HoldPlan::default() };
    // The API server rejects a field that the schema does not have.
    assert_eq!(
        serde_json::to_value(never_held_status(now)).unwrap(),
        json!({"neverHeldTime": now.to_string()})
    );
    assert!(is_newly_never_held(&hold, &plan) && !is_newly_never_held(&hold, &HoldPlan::default()));
    assert!(placement_status(&hold, &plan, &PassOutcome::default(), now).is_none(), "it may be corrected");
    let mut told = hold;
    told.status.get_or_insert_default().never_held_time = Some(Time(now));
    assert!(!is_newly_never_held(&told, &plan));
}
