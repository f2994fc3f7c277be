//! Periods without video, each with a cause. Readers must be able to distinguish a lost recording from one that
//! was not made (article 5: a covered camera rightly has no recording).

use std::collections::VecDeque;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::wire::{Gap, GapCause};

const MAX_GAPS: usize = 20;
/// Longest time between two frames without a gap: cameras send at least one frame a second.
const MAX_FRAME_INTERVAL: SignedDuration = SignedDuration::from_secs(2);
/// Longest time by which a hole may exceed the elapsed time, because frames or a write were late. A longer one is a step of
/// the clock.
const MAX_DELAY: SignedDuration = SignedDuration::from_mins(1);

/// The gaps of one camera, and the end of its recording. It is stored in the spool, so that the next recorder knows where
/// the previous one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapLog {
    /// End of the newest recorded frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<Timestamp>,
    /// When that frame was noted.
    #[serde(skip)]
    noted_at: Option<Instant>,
    /// Gap that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Gap>,
    /// Earlier gaps, newest last.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    ended: VecDeque<Gap>,
}

impl GapLog {
    /// Notes a start of the recorder. The previous one recorded until `recorded`. A gap follows, unless one is open.
    pub fn resume(&mut self, recorded: Option<Timestamp>) {
        self.recorded = self.recorded.max(recorded);
        if self.open.is_none() {
            self.open = Some(Gap { cause: GapCause::RecorderRestarted, from: self.recorded, until: None });
        }
    }

    /// Shortens the gap of the restart: by its last file, the previous recorder had recorded until `end`.
    pub fn mark_recovered(&mut self, end: Timestamp) {
        self.recorded = self.recorded.max(Some(end));
        for gap in self.ended.iter_mut().chain(&mut self.open) {
            let is_inside =
                gap.from.is_none_or(|from| from < end) && gap.until.is_none_or(|until| end <= until);
            if gap.cause == GapCause::RecorderRestarted && is_inside {
                gap.from = Some(end);
            }
        }
    }

    /// Notes that no video arrives, for this cause. Returns whether a gap begins.
    pub fn begin(&mut self, cause: GapCause, now: Timestamp) -> bool {
        let from = match self.open.take() {
            Some(open) if open.cause == cause => {
                self.open = Some(open);
                return false;
            }
            Some(open) => {
                self.push_ended(end_gap(open, now));
                now
            }
            // A clock that was set back shows a time before the newest frame.
            None => self.recorded.unwrap_or(now).min(now),
        };
        self.open = Some(Gap { cause, from: Some(from), until: None });
        true
    }

    /// Notes at `now` a recording from `from` to `until`. Returns the gap that it ends. That is the open gap, or one without a
    /// report, such as of a camera that froze, or of a clock that was set.
    pub fn record(&mut self, from: Timestamp, until: Timestamp, now: Instant) -> Option<Gap> {
        // After a clock was set back, `until` is before the newest frame. If that stayed, it would hide all holes until then.
        let before = self.recorded.replace(until);
        let noted_at = self.noted_at.replace(now);
        let unreported = || unreported_cause(from.duration_since(before?), now, noted_at);
        let gap = match self.open.take() {
            Some(open) => open,
            None => Gap { cause: unreported()?, from: before, until: None },
        };
        let gap = end_gap(gap, from);
        self.push_ended(gap.clone());
        Some(gap)
    }

    /// Notes the loss of a recording. Adjacent losses become one gap, so that a long loss does not displace all other
    /// gaps.
    pub fn add_loss(&mut self, cause: GapCause, from: Timestamp, until: Timestamp) {
        let adjacent = self.ended.iter_mut().rev().find(|gap| {
            let apart = gap.until.map(|end| from.duration_since(end).abs());
            gap.cause == cause && apart.is_some_and(|apart| apart <= MAX_FRAME_INTERVAL)
        });
        match adjacent {
            Some(gap) => gap.until = gap.until.max(Some(until)),
            None => self.push_ended(Gap { cause, from: Some(from), until: Some(until) }),
        }
    }

    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns the end of the newest recorded frame.
    pub const fn recorded_until(&self) -> Option<Timestamp> {
        self.recorded
    }

    /// Returns the latest gaps, newest last, including the open one.
    pub fn latest(&self) -> Vec<Gap> {
        let mut all: Vec<Gap> = self.ended.iter().chain(&self.open).cloned().collect();
        all.drain(..all.len().saturating_sub(MAX_GAPS));
        all
    }

    fn push_ended(&mut self, gap: Gap) {
        self.ended.push_back(gap);
        while self.ended.len() > MAX_GAPS {
            self.ended.pop_front();
        }
    }
}

/// Returns the gap with its end. Its beginning may be later, if the clock was set back during the gap.
fn end_gap(gap: Gap, until: Timestamp) -> Gap {
    Gap { from: gap.from.map(|from| from.min(until)), until: Some(until), ..gap }
}

/// Returns the cause of a hole that no task reported; `None`: it is too short for a gap. A negative hole is an overlap.
fn unreported_cause(hole: SignedDuration, now: Instant, noted_at: Option<Instant>) -> Option<GapCause> {
    if hole < -MAX_FRAME_INTERVAL {
        return Some(GapCause::ClockNotSynchronized);
    }
    if hole <= MAX_FRAME_INTERVAL {
        return None;
    }
    let elapsed = noted_at.map(|noted_at| now.saturating_duration_since(noted_at));
    let elapsed = elapsed.and_then(|elapsed| SignedDuration::try_from(elapsed).ok());
    let is_step = elapsed.is_some_and(|elapsed| hole > elapsed.saturating_add(MAX_DELAY));
    Some(if is_step { GapCause::ClockNotSynchronized } else { GapCause::Disconnected })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    static BOOT: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// Notes a recording while both clocks agree.
    fn record(log: &mut GapLog, from: i64, until: i64) -> Option<Gap> {
        record_after(log, from, until, until)
    }

    /// Notes a recording so many seconds after the boot by the monotonic clock.
    fn record_after(log: &mut GapLog, from: i64, until: i64, elapsed: i64) -> Option<Gap> {
        log.record(at(from), at(until), *BOOT + Duration::from_secs(elapsed.unsigned_abs()))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn gap(cause: GapCause, from: Option<i64>, until: Option<i64>) -> Gap {
        Gap { cause, from: from.map(at), until: until.map(at) }
    }

    /// A log with a recording and without gaps.
    fn recorded(from: i64, until: i64) -> GapLog {
        let mut log = GapLog::default();
        record(&mut log, from, until);
        log
    }

    #[test]
    fn first_start_begins_a_gap_of_unknown_start() {
        let mut log = GapLog::default();
        log.resume(None);
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, None, None)]);
        record(&mut log, 10, 11);
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, None, Some(10))]);
    }

    #[test]
    fn new_cause_begins_an_adjacent_gap() {
        let mut log = recorded(10, 20);
        assert!(log.begin(GapCause::Disconnected, at(25)));
        assert!(!log.begin(GapCause::Disconnected, at(26)));
        assert!(log.begin(GapCause::Suspended, at(30)));
        record(&mut log, 40, 41);
        assert_eq!(
            log.latest(),
            [gap(GapCause::Disconnected, Some(20), Some(30)), gap(GapCause::Suspended, Some(30), Some(40))]
        );
    }

    #[test]
    fn restart_gap_begins_at_last_recorded_frame() {
        let log = recorded(10, 20);
        let text = serde_json::to_string(&log).unwrap();
        let mut log: GapLog = serde_json::from_str(&text).unwrap();
        // A file in the spool contains two more seconds.
        log.resume(Some(at(22)));
        record(&mut log, 30, 31);
        assert_eq!(log.latest().last(), Some(&gap(GapCause::RecorderRestarted, Some(22), Some(30))));
    }

    #[test]
    fn recovered_recording_shortens_restart_gap() {
        let mut log = recorded(10, 20);
        log.resume(None);
        log.mark_recovered(at(21));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(21), None)]);
        record(&mut log, 30, 31);
        log.mark_recovered(at(22));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(22), Some(30))]);
        // An end after the gap changes nothing.
        log.mark_recovered(at(31));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(22), Some(30))]);
    }

    #[test]
    fn open_gap_keeps_its_cause_across_restart() {
        let mut log = recorded(10, 20);
        log.begin(GapCause::NotPermitted, at(20));
        log.resume(None);
        assert!(!log.begin(GapCause::NotPermitted, at(30)));
        assert_eq!(log.latest(), [gap(GapCause::NotPermitted, Some(20), None)]);
    }

    #[test]
    fn unreported_hole_becomes_a_gap() {
        let mut log = GapLog::default();
        assert_eq!(record(&mut log, 10, 20), None);
        assert_eq!(record(&mut log, 20, 21), None);
        // A slow camera, but no gap.
        assert_eq!(record(&mut log, 23, 24), None);
        let unreported = gap(GapCause::Disconnected, Some(24), Some(60));
        assert_eq!(record(&mut log, 60, 61), Some(unreported.clone()));
        assert_eq!(log.latest(), [unreported]);
    }

    #[test]
    fn step_of_the_clock_is_a_gap_and_hides_no_hole() {
        let mut log = GapLog::default();
        assert_eq!(record_after(&mut log, 1000, 1010, 10), None);
        // Set back by 500 s.
        let step = gap(GapCause::ClockNotSynchronized, Some(510), Some(510));
        assert_eq!(record_after(&mut log, 510, 511, 11), Some(step));
        let hole = gap(GapCause::Disconnected, Some(511), Some(541));
        assert_eq!(record_after(&mut log, 541, 542, 42), Some(hole));
        // Set ahead by an hour.
        let step = gap(GapCause::ClockNotSynchronized, Some(542), Some(4142));
        assert_eq!(record_after(&mut log, 4142, 4143, 43), Some(step));
        // The camera froze for an hour.
        let hole = gap(GapCause::Disconnected, Some(4143), Some(7743));
        assert_eq!(record_after(&mut log, 7743, 7744, 3644), Some(hole));
    }

    #[test]
    fn gap_after_clock_was_set_back_ends_after_it_begins() {
        let mut log = recorded(1000, 1010);
        log.begin(GapCause::Disconnected, at(500));
        assert_eq!(log.latest(), [gap(GapCause::Disconnected, Some(500), None)]);
        log.begin(GapCause::Suspended, at(400));
        record(&mut log, 300, 301);
        let expected = [
            gap(GapCause::Disconnected, Some(400), Some(400)),
            gap(GapCause::Suspended, Some(300), Some(300)),
        ];
        assert_eq!(log.latest(), expected);
    }

    proptest! {
        #[test]
        fn every_gap_ends_after_it_begins(
            steps in proptest::collection::vec((0_u8..6, 0_i64..200, 0_i64..50, 0_i64..200), 1..60),
        ) {
            let mut log = GapLog::default();
            for (step, time, length, elapsed) in steps {
                match step {
                    0 => { log.begin(GapCause::Disconnected, at(time)); }
                    1 => { log.begin(GapCause::Suspended, at(time)); }
                    2 => log.resume(Some(at(time))),
                    3 => log.mark_recovered(at(time)),
                    4 => log.add_loss(GapCause::SpoolFull, at(time), at(time + length)),
                    _ => { record_after(&mut log, time, time + length, elapsed); }
                }
                for gap in log.latest() {
                    let is_ordered = gap.from.zip(gap.until).is_none_or(|(from, until)| from <= until);
                    prop_assert!(is_ordered, "{gap:?}");
                }
            }
        }

        #[test]
        fn every_hole_is_in_a_gap_after_any_step(step in -100_000_i64..100_000, hole in 3_i64..1000) {
            let start = 1_000_000;
            let mut log = recorded(start, start + 10);
            record_after(&mut log, start + step + 10, start + step + 11, start + 11);
            let from = start + step + 11;
            record_after(&mut log, from + hole, from + hole + 1, start + 11 + hole);
            let expected = gap(GapCause::Disconnected, Some(from), Some(from + hole));
            prop_assert_eq!(log.latest().pop(), Some(expected));
        }
    }

    #[test]
    fn adjacent_losses_are_one_gap() {
        let mut log = recorded(0, 600);
        log.begin(GapCause::Disconnected, at(600));
        record(&mut log, 700, 701);
        for minute in 0..50 {
            log.add_loss(GapCause::SpoolFull, at(minute * 10), at(minute * 10 + 10));
        }
        assert_eq!(
            log.latest(),
            [gap(GapCause::Disconnected, Some(600), Some(700)), gap(GapCause::SpoolFull, Some(0), Some(500)),]
        );
    }

    #[test]
    fn log_keeps_at_most_twenty_gaps() {
        let mut log = GapLog::default();
        for n in 0..50 {
            record(&mut log, n * 10, n * 10 + 5);
            log.begin(GapCause::Disconnected, at(n * 10 + 6));
        }
        assert_eq!(log.latest().len(), MAX_GAPS);
        assert_eq!(log.latest().last(), Some(&gap(GapCause::Disconnected, Some(495), None)));
    }
}
