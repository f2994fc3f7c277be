//! How far the clocks of operator and store may differ, and what that says of times that a status or the ledger tells.

use jiff::{SignedDuration, Timestamp};

/// The most that two clocks may differ.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A time of the past that a status or the ledger tells, as far as clocks differ. `None` for one that lies ahead: a clock was
/// wrong when it was written, and whoever waited for it to pass might wait for years.
pub fn reject_future(time: Timestamp, now: Timestamp) -> Option<Timestamp> {
    Some(time).filter(|time| time.duration_since(now) <= MAX_CLOCK_SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn future_times_beyond_clock_skew_are_rejected() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (second, is_past) in [(-5, true), (0, true), (60, true), (61, false), (864_000, false)] {
            assert_eq!(reject_future(at(second), at(0)), is_past.then(|| at(second)), "{second}");
        }
    }
}
