//! Gaps in a camera's recordings, as its status has them. Pure.
//!
//! A recorder reports the gaps since its own start. A gap that began before that start, such as a restart, has no beginning
//! in the report. It begins where the last reply ends, exact to the interval between two queries: see
//! [`super::observe::LastReplies`].

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::CameraGap;
use crate::wire::{Gap, GapCause};

/// Gaps in a status, the newest.
pub const MAX_GAPS: usize = 10;

/// Returns the latest of `gaps`, as many as a status has.
pub fn latest(gaps: &[CameraGap]) -> Vec<CameraGap> {
    gaps.get(gaps.len().saturating_sub(MAX_GAPS)..).unwrap_or_default().to_vec()
}

/// Knowledge about a gap whose beginning its recorder does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GapStart {
    /// Its beginning; `None`: nobody knows it.
    pub at: Option<Timestamp>,
    /// Whether an earlier recorder got frames after its own start, so that a gap that is open in the status ended with it.
    pub is_another: bool,
}

/// Adds the gaps that the recorder `reported` to those `known`. One without a beginning begins at `start`. The newest is last.
pub fn merge(known: &[CameraGap], reported: &[Gap], start: GapStart) -> Vec<CameraGap> {
    let GapStart { at: gap_start, is_another } = start;
    let mut gaps = known.to_vec();
    if is_another {
        close_open_gaps(&mut gaps, gap_start.and_then(whole_seconds));
    }
    for gap in reported {
        let cause: &str = gap.cause.into();
        let (from, until) = (gap.from.and_then(whole_seconds), gap.until.and_then(whole_seconds));
        if let Some(same) = gaps.iter_mut().find(|known| is_same_gap(known, cause, from, until)) {
            // A restarted recorder does not know the beginning any more: the known one stays.
            same.from = same.from.clone().or(from.map(Time));
            same.until = until.map(Time);
            continue;
        }
        let from = from
            .or_else(|| gap_start.and_then(whole_seconds))
            .filter(|from| until.is_none_or(|until| *from <= until));
        close_open_gaps(&mut gaps, from);
        gaps.push(CameraGap { reason: cause.to_owned(), from: from.map(Time), until: until.map(Time) });
    }
    sorted(gaps)
}

fn sorted(mut gaps: Vec<CameraGap>) -> Vec<CameraGap> {
    gaps.sort_by_key(|gap| {
        (gap.until.is_none(), gap.until.as_ref().or(gap.from.as_ref()).map(|time| time.0))
    });
    gaps
}

/// Adds what a spool had that was lost with its recorder.
pub fn add_lost_spool(known: &[CameraGap], from: Option<Timestamp>, until: Timestamp) -> Vec<CameraGap> {
    let cause: &str = GapCause::SpoolLost.into();
    let (from, until) = (from.and_then(whole_seconds), whole_seconds(until));
    let is_known = known.iter().any(|gap| is_same_gap(gap, cause, from, until));
    if is_known || from >= until {
        return known.to_vec();
    }
    let lost = CameraGap { reason: cause.to_owned(), from: from.map(Time), until: until.map(Time) };
    sorted(known.iter().cloned().chain([lost]).collect())
}

/// Closes the gaps that were open when their recorder was lost. Each ends at the beginning of the next gap.
fn close_open_gaps(gaps: &mut [CameraGap], next: Option<Timestamp>) {
    for gap in gaps.iter_mut().filter(|gap| gap.until.is_none()) {
        gap.until = next
            .filter(|next| gap.from.as_ref().is_none_or(|from| from.0 <= *next))
            .map(Time)
            .or_else(|| gap.from.clone());
    }
}

/// Whether a reported gap is `known`. Every reply repeats a gap: first without an end, and after a restart of the recorder
/// without a beginning.
fn is_same_gap(known: &CameraGap, cause: &str, from: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    let known_from = known.from.as_ref().map(|time| time.0);
    let known_until = known.until.as_ref().map(|time| time.0);
    known.reason == cause
        && match (from, until) {
            (Some(_), _) if known_from == from => true,
            (_, Some(_)) if known_until == until => true,
            (None, _) => known_until.is_none(),
            _ => false,
        }
}

/// Drops fractions of a second. A status has none, so a comparison with it would fail.
fn whole_seconds(instant: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(instant.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn gap(cause: GapCause, from: Option<i64>, until: Option<i64>) -> Gap {
        Gap { cause, from: from.map(at), until: until.map(at) }
    }

    fn from(start: Timestamp) -> GapStart {
        GapStart { at: Some(start), is_another: false }
    }

    fn rows(gaps: &[CameraGap]) -> Vec<(&str, Option<i64>, Option<i64>)> {
        let second = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_second());
        gaps.iter().map(|gap| (gap.reason.as_str(), second(&gap.from), second(&gap.until))).collect()
    }

    #[test]
    fn repeated_gap_report_is_one_gap() {
        let disconnected = |until| [gap(GapCause::Disconnected, Some(10_400), until)];
        let open = merge(&[], &disconnected(None), GapStart::default());
        assert_eq!(rows(&open), [("Disconnected", Some(10), None)]);
        assert_eq!(merge(&open, &disconnected(None), from(at(99_000))), open);
        let closed = merge(&open, &disconnected(Some(30_900)), GapStart::default());
        assert_eq!(rows(&closed), [("Disconnected", Some(10), Some(30))]);
        assert_eq!(
            merge(&closed, &[], GapStart::default()),
            closed,
            "a recorder that forgot the gap does not remove it"
        );
    }

    fn restart(until: Option<i64>) -> [Gap; 1] {
        [gap(GapCause::RecorderRestarted, None, until)]
    }

    #[test]
    fn restart_gap_keeps_start_at_last_frame() {
        let reported = restart(Some(50_000));
        let first = merge(&[], &reported, from(at(40_000)));
        assert_eq!(rows(&first), [("RecorderRestarted", Some(40), Some(50))]);
        let later = merge(&first, &reported, from(at(80_000)));
        assert_eq!(later, first, "the last frame is after the gap now");
        assert_eq!(rows(&merge(&[], &reported, from(at(80_000)))), [("RecorderRestarted", None, Some(50))]);
        assert_eq!(
            rows(&merge(&[], &reported, GapStart::default())),
            [("RecorderRestarted", None, Some(50))]
        );
    }

    #[test]
    fn ongoing_restart_gap_gets_its_end() {
        let open = merge(&[], &restart(None), from(at(40_000)));
        assert_eq!(rows(&open), [("RecorderRestarted", Some(40), None)]);
        let closed = merge(&open, &restart(Some(50_000)), from(at(50_100)));
        assert_eq!(rows(&closed), [("RecorderRestarted", Some(40), Some(50))]);
    }

    #[test]
    fn gap_of_lost_recorder_ends_at_next_gap() {
        let open = merge(&[], &[gap(GapCause::Disconnected, Some(10_000), None)], GapStart::default());
        for (last_frame, end, start) in [(9_000, 10, 9), (30_000, 30, 30)] {
            let after = merge(&open, &restart(Some(50_000)), from(at(last_frame)));
            let expected =
                [("Disconnected", Some(10), Some(end)), ("RecorderRestarted", Some(start), Some(50))];
            assert_eq!(rows(&after), expected);
        }
    }

    #[test]
    fn separate_restarts_are_separate_gaps() {
        let first = merge(&[], &restart(Some(50_000)), from(at(40_000)));
        let second = merge(&first, &restart(Some(90_000)), from(at(80_000)));
        let expected = [("RecorderRestarted", Some(40), Some(50)), ("RecorderRestarted", Some(80), Some(90))];
        assert_eq!(rows(&second), expected);
    }

    /// The first of two restarts in a row recorded for some seconds, and nobody heard of the end of its gap.
    #[test]
    fn gap_of_another_recorder_is_another_gap() {
        let first = merge(&[], &restart(None), GapStart::default());
        let another = GapStart { at: Some(at(57_000)), is_another: true };
        let second = merge(&first, &restart(Some(63_000)), another);
        let expected = [("RecorderRestarted", None, Some(57)), ("RecorderRestarted", Some(57), Some(63))];
        assert_eq!(rows(&second), expected);
        assert_eq!(merge(&second, &restart(Some(63_000)), GapStart { is_another: false, ..another }), second);
        // With a spool that outlasts it, the next recorder knows that the gap goes on.
        let lasting = [gap(GapCause::Disconnected, Some(10_000), None)];
        let known = merge(&[], &lasting, GapStart::default());
        assert_eq!(merge(&known, &lasting, another), known);
    }

    #[test]
    fn lost_spool_is_one_gap_and_ends_no_other() {
        let open = merge(&[], &[gap(GapCause::Disconnected, Some(60_000), None)], GapStart::default());
        let once = add_lost_spool(&open, Some(at(10_400)), at(50_900));
        assert_eq!(rows(&once), [("SpoolLost", Some(10), Some(50)), ("Disconnected", Some(60), None)]);
        assert_eq!(add_lost_spool(&once, Some(at(10_400)), at(50_900)), once);
        assert_eq!(rows(&add_lost_spool(&[], None, at(50_000))), [("SpoolLost", None, Some(50))]);
        assert_eq!(add_lost_spool(&[], Some(at(50_000)), at(50_000)), [], "all of it was uploaded");
    }

    proptest::proptest! {
        #[test]
        fn status_has_the_newest_ten_gaps(
            reported in proptest::collection::vec((0_i64..500_000, 0_i64..60_000), 0..25),
        ) {
            let closed = |(from, duration)| gap(GapCause::Disconnected, Some(from), Some(from + duration));
            let mut reported: Vec<Gap> = reported.into_iter().map(closed).collect();
            reported.sort_by_key(|gap| gap.until);
            reported.truncate(20);
            let all = merge(&[], &reported, GapStart::default());
            let once = latest(&all);
            proptest::prop_assert!(once.len() <= MAX_GAPS && all.ends_with(&once));
            let last: Vec<Gap> = reported.iter().rev().take(3).rev().cloned().collect();
            proptest::prop_assert!(latest(&merge(&once, &last, GapStart::default())).len() <= MAX_GAPS);
        }
    }
}
