//! What a lost leader leaves behind: requests under way, which may land after another one leads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::clock::{Clock, Moment};
use crate::storage::under_way::SIGNATURE;

/// How long a new leader releases nothing. `took_over`: nobody handed the lease over. One that did had no request under way.
///
/// A Lease that is not there says nothing of the past, so it counts like one whose leader was lost: a person who deletes the
/// Lease does so just when something is wrong. A first installation pays for it with a release that waits as long,
/// once.
pub const fn aftermath(took_over: bool) -> Duration {
    if took_over { SIGNATURE } else { Duration::ZERO }
}

/// Whether a leader that ends may let go of the lease, by which it tells the next one that no request of before is under
/// way: none of its own, and with nothing `left` of the time in which one may land that got no answer, of its own or of a leader
/// from which it took over.
pub const fn may_let_go(is_finished: bool, left: Duration) -> bool {
    is_finished && left.is_zero()
}

/// How much of that time is left for this process. It is measured with the clock of leadership: a step of the wall clock
/// would let a release begin too early, or, once it is set right, days too late.
#[derive(Clone)]
pub struct Aftermath {
    clock: Arc<dyn Clock>,
    until: Moment,
}

impl fmt::Debug for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aftermath").field("left", &self.left()).finish_non_exhaustive()
    }
}

impl Aftermath {
    /// Begins now.
    pub fn begin(clock: Arc<dyn Clock>, took_over: bool) -> Self {
        let until = clock.now().plus(aftermath(took_over));
        Self { clock, until }
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.clock.now().until(self.until)
    }

    /// From when on something may be released, by a wall clock that says `now`.
    pub fn release_from(&self, now: Timestamp) -> Timestamp {
        let left = self.left();
        if left.is_zero() {
            return Timestamp::MIN;
        }
        let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
        now.saturating_add(left).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::mock::MockClock;
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_changes_nothing() {
        let clock = Arc::new(MockClock::at(7));
        let wall = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let aftermath = Aftermath::begin(clock.clone(), true);
        clock.advance(Duration::from_mins(1));
        for now in [wall(0), wall(240), wall(-240)] {
            assert_eq!(aftermath.release_from(now), now + SignedDuration::from_mins(15));
        }
        assert!(!may_let_go(true, aftermath.left()));
        clock.advance(Duration::from_mins(15));
        assert_eq!(aftermath.release_from(wall(-240)), Timestamp::MIN);
        assert!(may_let_go(true, aftermath.left()) && !may_let_go(false, aftermath.left()));
    }

    #[test]
    fn who_was_handed_the_lease_need_not_wait() {
        let aftermath = Aftermath::begin(Arc::new(MockClock::at(7)), false);
        assert_eq!(aftermath.release_from(Timestamp::UNIX_EPOCH), Timestamp::MIN);
    }
}
