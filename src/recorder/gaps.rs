//! Stretches without picture, each with a cause. What is not recorded must be told apart from what was lost
//! (article 5: a camera that was covered has no recording, and that is right).

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::wire::{Gap, GapCause};

const MAX_GAPS: usize = 20;
/// Between two pictures that follow each other no more time passes: cameras make one a second at least.
const MAX_FRAME_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// The gaps of one camera, and where its recording has come to. Kept in the spool, so that a recorder that is
/// started again knows where the last one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapLog {
    /// The end of the newest picture that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<Timestamp>,
    /// The gap that is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Gap>,
    /// Those that ended, newest last.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    ended: VecDeque<Gap>,
}

impl GapLog {
    /// The recorder starts: what was recorded up to `recorded` by the one before goes on after a gap, unless
    /// one was going on already.
    pub fn resume(&mut self, recorded: Option<Timestamp>) {
        self.recorded = self.recorded.max(recorded);
        if self.open.is_none() {
            self.open = Some(Gap { cause: GapCause::RecorderRestarted, from: self.recorded, until: None });
        }
    }

    /// The recorder before had recorded up to `end`, as its last file turned out to say: the gap since then is
    /// that much shorter.
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

    /// There is no picture, for this cause. Tells whether that is news.
    pub fn begin(&mut self, cause: GapCause, now: Timestamp) -> bool {
        let from = match self.open.take() {
            Some(open) if open.cause == cause => {
                self.open = Some(open);
                return false;
            }
            Some(open) => {
                self.push_ended(Gap { until: Some(now), ..open });
                Some(now)
            }
            None => self.recorded.or(Some(now)),
        };
        self.open = Some(Gap { cause, from, until: None });
        true
    }

    /// A picture that was taken at `from` and ends at `until` is recorded. Gives the gap that this ends: one
    /// that was known, or a hole that nobody told of, such as a camera that froze and went on.
    pub fn record(&mut self, from: Timestamp, until: Timestamp) -> Option<Gap> {
        let before = self.recorded;
        self.recorded = before.max(Some(until));
        let hole = || {
            let since = before.filter(|before| from.duration_since(*before) > MAX_FRAME_INTERVAL);
            since.map(|since| Gap { cause: GapCause::Disconnected, from: Some(since), until: None })
        };
        let gap = Gap { until: Some(from), ..self.open.take().or_else(hole)? };
        self.push_ended(gap.clone());
        Some(gap)
    }

    /// What had been recorded is gone. One loss goes on from the last, so that a long one does not push out all
    /// other gaps.
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

    /// Whether a gap is going on, as far as anybody told.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The end of the newest picture that was recorded.
    pub const fn recorded_until(&self) -> Option<Timestamp> {
        self.recorded
    }

    /// The latest gaps, newest last, the one that is going on at the end.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn gap(cause: GapCause, from: Option<i64>, until: Option<i64>) -> Gap {
        Gap { cause, from: from.map(at), until: until.map(at) }
    }

    #[test]
    fn first_start_begins_a_gap_of_unknown_start() {
        let mut log = GapLog::default();
        log.resume(None);
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, None, None)]);
        log.record(at(10), at(11));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, None, Some(10))]);
    }

    #[test]
    fn new_cause_begins_an_adjacent_gap() {
        let mut log = GapLog::default();
        log.resume(None);
        log.record(at(10), at(20));
        assert!(log.begin(GapCause::Disconnected, at(25)));
        assert!(!log.begin(GapCause::Disconnected, at(26)));
        assert!(log.begin(GapCause::Suspended, at(30)));
        log.record(at(40), at(41));
        assert_eq!(
            log.latest()[1..],
            [gap(GapCause::Disconnected, Some(20), Some(30)), gap(GapCause::Suspended, Some(30), Some(40))]
        );
    }

    #[test]
    fn restart_gap_begins_at_last_recorded_frame() {
        let mut log = GapLog::default();
        log.resume(None);
        log.record(at(10), at(20));
        let text = serde_json::to_string(&log).unwrap();
        let mut log: GapLog = serde_json::from_str(&text).unwrap();
        // The spool had a file with a little more in it.
        log.resume(Some(at(22)));
        log.record(at(30), at(31));
        assert_eq!(log.latest().last(), Some(&gap(GapCause::RecorderRestarted, Some(22), Some(30))));
    }

    #[test]
    fn recovered_recording_shortens_restart_gap() {
        let mut log = GapLog::default();
        log.record(at(10), at(20));
        log.resume(None);
        log.mark_recovered(at(21));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(21), None)]);
        log.record(at(30), at(31));
        log.mark_recovered(at(22));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(22), Some(30))]);
        // Of what came after the gap it says nothing.
        log.mark_recovered(at(31));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(22), Some(30))]);
    }

    #[test]
    fn open_gap_keeps_its_cause_across_restart() {
        let mut log = GapLog::default();
        log.record(at(10), at(20));
        log.begin(GapCause::NotPermitted, at(20));
        log.resume(None);
        assert!(!log.begin(GapCause::NotPermitted, at(30)));
        assert_eq!(log.latest(), [gap(GapCause::NotPermitted, Some(20), None)]);
    }

    #[test]
    fn unreported_hole_becomes_a_gap() {
        let mut log = GapLog::default();
        assert_eq!(log.record(at(10), at(20)), None);
        assert_eq!(log.record(at(20), at(21)), None);
        // Slow, and still one picture after the other.
        assert_eq!(log.record(at(23), at(24)), None);
        let hole = gap(GapCause::Disconnected, Some(24), Some(60));
        assert_eq!(log.record(at(60), at(61)), Some(hole.clone()));
        // A clock that was set back is no hole.
        assert_eq!(log.record(at(50), at(51)), None);
        assert_eq!(log.latest(), [hole]);
    }

    #[test]
    fn adjacent_losses_are_one_gap() {
        let mut log = GapLog::default();
        log.record(at(0), at(600));
        log.begin(GapCause::Disconnected, at(600));
        log.record(at(700), at(701));
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
            log.record(at(n * 10), at(n * 10 + 5));
            log.begin(GapCause::Disconnected, at(n * 10 + 6));
        }
        assert_eq!(log.latest().len(), MAX_GAPS);
        assert_eq!(log.latest().last(), Some(&gap(GapCause::Disconnected, Some(495), None)));
    }
}
