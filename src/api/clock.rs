//! How far the clocks of operator and store may differ, and what that says of times that a status or the ledger tells.

use jiff::{SignedDuration, Timestamp};

/// The most that two clocks may differ.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// A time of the past that a status or the ledger tells, as far as clocks differ. `None` for one that lies ahead: a clock was
/// wrong when it was written, and whoever waited for it to pass might wait for years.
pub fn past(told: Timestamp, now: Timestamp) -> Option<Timestamp> {
    Some(told).filter(|told| told.duration_since(now) <= TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_ahead_is_no_time_of_the_past() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (told, is_past) in [(-5, true), (0, true), (60, true), (61, false), (864_000, false)] {
            assert_eq!(past(at(told), at(0)), is_past.then(|| at(told)), "{told}");
        }
    }
}
