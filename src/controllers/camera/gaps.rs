//! Stretches without picture, as the status keeps them. Pure.
//!
//! A recorder tells the gaps of its own process. One that begins before it (a restart, a lost pod) has no
//! beginning there: it is the end of what was last known, within the seconds between two questions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::CameraGap;
use crate::wire::{Gap, GapCause};

/// So many are kept, the latest.
const MAX_GAPS: usize = 10;

/// The gaps `known` so far, with those that the recorder has `reported`.
pub fn merge(known: &[CameraGap], reported: &[Gap], last_frame_at: Option<Timestamp>) -> Vec<CameraGap> {
    let mut gaps = known.to_vec();
    for gap in reported {
        let (cause, from, until) =
            (cause_name(gap.cause), gap.from.and_then(whole_seconds), gap.until.and_then(whole_seconds));
        if let Some(old) = gaps.iter_mut().find(|old| is_same_gap(old, cause, from, until)) {
            // Its beginning, once told, is kept: the recorder may not know it any more.
            old.from = old.from.clone().or(from.map(Time));
            old.until = until.map(Time);
            continue;
        }
        let from = from
            .or_else(|| last_frame_at.and_then(whole_seconds))
            .filter(|from| until.is_none_or(|until| *from <= until));
        close_open_gaps(&mut gaps, from);
        gaps.push(CameraGap { reason: cause.to_owned(), from: from.map(Time), until: until.map(Time) });
    }
    gaps.sort_by_key(|gap| {
        (gap.until.is_none(), gap.until.as_ref().or(gap.from.as_ref()).map(|time| time.0))
    });
    let surplus = gaps.len().saturating_sub(MAX_GAPS);
    gaps.drain(..surplus);
    gaps
}

/// A gap that was open when its recorder was lost ended, as far as we can tell, where the next one begins.
fn close_open_gaps(gaps: &mut [CameraGap], next: Option<Timestamp>) {
    for gap in gaps.iter_mut().filter(|gap| gap.until.is_none()) {
        gap.until = next
            .filter(|next| gap.from.as_ref().is_none_or(|from| from.0 <= *next))
            .map(Time)
            .or_else(|| gap.from.clone());
    }
}

/// One gap is told at every question, first without an end; and by the process after the one that saw it
/// begin, without a beginning.
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

/// A status keeps whole seconds: what is compared with it must too.
fn whole_seconds(instant: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(instant.as_second()).ok()
}

const fn cause_name(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Disconnected => "Disconnected",
        GapCause::Suspended => "Suspended",
        GapCause::NotPermitted => "NotPermitted",
        GapCause::SpoolFull => "SpoolFull",
        GapCause::RecorderRestarted => "RecorderRestarted",
        GapCause::ClockNotSynchronized => "ClockNotSynchronized",
        GapCause::Other => "Other",
    }
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

    fn rows(gaps: &[CameraGap]) -> Vec<(&str, Option<i64>, Option<i64>)> {
        let second = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_second());
        gaps.iter().map(|gap| (gap.reason.as_str(), second(&gap.from), second(&gap.until))).collect()
    }

    #[test]
    fn repeated_gap_report_is_one_gap() {
        let open = merge(&[], &[gap(GapCause::Disconnected, Some(10_400), None)], None);
        assert_eq!(rows(&open), [("Disconnected", Some(10), None)]);
        assert_eq!(merge(&open, &[gap(GapCause::Disconnected, Some(10_400), None)], Some(at(99_000))), open);
        let closed = merge(&open, &[gap(GapCause::Disconnected, Some(10_400), Some(30_900))], None);
        assert_eq!(rows(&closed), [("Disconnected", Some(10), Some(30))]);
        assert_eq!(merge(&closed, &[], None), closed, "it stays when the recorder has forgotten it");
    }

    #[test]
    fn restart_gap_keeps_start_at_last_frame() {
        let told = [gap(GapCause::RecorderRestarted, None, Some(50_000))];
        let first = merge(&[], &told, Some(at(40_000)));
        assert_eq!(rows(&first), [("RecorderRestarted", Some(40), Some(50))]);
        let later = merge(&first, &told, Some(at(80_000)));
        assert_eq!(later, first, "what is known now is after the gap");
        assert_eq!(rows(&merge(&[], &told, Some(at(80_000)))), [("RecorderRestarted", None, Some(50))]);
        assert_eq!(rows(&merge(&[], &told, None)), [("RecorderRestarted", None, Some(50))]);
    }

    #[test]
    fn ongoing_restart_gap_gets_its_end() {
        let open = merge(&[], &[gap(GapCause::RecorderRestarted, None, None)], Some(at(40_000)));
        assert_eq!(rows(&open), [("RecorderRestarted", Some(40), None)]);
        let closed = merge(&open, &[gap(GapCause::RecorderRestarted, None, Some(50_000))], Some(at(50_100)));
        assert_eq!(rows(&closed), [("RecorderRestarted", Some(40), Some(50))]);
    }

    #[test]
    fn gap_of_lost_recorder_ends_at_next_gap() {
        let open = merge(&[], &[gap(GapCause::Disconnected, Some(10_000), None)], None);
        let after = merge(&open, &[gap(GapCause::RecorderRestarted, None, Some(50_000))], Some(at(9_000)));
        assert_eq!(
            rows(&after),
            [("Disconnected", Some(10), Some(10)), ("RecorderRestarted", Some(9), Some(50))]
        );
        let after = merge(&open, &[gap(GapCause::RecorderRestarted, None, Some(50_000))], Some(at(30_000)));
        assert_eq!(
            rows(&after),
            [("Disconnected", Some(10), Some(30)), ("RecorderRestarted", Some(30), Some(50))]
        );
    }

    #[test]
    fn separate_restarts_are_separate_gaps() {
        let first = merge(&[], &[gap(GapCause::RecorderRestarted, None, Some(50_000))], Some(at(40_000)));
        let second = merge(&first, &[gap(GapCause::RecorderRestarted, None, Some(90_000))], Some(at(80_000)));
        assert_eq!(
            rows(&second),
            [("RecorderRestarted", Some(40), Some(50)), ("RecorderRestarted", Some(80), Some(90))]
        );
    }

    proptest::proptest! {
        #[test]
        fn merge_keeps_at_most_ten_gaps(
            told in proptest::collection::vec((0_i64..500_000, 0_i64..60_000), 0..25),
        ) {
            let mut told: Vec<Gap> =
                told.into_iter().map(|(from, long)| gap(GapCause::Disconnected, Some(from), Some(from + long))).collect();
            told.sort_by_key(|gap| gap.until);
            told.truncate(20);
            let once = merge(&[], &told, None);
            proptest::prop_assert!(once.len() <= MAX_GAPS);
            let last: Vec<Gap> = told.iter().rev().take(3).rev().cloned().collect();
            proptest::prop_assert!(merge(&once, &last, None).len() <= MAX_GAPS);
        }
    }
}
