//! Clock skew between operator and store.

use jiff::{SignedDuration, Timestamp};

/// Maximum difference between two clocks.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Returns a past time from a status or the ledger. Returns `None` for a time further in the future than
/// [`MAX_CLOCK_SKEW`]: a wrong clock wrote it, and a wait for it could take years.
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
