//! The delay after a takeover: requests of a lost leader may land while its successor already leads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::clock::{BootInstant, Clock};
use crate::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

/// Returns how long a new leader releases no hold. `took_over`: no earlier leader released the Lease. One that did had no
/// request in flight.
///
/// A missing Lease counts like one of a lost leader, since people delete the Lease when something is wrong. On a first
/// installation, the first release therefore waits once.
pub const fn takeover_delay(took_over: bool) -> Duration {
    if took_over { SIGNATURE_VALIDITY } else { Duration::ZERO }
}

/// Returns whether a leader that stops may release the Lease, which promises its successor that no request is in flight.
/// So its own work must be finished, and no time may be `left` in which an unanswered request can still land, its own or
/// an earlier leader's.
pub const fn may_release_lease(is_finished: bool, left: Duration) -> bool {
    is_finished && left.is_zero()
}

/// The rest of the takeover delay. The clock of leadership measures it: after a step of the wall clock, releases would begin
/// too early or, once the clock is corrected, days too late.
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

    /// Returns the time from which holds may be released, by a wall clock that reads `now`.
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
        let delay = TakeoverDelay::begin(clock.clone(), true);
        clock.advance(Duration::from_mins(1));
        for now in [wall(0), wall(240), wall(-240)] {
            assert_eq!(delay.release_from(now), now + SignedDuration::from_mins(15));
        }
        assert!(!may_release_lease(true, delay.remaining()));
        clock.advance(Duration::from_mins(15));
        assert_eq!(delay.release_from(wall(-240)), Timestamp::MIN);
        assert!(may_release_lease(true, delay.remaining()) && !may_release_lease(false, delay.remaining()));
    }

    #[test]
    fn handed_over_lease_needs_no_delay() {
        let delay = TakeoverDelay::begin(Arc::new(MockClock::at(7)), false);
        assert_eq!(delay.release_from(Timestamp::UNIX_EPOCH), Timestamp::MIN);
    }
}
