//! Time of the next reconcile: the next deadline, and every ten minutes in any case.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;

/// Interval between two reconciles of an object without changes: a watch can miss one.
const RESYNC: Duration = Duration::from_mins(10);

/// Requeues just after the earliest of `deadlines` that is in the future, or within [`RESYNC`]. The resync comes up to a
/// tenth earlier, at random: otherwise objects that were created together would all reconcile at the same time.
pub fn at(now: Timestamp, deadlines: impl IntoIterator<Item = Timestamp>) -> Action {
    Action::requeue(delay(now, deadlines, rand::random::<f64>()))
}

/// Returns the delay of [`at`] for a random number in `0.0..1.0`.
pub fn delay(now: Timestamp, deadlines: impl IntoIterator<Item = Timestamp>, random: f64) -> Duration {
    let resync = RESYNC.mul_f64(1.0 - 0.1 * random.clamp(0.0, 1.0));
    deadlines
        .into_iter()
        .filter(|deadline| *deadline > now)
        .min()
        .and_then(|deadline| Duration::try_from(deadline.duration_since(now)).ok())
        // Ten milliseconds later: a coarse clock could otherwise still read a time before the deadline.
        .map_or(resync, |wait| (wait + Duration::from_millis(10)).min(resync))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn delay_ends_at_next_future_deadline() {
        assert_eq!(delay(at(0), [at(-5), at(30), at(20)], 0.5), Duration::from_millis(20_010));
        assert_eq!(delay(at(0), [at(-5), at(0)], 0.0), RESYNC);
    }

    proptest::proptest! {
        #[test]
        fn delay_is_positive_and_at_most_resync(deadlines in proptest::collection::vec(-10_000_i64..10_000, 0..5), chance in 0.0..1.0) {
            let wait = delay(at(0), deadlines.into_iter().map(at), chance);
            proptest::prop_assert!(wait <= RESYNC && wait > Duration::ZERO);
        }
    }
}
