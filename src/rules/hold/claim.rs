//! When something may be claimed or let go: pure. The model of the whole (`tests/model`) goes by these very rules.

use jiff::{SignedDuration, Timestamp};

use super::resolution::is_resolved;
use super::scope::{CameraSelector, HoldScope};
use crate::api::IncidentHold;
use crate::rules::Window;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseWait {
    /// Requests of the leader before may land until then.
    Until(Timestamp),
    /// A recorder may still put something for what is to be released.
    Recorders,
}

/// How long recorders that do not answer delay a release after its incident was seen to be resolved. One that still follows
/// the hold uploads as `sealed` what it has. The sweep puts such tags back on the day after a recording, and those of older
/// recordings within four weeks.
pub const MAX_RECORDER_SILENCE: SignedDuration = SignedDuration::from_hours(24);

/// Whether a release may begin, of a hold whose incident the operator has known to be resolved since `resolved_at`.
pub fn may_release(
    release_from: Timestamp,
    have_recorders_acknowledged: bool,
    resolved_at: Timestamp,
    now: Timestamp,
) -> Result<(), ReleaseWait> {
    if now < release_from {
        Err(ReleaseWait::Until(release_from))
    } else if have_recorders_acknowledged || now.duration_since(resolved_at) >= MAX_RECORDER_SILENCE {
        Ok(())
    } else {
        Err(ReleaseWait::Recorders)
    }
}

/// Whether `Placed` may be claimed of a hold, after a pass over everything: every recorder had acknowledged it before the
/// first page was listed, and all that the pass listed was found or read back as it must be. Segments that recorders sealed
/// since then are the next pass's.
pub const fn is_placed(disputed: u64, has_errors: bool, is_acknowledged: bool) -> bool {
    is_acknowledged && disputed == 0 && !has_errors
}

/// What those of `holds` cover that are open; whether they can be accepted or not: when in doubt, nothing is deleted.
pub fn open_scopes(holds: &[IncidentHold], now: Timestamp) -> Vec<HoldScope> {
    let open = holds.iter().filter(|hold| !is_resolved(hold, now));
    open.map(hold_scope).collect()
}

fn hold_scope(hold: &IncidentHold) -> HoldScope {
    let spec = &hold.spec;
    HoldScope {
        cameras: if spec.cameras.is_empty() {
            CameraSelector::All
        } else {
            CameraSelector::Named(spec.cameras.iter().cloned().collect())
        },
        calls: spec.include_calls,
        window: Window::new(spec.window.from.0, spec.window.until.as_ref().map(|until| until.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_recorders_delay_release_for_a_day() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert_eq!(may_release(at(5), true, at(0), at(4)), Err(ReleaseWait::Until(at(5))));
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
