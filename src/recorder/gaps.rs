//! Periods without video, each with a cause. Readers must be able to distinguish a lost recording from one that
//! was not made (article 5: a covered camera rightly has no recording).

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::wire::{Gap, GapCause};

const MAX_GAPS: usize = 20;
/// Longest time between two frames without a gap: cameras send at least one frame a second.
const MAX_FRAME_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// The gaps of one camera, and the end of its recording. It is stored in the spool, so that the next recorder knows where
/// the previous one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapLog {
    /// End of the newest recorded frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<Timestamp>,
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
                self.push_ended(Gap { until: Some(now), ..open });
                Some(now)
            }
            None => self.recorded.or(Some(now)),
        };
        self.open = Some(Gap { cause, from, until: None });
        true
    }

    /// Notes a recording from `from` to `until`. Returns the gap that it ends. That is the open gap, or one without a
    /// report, such as of a camera that froze.
    pub fn record(&mut self, from: Timestamp, until: Timestamp) -> Option<Gap> {
        let before = self.recorded;
        self.recorded = before.max(Some(until));
        let unreported = || {
            let since = before.filter(|before| from.duration_since(*before) > MAX_FRAME_INTERVAL);
            since.map(|since| Gap { cause: GapCause::Disconnected, from: Some(since), until: None })
        };
        let gap = Gap { until: Some(from), ..self.open.take().or_else(unreported)? };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn gap(cause: GapCause, from: Option<i64>, until: Option<i64>) -> Gap {
        Gap { cause, from: from.map(at), until: until.map(at) }
    }

    /// A log with a recording and without gaps.
    fn recorded(from: i64, until: i64) -> GapLog {
        let mut log = GapLog::default();
        log.record(at(from), at(until));
        log
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
        let mut log = recorded(10, 20);
        assert!(log.begin(GapCause::Disconnected, at(25)));
        assert!(!log.begin(GapCause::Disconnected, at(26)));
        assert!(log.begin(GapCause::Suspended, at(30)));
        log.record(at(40), at(41));
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
        log.record(at(30), at(31));
        assert_eq!(log.latest().last(), Some(&gap(GapCause::RecorderRestarted, Some(22), Some(30))));
    }

    #[test]
    fn recovered_recording_shortens_restart_gap() {
        let mut log = recorded(10, 20);
        log.resume(None);
        log.mark_recovered(at(21));
        assert_eq!(log.latest(), [gap(GapCause::RecorderRestarted, Some(21), None)]);
        log.record(at(30), at(31));
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
        assert_eq!(log.record(at(10), at(20)), None);
        assert_eq!(log.record(at(20), at(21)), None);
        // A slow camera, but no gap.
        assert_eq!(log.record(at(23), at(24)), None);
        let unreported = gap(GapCause::Disconnected, Some(24), Some(60));
        assert_eq!(log.record(at(60), at(61)), Some(unreported.clone()));
        // A clock that was set back causes no gap.
        assert_eq!(log.record(at(50), at(51)), None);
        assert_eq!(log.latest(), [unreported]);
    }

    #[test]
    fn adjacent_losses_are_one_gap() {
        let mut log = recorded(0, 600);
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
