use super::*;
use crate::rules::hold::scope::tests::video_scope;
use crate::rules::{Embargo, Key, PROTOCOL_CEILINGS, RetentionTerms, Window};
use crate::storage::s3::stub::listed;

const DAY: i64 = 86_400;
const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

fn at(second: i64) -> Timestamp {
    // Midnight (UTC).
    Timestamp::from_second(1_700_006_400 + second).unwrap()
}

fn listed_version(source: &str, start: i64, modified: i64) -> ListedVersion {
    let key = Key::new(Class::Video, source, at(start), 60_000, &[7; 32]).unwrap();
    listed(key, &format!("{start}-{modified}"), at(modified))
}

fn hold_over_all() -> [HoldScope; 1] {
    [video_scope(&[], Window::new(at(0), None))]
}

fn settled_holds(covers: &[HoldScope]) -> AuditedHolds {
    AuditedHolds {
        open: covers.to_vec(),
        unresolved: covers.to_vec(),
        settled: covers.to_vec(),
        ..AuditedHolds::default()
    }
}

fn tally_of(versions: &[ListedVersion], covers: &[HoldScope], now: i64) -> Tally {
    let holds = settled_holds(covers);
    let rules = AuditRules { terms: &TERMS, holds: &holds, now: at(now) };
    let (mut tally, mut newer) = (Tally::default(), None);
    for version in versions {
        let _ = tally_listed(&mut tally, &rules, version, newer.as_ref());
        newer = Some(version.clone());
    }
    tally
}

fn finding_kinds(tally: &Tally) -> Vec<FindingKind> {
    tally.findings.keys().copied().collect()
}

#[test]
fn each_anomaly_has_its_finding() {
    let one = listed_version("hal", 0, 62);
    let bigger = ListedVersion { size: 11, id: "2".into(), ..one.clone() };
    let other = ListedVersion { etag: "f".into(), id: "3".into(), ..one.clone() };
    for (versions, now, expected) in [
        (vec![one.clone()], DAY, vec![]),
        (vec![one.clone()], 28 * DAY, vec![FindingKind::Overdue]),
        (vec![listed_version("hal", 0, 7 * 3600)], DAY, vec![FindingKind::LateUpload]),
        (vec![listed_version("hal", DAY, 0)], DAY, vec![FindingKind::ImplausibleKey]),
        (vec![bigger, one.clone()], DAY, vec![FindingKind::UnexplainedVersion]),
        (vec![other, one.clone()], DAY, vec![FindingKind::UnexplainedVersion]),
        (vec![one.clone(), one.clone()], DAY, vec![]),
    ] {
        assert_eq!(finding_kinds(&tally_of(&versions, &[], now)), expected, "{versions:?}");
    }
}

#[test]
fn version_held_only_for_resolved_incidents_is_release_overdue() {
    let hold = hold_over_all();
    let it = listed_version("hal", 0, 62);
    for (unresolved, now, expected) in [
        (vec![], 28 * DAY - 1, vec![]),
        (vec![], 28 * DAY, vec![FindingKind::ReleaseOverdue]),
        (hold.to_vec(), 28 * DAY, vec![]),
    ] {
        let holds = AuditedHolds { unresolved, ..settled_holds(&hold) };
        let rules = AuditRules { terms: &TERMS, holds: &holds, now: at(now) };
        let mut tally = Tally::default();
        let _ = tally_listed(&mut tally, &rules, &it, None);
        assert_eq!(finding_kinds(&tally), expected, "{now}");
    }
}

#[test]
fn held_version_is_not_overdue_and_is_reported_when_hidden() {
    let hold = hold_over_all();
    let it = listed_version("hal", 0, 62);
    let marker = ListedVersion { is_marker: true, id: "m".into(), modified: at(70), ..it.clone() };
    let tally = tally_of(std::slice::from_ref(&it), &hold, 100 * DAY);
    assert_eq!((tally.held_versions, finding_kinds(&tally)), (1, vec![]));
    assert!(tally.oldest_unheld.is_empty());
    let tally = tally_of(&[marker, it], &hold, DAY);
    assert_eq!((tally.delete_markers, finding_kinds(&tally)), (1, vec![FindingKind::HeldHidden]));
}

#[test]
fn protection_is_evaluated_against_holds_only() {
    use RetentionTag::{Held, Sealed, Video};
    let it = listed_version("hal", 0, 62);
    let stored = StoredRecording::of(&it, &PROTOCOL_CEILINGS).unwrap();
    let judged = |is_held: bool, legal_hold: bool, tag: Option<RetentionTag>, embargo: Option<i64>| {
        let hold = hold_over_all();
        let embargo = embargo.map_or(Embargo::LiveView, |age| Embargo::After(SignedDuration::from_secs(age)));
        let rules = AuditRules {
            terms: &RetentionTerms { embargo, ..TERMS },
            holds: &settled_holds(if is_held { &hold } else { &[] }),
            now: at(600),
        };
        let mut tally = Tally::default();
        tally_inspected(&mut tally, &rules, &stored, is_held, &Protection { legal_hold, tag });
        finding_kinds(&tally)
    };

    for (is_held, legal_hold, tag, embargo, expected) in [
        (false, false, Some(Video), None, vec![]),
        (false, false, None, None, vec![FindingKind::Mistagged]),
        (false, false, Some(Held), None, vec![FindingKind::UnexplainedHold]),
        (false, true, Some(Video), None, vec![FindingKind::UnexplainedHold]),
        (true, true, Some(Held), None, vec![]),
        (true, false, Some(Held), None, vec![FindingKind::HeldUnprotected]),
        (true, true, Some(Video), None, vec![FindingKind::HeldMistagged]),
        // Under embargo, without live viewing.
        (true, true, Some(Held), Some(3600), vec![FindingKind::HeldMistagged]),
        (true, true, Some(Sealed), Some(3600), vec![]),
        // The embargo ended ten seconds ago: a pass has time to change the tag.
        (true, true, Some(Sealed), Some(530), vec![]),
        (true, true, Some(Sealed), None, vec![FindingKind::HeldMistagged]),
    ] {
        assert_eq!(
            judged(is_held, legal_hold, tag, embargo),
            expected,
            "{is_held} {legal_hold} {tag:?} {embargo:?}"
        );
    }
}

#[test]
fn store_lag_counts_from_documented_lifecycle_time() {
    let it = listed_version("hal", 0, 62);
    // Uploaded just after midnight: hidden at the 25th midnight from there.
    for (now, lag) in [(25 * DAY, 0), (25 * DAY + 3600, 3600)] {
        assert_eq!(tally_of(std::slice::from_ref(&it), &[], now).lifecycle_lag_seconds.as_secs(), lag);
    }
    let marker = ListedVersion { is_marker: true, id: "m".into(), modified: at(25 * DAY + 60), ..it.clone() };
    // Hidden just after midnight: deleted at the second midnight from there.
    let tally = tally_of(&[marker, it], &[], 27 * DAY + 7200);
    assert_eq!(tally.lifecycle_lag_seconds.as_secs(), 7200);
}

#[test]
fn unsettled_holds_and_recent_uploads_are_not_evaluated() {
    let it = listed_version("hal", 0, 62);
    let stored = StoredRecording::of(&it, &PROTOCOL_CEILINGS).unwrap();
    let hold = hold_over_all();
    let found_at = |holds: &AuditedHolds, now| {
        let rules = AuditRules { terms: &TERMS, holds, now: at(now) };
        let mut tally = Tally::default();
        let marks = Protection { legal_hold: false, tag: Some(RetentionTag::Video) };
        tally_inspected(&mut tally, &rules, &stored, true, &marks);
        finding_kinds(&tally)
    };
    let moving = AuditedHolds { settled: vec![], ..settled_holds(&hold) };
    assert_eq!(found_at(&moving, 600), []);
    assert_eq!(found_at(&settled_holds(&hold), 300), [], "it came five minutes ago");
    assert_eq!(
        found_at(&settled_holds(&hold), 600),
        [FindingKind::HeldUnprotected, FindingKind::HeldMistagged]
    );
}
