use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::storage::hold::Unseen;
use crate::storage::ledger::Entry;
use crate::storage::sweep::HoldsUnknown;

fn hold() -> IncidentHold {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "h", "namespace": "n", "uid": "1", "generation": 1},
        "spec": {
            "siteRef": {"name": "s"}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": "Theft", "reference": "2026-1",
            "state": "Resolved", "resolution": {"at": "2026-01-02T10:00:00Z", "by": "G", "outcome": "Closed"},
        },
    }))
    .unwrap()
}

/// What one hold lacks is told of it until everything is looked at again, and takes no proof back that there was.
#[test]
fn what_is_refused_is_told_until_everything_is_looked_at_again() {
    let mut hold = hold();
    let now = Timestamp::UNIX_EPOCH;
    let entry = Entry::of("1".into(), "n".into(), "h".into(), &hold.spec, now);
    let cover = entry.cover();
    let plan = Plan { open: [("1".to_owned(), entry)].into(), ..Plan::default() };
    let mut look = |refused: Option<Option<u64>>| {
        let coverage = refused.map(|refused| {
            let mut coverage = Coverage::of(&cover, &BTreeMap::new(), now);
            coverage.refused =
                refused.map(|versions| Refused { versions, first: HoldsUnknown("a".into()).into() });
            ("1".to_owned(), coverage)
        });
        let proved = coverage.iter().filter(|(_, coverage)| coverage.refused.is_none());
        let outcome = Outcome {
            proved: proved.map(|(uid, _)| uid.clone()).collect(),
            coverage: coverage.into_iter().collect(),
            ..Outcome::default()
        };
        let next = placement(&hold, &plan, &outcome, now).unwrap();
        let told = (next.proved, next.refused.as_ref().map(|refusal| refusal.versions));
        hold.status.get_or_insert_default().placement = Some(next);
        told
    };
    assert_eq!(look(Some(Some(2))), (false, Some(2)));
    assert_eq!(look(None), (false, Some(2)), "what came lately says nothing of it");
    assert_eq!(look(Some(None)), (true, None));
    assert_eq!(look(None), (true, None));
    assert_eq!(look(Some(Some(1))), (true, Some(1)), "as it was found before");
    assert_eq!(look(Some(None)), (true, None));
}

/// The operator was killed between the ledger's last word on a hold and its status.
#[test]
fn what_the_ledger_has_closed_is_released() {
    let hold = hold();
    let (begun, closed) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1));
    let entry = Entry::of("1".into(), "n".into(), "h".into(), &hold.spec, begun);
    let said = |plan: &Plan| placement(&hold, plan, &Outcome::default(), closed).unwrap().released_at;
    let closing = Plan { closing: vec![entry.clone()], ..Plan::default() };
    assert_eq!(said(&closing), None);
    let closed_plan = Plan { closed: vec![entry.closed(closed)], ..Plan::default() };
    assert_eq!(said(&closed_plan), Some(Time(closed)));
}

/// What was refused stands while that puts the release off; one that waits for something else says nothing of it.
#[test]
fn what_the_store_does_not_let_go_of_is_told_until_a_release_is_tried_again() {
    let mut hold = hold();
    let now = Timestamp::UNIX_EPOCH;
    let plan = Plan {
        closing: vec![Entry::of("1".into(), "n".into(), "h".into(), &hold.spec, now)],
        ..Plan::default()
    };
    let mut look = |outcome: Outcome| {
        let next = placement(&hold, &plan, &outcome, now).unwrap();
        let told = next.refused.as_ref().map(|refusal| refusal.versions);
        hold.status.get_or_insert_default().placement = Some(next);
        told
    };
    let refused = || Outcome {
        unreleased: [("1".to_owned(), Refused { versions: 3, first: HoldsUnknown("a".into()).into() })]
            .into(),
        ..Outcome::default()
    };
    let put_off =
        || Outcome { release_from: Some(now), put_off: ["1".to_owned()].into(), ..Outcome::default() };
    assert_eq!(look(refused()), Some(3));
    assert_eq!(look(put_off()), Some(3));
    let waits = Outcome { release_from: Some(now), ..Outcome::default() };
    assert_eq!(look(waits), None);
    assert_eq!(look(refused()), Some(3));
    assert_eq!(look(Outcome::default()), None);
}

/// Sources of calls that were not visited concern holds with calls, until these are released.
#[test]
fn unvisited_calls_are_told_of_holds_with_calls_alone() {
    let (hold, now) = (hold(), Timestamp::UNIX_EPOCH);
    let entry = Entry::of("1".into(), "n".into(), "h".into(), &hold.spec, now);
    let told = |calls: bool, released: bool| {
        let mut entry = entry.clone();
        entry.calls = calls;
        let plan = Plan { closing: vec![entry], ..Plan::default() };
        let mut unseen = Unseen::default();
        unseen.calls = true;
        let outcome = Outcome {
            unseen,
            released: released.then(|| "1".to_owned()).into_iter().collect(),
            ..Outcome::default()
        };
        let refused = placement(&hold, &plan, &outcome, now).unwrap().refused;
        refused.map(|refused| refused.to_string())
    };
    assert!(told(true, false).unwrap().starts_with("TooManySources: "));
    assert_eq!((told(false, false), told(true, true)), (None, None));
}

/// A window that was recorded whole is told so as soon as its segments are there, and nothing is told of nothing.
#[test]
fn coverage_is_told_once_it_is_known() {
    let mut hold = hold();
    hold.spec.cameras = vec!["trap".to_owned()];
    let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
    hold.spec.window = crate::api::TimeWindow { from: Time(at(0)), until: Some(Time(at(90))) };
    let entry = Entry::of("1".into(), "n".into(), "h".into(), &hold.spec, at(95));
    let plan = Plan { open: [("1".to_owned(), entry.clone())].into(), ..Plan::default() };
    let told = |hold: &IncidentHold, now: Timestamp, recorded: &[(i64, i64)]| {
        let mut coverage = Coverage::of(&entry.cover(), &BTreeMap::new(), now);
        for (start, end) in recorded {
            let recording = crate::protocol::recording::Recording {
                class: crate::protocol::recording::Class::Video,
                source: "trap",
                start: at(*start),
                end: at(*end),
            };
            coverage.add(&recording, 5, false);
        }
        let outcome = Outcome { coverage: vec![("1".to_owned(), coverage.finish())], ..Outcome::default() };
        let next = placement(hold, &plan, &outcome, now).unwrap();
        let known = next.known_until.map(|known| known.0);
        let sources = next.sources.iter().map(|source| (source.segments, source.recorded_seconds));
        (next.coverage, known, sources.collect::<Vec<_>>())
    };
    let whole = [(-20, 40), (40, 100)];
    assert_eq!(told(&hold, at(100), &whole), (Some("100%".into()), Some(at(90)), vec![(2, 90)]));
    assert_eq!(told(&hold, at(100), &whole[..1]), (None, Some(at(40)), vec![(1, 40)]));
    assert_eq!(told(&hold, at(100), &[]), (None, None, vec![(0, 0)]));
    let arrived = at(90) + crate::storage::hold::coverage::ON_ITS_WAY;
    assert_eq!(told(&hold, arrived, &whole[..1]), (Some("44%".into()), Some(at(90)), vec![(1, 40)]));
    assert_eq!(told(&hold, arrived, &[]), (Some("0%".into()), Some(at(90)), vec![(0, 0)]));

    // A name that was taken out again, and of which there is nothing, is missed by nobody.
    hold.spec.cameras = vec!["trappenhuis".to_owned()];
    assert_eq!(told(&hold, arrived, &[]), (None, Some(at(90)), vec![]));
    assert_eq!(told(&hold, arrived, &whole).2, [(2, 90)], "what there is stays");
}

/// Only once the ledger was read: it may have a predecessor of the same name.
#[test]
fn what_was_resolved_before_it_counted_is_said_to_be_released_by_the_ledger() {
    let (hold, now) = (hold(), Timestamp::UNIX_EPOCH);
    let plan = Plan { never: vec!["1".to_owned()], ..Plan::default() };
    assert!(is_new_to_never(&hold, &plan) && !is_new_to_never(&hold, &Plan::default()));
    assert!(placement(&hold, &plan, &Outcome::default(), now).is_none(), "it may be corrected");
    let mut told = hold;
    told.status.get_or_insert_default().never_held_at = Some(Time(now));
    assert!(!is_new_to_never(&told, &plan));
}
