use super::*;
use crate::api::Days;
use crate::protocol::Window;
use crate::protocol::cover::Sources;
use crate::storage::key::Key;

const DAY: i64 = 86_400;
const CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

fn at(second: i64) -> Timestamp {
    // A midnight.
    Timestamp::from_second(1_700_006_400 + second).unwrap()
}

fn version(source: &str, start: i64, modified: i64) -> Listed {
    let key = Key::new(Class::Video, source, at(start), 60_000, &[7; 32]).unwrap();
    Listed {
        key: key.to_string(),
        id: format!("{start}-{modified}"),
        is_marker: false,
        is_latest: true,
        modified: at(modified),
        size: 10,
        etag: "e".into(),
    }
}

fn settled(covers: &[Cover]) -> Holds {
    Holds { open: covers.to_vec(), unresolved: covers.to_vec(), settled: covers.to_vec(), ..Holds::default() }
}

fn counted(versions: &[Listed], covers: &[Cover], now: i64) -> Tally {
    let holds = settled(covers);
    let rules = Rules { ceilings: &CEILINGS, holds: &holds, embargo: None, now: at(now) };
    let (mut tally, mut newer) = (Tally::default(), None);
    for version in versions {
        let _ = listed(&mut tally, &rules, version, newer.as_ref());
        newer = Some(Newer::of(version));
    }
    tally
}

fn found(tally: &Tally) -> Vec<Found> {
    tally.found.keys().copied().collect()
}

#[test]
fn each_thing_that_should_not_be_is_told_by_its_name() {
    let one = version("hal", 0, 62);
    let bigger = Listed { size: 11, id: "2".into(), ..one.clone() };
    let other = Listed { etag: "f".into(), id: "3".into(), ..one.clone() };
    for (versions, now, expected) in [
        (vec![one.clone()], DAY, vec![]),
        (vec![one.clone()], 28 * DAY, vec![Found::Overdue]),
        (vec![version("hal", 0, 7 * 3600)], DAY, vec![Found::LateUpload]),
        (vec![version("hal", DAY, 0)], DAY, vec![Found::ImplausibleKey]),
        (vec![bigger, one.clone()], DAY, vec![Found::UnexplainedVersion]),
        (vec![other, one.clone()], DAY, vec![Found::UnexplainedVersion]),
        (vec![one.clone(), one.clone()], DAY, vec![]),
    ] {
        assert_eq!(found(&counted(&versions, &[], now)), expected, "{versions:?}");
    }
}

#[test]
fn held_for_resolved_incidents_alone_is_overdue_past_its_ceiling() {
    let hold = [Cover { sources: Sources::All, calls: false, window: Window::new(at(0), None) }];
    let it = version("hal", 0, 62);
    for (unresolved, now, expected) in [
        (vec![], 28 * DAY - 1, vec![]),
        (vec![], 28 * DAY, vec![Found::ReleaseOverdue]),
        (hold.to_vec(), 28 * DAY, vec![]),
    ] {
        let holds = Holds { unresolved, ..settled(&hold) };
        let rules = Rules { ceilings: &CEILINGS, holds: &holds, embargo: None, now: at(now) };
        let mut tally = Tally::default();
        let _ = listed(&mut tally, &rules, &it, None);
        assert_eq!(found(&tally), expected, "{now}");
    }
}

#[test]
fn what_is_held_is_never_overdue_and_never_hidden() {
    let hold = [Cover { sources: Sources::All, calls: false, window: Window::new(at(0), None) }];
    let it = version("hal", 0, 62);
    let marker = Listed { is_marker: true, id: "m".into(), modified: at(70), ..it.clone() };
    let tally = counted(std::slice::from_ref(&it), &hold, 100 * DAY);
    assert_eq!((tally.held, found(&tally)), (1, vec![]));
    assert!(tally.oldest_unheld.is_empty());
    let tally = counted(&[marker, it], &hold, DAY);
    assert_eq!((tally.markers, found(&tally)), (1, vec![Found::HeldHidden]));
}

#[test]
fn marks_are_judged_by_the_holds_alone() {
    use RetentionTag::{Held, Sealed, Video};
    let it = version("hal", 0, 62);
    let stored = Stored::of(&it, &CEILINGS).unwrap();
    let judged = |is_held: bool, legal_hold: bool, tag: Option<RetentionTag>, embargo: Option<i64>| {
        let hold = [Cover { sources: Sources::All, calls: false, window: Window::new(at(0), None) }];
        let rules = Rules {
            ceilings: &CEILINGS,
            holds: &settled(if is_held { &hold } else { &[] }),
            embargo: embargo.map(SignedDuration::from_secs),
            now: at(600),
        };
        let mut tally = Tally::default();
        inspected(&mut tally, &rules, &stored, is_held, &Marks { legal_hold, tag });
        found(&tally)
    };

    for (is_held, legal_hold, tag, embargo, expected) in [
        (false, false, Some(Video), None, vec![]),
        (false, false, None, None, vec![Found::Mistagged]),
        (false, false, Some(Held), None, vec![Found::UnexplainedHold]),
        (false, true, Some(Video), None, vec![Found::UnexplainedHold]),
        (true, true, Some(Held), None, vec![]),
        (true, false, Some(Held), None, vec![Found::HeldUnprotected]),
        (true, true, Some(Video), None, vec![Found::HeldMistagged]),
        // Too young to be read where there is no live viewing.
        (true, true, Some(Held), Some(3600), vec![Found::HeldMistagged]),
        (true, true, Some(Sealed), Some(3600), vec![]),
        // It could have been opened ten seconds ago: there is time for that.
        (true, true, Some(Sealed), Some(530), vec![]),
        (true, true, Some(Sealed), None, vec![Found::HeldMistagged]),
    ] {
        assert_eq!(
            judged(is_held, legal_hold, tag, embargo),
            expected,
            "{is_held} {legal_hold} {tag:?} {embargo:?}"
        );
    }
}

#[test]
fn the_stores_lag_is_what_s3_documents() {
    let it = version("hal", 0, 62);
    // Uploaded just after a midnight: hidden at the 25th from there.
    for (now, lag) in [(25 * DAY, 0), (25 * DAY + 3600, 3600)] {
        assert_eq!(counted(std::slice::from_ref(&it), &[], now).store_lag.as_secs(), lag);
    }
    let marker = Listed { is_marker: true, id: "m".into(), modified: at(25 * DAY + 60), ..it.clone() };
    // Hidden just after a midnight: gone at the second from there.
    let tally = counted(&[marker, it], &[], 27 * DAY + 7200);
    assert_eq!(tally.store_lag.as_secs(), 7200);
}

#[test]
fn what_is_being_placed_or_released_or_just_came_is_not_judged() {
    let it = version("hal", 0, 62);
    let stored = Stored::of(&it, &CEILINGS).unwrap();
    let hold = [Cover { sources: Sources::All, calls: false, window: Window::new(at(0), None) }];
    let found_at = |holds: &Holds, now| {
        let rules = Rules { ceilings: &CEILINGS, holds, embargo: None, now: at(now) };
        let mut tally = Tally::default();
        let marks = Marks { legal_hold: false, tag: Some(RetentionTag::Video) };
        inspected(&mut tally, &rules, &stored, true, &marks);
        found(&tally)
    };
    let moving = Holds { settled: vec![], ..settled(&hold) };
    assert_eq!(found_at(&moving, 600), []);
    assert_eq!(found_at(&settled(&hold), 300), [], "it came five minutes ago");
    assert_eq!(found_at(&settled(&hold), 600), [Found::HeldUnprotected, Found::HeldMistagged]);
}
