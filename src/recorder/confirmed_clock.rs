//! The time that the store or the operator confirms.
//!
//! The wall clock of a node may be wrong by months: after a start without a battery, it shows any time until NTP corrects
//! it. So the recorder deletes nothing by that clock alone. It takes the time from the `Date` of the store's answers, and
//! from the operator's requests. The monotonic clock continues that time, so that a step of the wall clock changes nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::api::MAX_CLOCK_SKEW;
use crate::sync::lock;

/// Time for which the operator's clock must run steadily before it confirms anything. On a cluster of one node, the operator
/// has the same wrong clock as the recorder until NTP corrects both.
const OPERATOR_PROBATION: Duration = Duration::from_mins(15);
/// Mean difference between the store's clock and its `Date`, which has whole seconds.
const DATE_ROUNDING: SignedDuration = SignedDuration::from_millis(500);

/// A time that the store or the operator confirms. Only [`ConfirmedClock`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfirmedTime(Timestamp);

impl ConfirmedTime {
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }
}

/// A time and the moment at which it was read.
#[derive(Clone, Copy, Debug)]
struct TimeReading {
    time: Timestamp,
    read_at: Instant,
}

impl TimeReading {
    /// Returns the time at `now`; `None`: it is out of range.
    fn at(self, now: Instant) -> Option<Timestamp> {
        let elapsed = SignedDuration::try_from(now.saturating_duration_since(self.read_at)).ok()?;
        self.time.checked_add(elapsed).ok()
    }
}

#[derive(Debug, Default)]
struct Readings {
    store: Option<TimeReading>,
    operator: Option<TimeReading>,
    /// First of the operator's readings that agree up to the newest.
    operator_steady_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct ConfirmedClock(Mutex<Readings>);

impl ConfirmedClock {
    /// Takes the `Date` of an answer of the store.
    pub fn read_store(&self, date: Timestamp, now: Instant) {
        let time = date.checked_add(DATE_ROUNDING).unwrap_or(date);
        lock(&self.0).store = Some(TimeReading { time, read_at: now });
    }

    /// Takes the operator's time.
    pub fn read_operator(&self, time: Timestamp, now: Instant) {
        let mut readings = lock(&self.0);
        let expected = readings.operator.and_then(|previous| previous.at(now));
        let is_steady =
            expected.is_some_and(|expected| time.duration_since(expected).abs() <= MAX_CLOCK_SKEW);
        if !is_steady {
            readings.operator_steady_since = Some(now);
        }
        readings.operator = Some(TimeReading { time, read_at: now });
    }

    /// Returns the confirmed time at `now`: the store's, or before its first answer the operator's, once that is steady.
    /// `None`: neither confirms a time.
    pub fn time_at(&self, now: Instant) -> Option<ConfirmedTime> {
        let readings = lock(&self.0);
        let steady_operator = || {
            let (newest, since) = (readings.operator?, readings.operator_steady_since?);
            (newest.read_at.saturating_duration_since(since) >= OPERATOR_PROBATION).then_some(newest)
        };
        readings.store.or_else(steady_operator)?.at(now).map(ConfirmedTime)
    }

    /// Returns the lead of `wall` over the store's time, or before its first answer over the operator's, even if that is not
    /// steady yet. `None`: neither is known.
    pub fn lead_of(&self, wall: Timestamp, now: Instant) -> Option<SignedDuration> {
        let readings = lock(&self.0);
        let time = readings.store.or(readings.operator)?.at(now)?;
        Some(wall.duration_since(time))
    }

    /// Returns the lead of this machine's wall clock now.
    pub fn lead(&self) -> Option<SignedDuration> {
        self.lead_of(Timestamp::now(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn monotonic_clock_continues_the_store_time() {
        let (clock, now) = (ConfirmedClock::default(), Instant::now());
        assert_eq!((clock.time_at(now), clock.lead_of(at(0), now)), (None, None));
        clock.read_store(at(1000), now);
        let time = clock.time_at(after(now, 60)).unwrap().timestamp();
        assert_eq!(time, at(1060) + DATE_ROUNDING);
        // The wall clock was set ahead by an hour meanwhile.
        let lead = clock.lead_of(at(1060 + 3600), after(now, 60)).unwrap();
        assert_eq!(lead, SignedDuration::from_secs(3600) - DATE_ROUNDING);
    }

    #[test]
    fn operator_confirms_only_a_steady_time_and_never_against_the_store() {
        let (clock, now) = (ConfirmedClock::default(), Instant::now());
        let probation = OPERATOR_PROBATION.as_secs();
        clock.read_operator(at(9_000_000), now);
        assert_eq!(clock.time_at(now), None);
        assert_eq!(clock.lead_of(at(9_000_000), now), Some(SignedDuration::ZERO), "but the lead is known");
        // NTP corrects the operator's clock.
        clock.read_operator(at(1000), after(now, 10));
        assert_eq!(clock.time_at(after(now, probation)), None);
        clock.read_operator(at(1000 + 600), after(now, 610));
        assert_eq!(clock.time_at(after(now, 10 + probation)), None, "without a newer reading");
        let steady = after(now, 10 + probation);
        clock.read_operator(at(1000 + 900), steady);
        assert_eq!(clock.time_at(steady), Some(ConfirmedTime(at(1000) + SignedDuration::from_mins(15))));
        clock.read_store(at(5000), steady);
        clock.read_operator(at(9_000_000), steady);
        assert_eq!(clock.time_at(steady), Some(ConfirmedTime(at(5000) + DATE_ROUNDING)));
    }
}
