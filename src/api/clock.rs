//! Clock skew between operator and store, and arithmetic with times that others wrote.

use jiff::{SignedDuration, Timestamp, TimestampArithmetic};

/// Maximum difference between two clocks.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Returns a past time from a status or the ledger. Returns `None` for a time further in the future than
/// [`MAX_CLOCK_SKEW`]: a wrong clock wrote it, and a wait for it could take years.
pub fn reject_future(time: Timestamp, now: Timestamp) -> Option<Timestamp> {
    Some(time).filter(|time| time.duration_since(now) <= MAX_CLOCK_SKEW)
}

/// Returns the time that is `by` later, or the last that there is. `+` panics there: the store, a status, a spec or a recorder may have
/// any time, such as one of the year 9999.
pub fn later(time: Timestamp, by: impl Into<TimestampArithmetic>) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns the time that is `by` earlier, or the first that there is: see [`later`].
pub fn earlier(time: Timestamp, by: impl Into<TimestampArithmetic>) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_ends_at_the_first_and_the_last_time() {
        let hour = SignedDuration::from_hours(1);
        assert_eq!(later(Timestamp::UNIX_EPOCH, hour), Timestamp::UNIX_EPOCH + hour);
        assert_eq!(earlier(Timestamp::UNIX_EPOCH, hour), Timestamp::UNIX_EPOCH - hour);
        for by in [hour, SignedDuration::MAX] {
            assert_eq!(later(Timestamp::MAX, by), Timestamp::MAX);
            assert_eq!(earlier(Timestamp::MIN, by), Timestamp::MIN);
        }
    }

    #[test]
    fn future_times_beyond_clock_skew_are_rejected() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (second, is_past) in [(-5, true), (0, true), (60, true), (61, false), (864_000, false)] {
            assert_eq!(reject_future(at(second), at(0)), is_past.then(|| at(second)), "{second}");
        }
    }
}
