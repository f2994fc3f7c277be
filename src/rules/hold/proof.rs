//! What proves that a hold is placed, and what allows its release to start. Pure.

use jiff::{SignedDuration, Timestamp};

use super::resolution::is_resolved;
use super::scope::HoldScope;
use crate::api::{IncidentHold, ReleaseWait};

/// Maximum time after the resolution for which recorders that do not respond delay a release. Such a recorder may still tag its
/// uploads `sealed`. The sweep restores these tags on the day after a recording, and those of older recordings within four
/// weeks.
pub const MAX_RECORDER_SILENCE: SignedDuration = SignedDuration::from_hours(24);

/// Decides whether the release of a hold can start. `resolved_at` is the time at which the operator observed the resolution.
/// Requests of the previous leader can take effect until `release_from`.
pub fn may_release(
    release_from: Timestamp,
    have_recorders_acknowledged: bool,
    resolved_at: Timestamp,
    now: Timestamp,
) -> Result<(), ReleaseWait> {
    // First: the silence of a recorder shortens no wait for requests of the previous leader.
    if now < release_from {
        Err(ReleaseWait::EarlierRequests)
    } else if have_recorders_acknowledged || now.duration_since(resolved_at) >= MAX_RECORDER_SILENCE {
        Ok(())
    } else {
        Err(ReleaseWait::Recorders)
    }
}

/// Returns whether a full pass proves `Placed`: every recorder had acknowledged the hold before the first page was listed, and
/// every listed version was read back with its legal hold and tag. The next pass covers segments that recorders sealed later.
pub const fn is_placed(unconfirmed: u64, has_errors: bool, is_acknowledged: bool) -> bool {
    is_acknowledged && unconfirmed == 0 && !has_errors
}

/// Returns the scopes of the open holds among `holds`. Includes holds that are not accepted: when in doubt, nothing is deleted.
pub fn open_scopes(holds: &[IncidentHold], now: Timestamp) -> Vec<HoldScope> {
    let open = holds.iter().filter(|hold| !is_resolved(hold, now));
    open.map(|hold| HoldScope::from(&hold.spec)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_recorders_delay_release_for_a_day() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert_eq!(may_release(at(5), true, at(0), at(4)), Err(ReleaseWait::EarlierRequests));
        assert_eq!(may_release(at(5), true, at(0), at(5)), Ok(()));
        assert_eq!(may_release(at(5), false, at(0), at(23)), Err(ReleaseWait::Recorders));
        assert_eq!(may_release(at(5), false, at(0), at(24)), Ok(()));
    }

    #[test]
    fn placed_requires_acknowledgement_and_no_dispute_or_rejection() {
        assert!(is_placed(0, false, true));
        assert!(!is_placed(0, false, false));
        assert!(!is_placed(1, false, true));
        assert!(!is_placed(0, true, true));
    }
}
