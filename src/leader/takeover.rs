//! What a lost leader leaves behind: requests under way, which may land after another one leads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::clock::{BootInstant, Clock};
use crate::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

/// How long a new leader releases nothing. `took_over`: nobody handed the lease over. One that did had no request under way.
///
/// A Lease that is not there says nothing of the past, so it counts like one whose leader was lost: a person who deletes the
/// Lease does so just when something is wrong. A first installation pays for it with a release that waits as long,
/// once.
pub const fn takeover_delay(took_over: bool) -> Duration {
    if took_over { SIGNATURE_VALIDITY } else { Duration::ZERO }
}

/// Whether a leader that ends may let go of the lease, by which it tells the next one that no request of before is under
/// way: none of its own, and with nothing `left` of the time in which one may land that got no answer, of its own or of a leader
/// from which it took over.
pub const fn may_release_lease(is_finished: bool, left: Duration) -> bool {
    is_finished && left.is_zero()
}

/// How much of that time is left for this process. It is measured with the clock of leadership: a step of the wall clock
/// would let a release begin too early, or, once it is set right, days too late.
#[derive(Clone)]
pub struct TakeoverDelay {
    clock: Arc<dyn Clock>,
    until: BootInstant,
}

impl fmt::Debug for TakeoverDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeoverDelay").field("left", &self.remaining()).finish_non_exhaustive()
    }
}

impl TakeoverDelay {
    pub fn begin(clock: Arc<dyn Clock>, took_over: bool) -> Self {
        let until = clock.now().plus(takeover_delay(took_over));
        Self { clock, until }
    }

    pub fn remaining(&self) -> Duration {
        self.clock.now().until(self.until)
    }

    /// From when on something may be released, by a wall clock that says `now`.
    pub fn release_from(&self, now: Timestamp) -> Timestamp {
        let left = self.remaining();
        if left.is_zero() {
            return Timestamp::MIN;
        }
        let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
        now.saturating_add(left).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::clock::mock::MockClock;

    #[test]
    fn takeover_delay_ignores_wall_clock_steps() {
        let clock = Arc::new(MockClock::at(7));
        let wall = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let aftermath = TakeoverDelay::begin(clock.clone(), true);
        clock.advance(Duration::from_mins(1));
        for now in [wall(0), wall(240), wall(-240)] {
            assert_eq!(aftermath.release_from(now), now + SignedDuration::from_mins(15));
        }
        assert!(!may_release_lease(true, aftermath.remaining()));
        clock.advance(Duration::from_mins(15));
        assert_eq!(aftermath.release_from(wall(-240)), Timestamp::MIN);
        assert!(
            may_release_lease(true, aftermath.remaining())
                && !may_release_lease(false, aftermath.remaining())
        );
    }

    #[test]
    fn handed_over_lease_needs_no_delay() {
        let aftermath = TakeoverDelay::begin(Arc::new(MockClock::at(7)), false);
        assert_eq!(aftermath.release_from(Timestamp::UNIX_EPOCH), Timestamp::MIN);
    }
}
