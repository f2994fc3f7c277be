//! Selects segments to evict, and judges their age. Pure, except for [`AgeLimit::now`].

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::name::Closed;
use crate::recorder::confirmed_clock::{ConfirmedClock, ConfirmedTime};

/// Returns the first segments of `spare`, oldest first, whose eviction makes room for `needed` bytes; `None` if all of
/// them are not enough.
pub fn select_evictions<'a>(
    spare: impl IntoIterator<Item = &'a Closed>,
    used: u64,
    needed: u64,
    limit: u64,
) -> Option<Vec<Closed>> {
    let mut over = used.saturating_add(needed).saturating_sub(limit);
    let mut evicted = Vec::new();
    for segment in spare {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(segment.bytes);
        evicted.push(segment.clone());
    }
    (over == 0).then_some(evicted)
}

/// The clocks by which segments age, and their ceiling (article 6).
#[derive(Clone, Copy, Debug)]
pub struct AgeLimit {
    pub ceiling: SignedDuration,
    /// `None`: neither the store nor the operator confirms a time.
    pub confirmed: Option<ConfirmedTime>,
    /// Time of this machine's wall clock, which may be wrong.
    pub wall: Timestamp,
    pub now: Instant,
}

/// Age of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    BelowCeiling,
    /// Past the ceiling by the wall clock alone: it may neither enter the bucket nor be deleted.
    Unconfirmed,
    PastCeiling,
}

impl AgeLimit {
    /// Returns the limit by the clocks of this moment.
    pub fn now(ceiling: SignedDuration, clock: &ConfirmedClock) -> Self {
        let now = Instant::now();
        Self { ceiling, confirmed: clock.time_at(now), wall: Timestamp::now(), now }
    }

    /// Returns the age of a recording that began at `start`. `recorded`: when this process began to record it. Then only the
    /// monotonic clock counts: the wall clock that gave `start` may have been wrong.
    pub fn age(&self, start: Timestamp, recorded: Option<Instant>) -> Age {
        if let Some(recorded) = recorded {
            let elapsed = self.now.saturating_duration_since(recorded);
            let is_past = Duration::try_from(self.ceiling).is_ok_and(|ceiling| elapsed > ceiling);
            return if is_past { Age::PastCeiling } else { Age::BelowCeiling };
        }
        let is_past_at = |time: Timestamp| time.duration_since(start) > self.ceiling;
        match self.confirmed {
            Some(time) if is_past_at(time.timestamp()) => Age::PastCeiling,
            None if is_past_at(self.wall) => Age::Unconfirmed,
            _ => Age::BelowCeiling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(second: i64, bytes: u64) -> Closed {
        let start = Timestamp::from_second(second).unwrap();
        Closed { start, camera: "hal".into(), duration_ms: 1000, sha256: [0; 32], bytes }
    }

    #[test]
    fn oldest_is_evicted_first_and_no_more_than_needed() {
        let all = [closed(1, 10), closed(2, 10), closed(3, 10)];
        let evicted = |needed, limit| select_evictions(&all, 30, needed, limit);
        assert_eq!(evicted(10, 40), Some(vec![]));
        assert_eq!(evicted(11, 40), Some(all[..1].to_vec()));
        assert_eq!(evicted(25, 40), Some(all[..2].to_vec()));
        assert_eq!(evicted(41, 40), None);
    }

    #[test]
    fn only_spare_segments_are_evicted() {
        let all = [closed(1, 10), closed(2, 10)];
        assert_eq!(select_evictions(&all[1..], 20, 5, 20), Some(all[1..].to_vec()));
        assert_eq!(select_evictions(&all[..0], 20, 5, 20), None);
    }

    #[test]
    fn only_confirmed_time_makes_a_segment_past_its_ceiling() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let now = Instant::now();
        let age = |confirmed: Option<i64>, wall: i64, recorded_ago: Option<u64>| {
            let clock = ConfirmedClock::default();
            if let Some(second) = confirmed {
                clock.read_store(at(second), now);
            }
            let limit = AgeLimit {
                ceiling: SignedDuration::from_secs(100),
                confirmed: clock.time_at(now),
                wall: at(wall),
                now,
            };
            limit.age(at(1000), recorded_ago.map(|ago| now.checked_sub(Duration::from_secs(ago)).unwrap()))
        };
        for (confirmed, wall, recorded_ago, expected) in [
            (Some(1050), 1050, None, Age::BelowCeiling),
            (Some(1150), 1150, None, Age::PastCeiling),
            // A wall clock that is ahead or behind does not count once a time is confirmed.
            (Some(1050), 9000, None, Age::BelowCeiling),
            (Some(1150), 10, None, Age::PastCeiling),
            (None, 1050, None, Age::BelowCeiling),
            (None, 9000, None, Age::Unconfirmed),
            // Recorded by this process, while the wall clock was behind.
            (Some(9000), 9000, Some(50), Age::BelowCeiling),
            (None, 9000, Some(50), Age::BelowCeiling),
            (None, 10, Some(101), Age::PastCeiling),
        ] {
            let case = (confirmed, wall, recorded_ago);
            assert_eq!(age(confirmed, wall, recorded_ago), expected, "{case:?}");
        }
    }
}
