//! When something may be claimed or let go: pure. The model of the whole (`tests/model`) goes by these very rules.

use jiff::{SignedDuration, Timestamp};

use crate::api::IncidentHold;
use crate::controllers::hold::is_resolved;
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Sources};
use crate::storage::hold::Refused;

/// What a release waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Requests of the leader before may land until then.
    Until(Timestamp),
    /// A recorder may still put something for what is to be released.
    Recorders,
}

/// How long recorders that do not answer delay a release after its incident was seen to be resolved. One that still follows
/// the hold uploads as `sealed` what it has. The sweep puts such tags back on the day after a recording, and those of older
/// recordings within four weeks.
pub const SILENCE: SignedDuration = SignedDuration::from_hours(24);

/// Whether a release may begin, of a hold whose incident the operator has known to be resolved since `resolved_at`.
pub fn may_release(
    release_from: Timestamp,
    recorders_follow: bool,
    resolved_at: Timestamp,
    now: Timestamp,
) -> Result<(), Wait> {
    if now < release_from {
        Err(Wait::Until(release_from))
    } else if recorders_follow || now.duration_since(resolved_at) >= SILENCE {
        Ok(())
    } else {
        Err(Wait::Recorders)
    }
}

/// Whether `Placed` may be claimed of a hold, after a pass over everything: every recorder had acknowledged it before the
/// first page was listed, and all that the pass listed was found or read back as it must be. Segments that recorders sealed
/// since then are the next pass's.
pub const fn is_placed(disputed: u64, refused: Option<&Refused>, is_acknowledged: bool) -> bool {
    is_acknowledged && disputed == 0 && refused.is_none()
}

/// What those of `holds` cover that are open; whether they can be accepted or not: when in doubt, nothing is deleted.
pub fn open_covers(holds: &[IncidentHold], now: Timestamp) -> Vec<Cover> {
    let open = holds.iter().filter(|hold| !is_resolved(hold, now));
    open.map(cover).collect()
}

fn cover(hold: &IncidentHold) -> Cover {
    let spec = &hold.spec;
    Cover {
        sources: if spec.cameras.is_empty() {
            Sources::All
        } else {
            Sources::Named(spec.cameras.iter().cloned().collect())
        },
        calls: spec.calls,
        window: Window::new(spec.window.from.0, spec.window.until.as_ref().map(|until| until.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_delays_a_release_for_a_day() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert_eq!(may_release(at(5), true, at(0), at(4)), Err(Wait::Until(at(5))));
        assert_eq!(may_release(at(5), true, at(0), at(5)), Ok(()));
        assert_eq!(may_release(at(5), false, at(0), at(23)), Err(Wait::Recorders));
        assert_eq!(may_release(at(5), false, at(0), at(24)), Ok(()));
    }

    #[test]
    fn placed_needs_all_three() {
        let refused = Refused { versions: 1, first: crate::storage::sweep::HoldsUnknown("no".into()).into() };
        assert!(is_placed(0, None, true));
        assert!(!is_placed(0, None, false));
        assert!(!is_placed(1, None, true));
        assert!(!is_placed(0, Some(&refused), true));
    }
}
