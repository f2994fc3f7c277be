//! When something may be claimed or let go: pure. The model of the whole (`tests/model`) goes by these very rules.

use jiff::Timestamp;

use crate::api::IncidentHold;
use crate::controllers::hold::is_resolved;
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Sources};
use crate::storage::hold::{Placed, Refused};

/// What a release waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Requests of the leader before may land until then.
    Until(Timestamp),
    /// A recorder may still put something for what is to be released.
    Recorders,
}

/// Whether a release may begin.
pub fn may_release(release_from: Timestamp, recorders_follow: bool, now: Timestamp) -> Result<(), Wait> {
    if now < release_from {
        Err(Wait::Until(release_from))
    } else if recorders_follow {
        Ok(())
    } else {
        Err(Wait::Recorders)
    }
}

/// Whether `Placed` may be claimed of a hold, after a pass over everything: every recorder had the holds before its first
/// page was listed, it found nothing left to do, and none of what the hold covers was refused.
pub const fn is_placed(placed: &Placed, refused: Option<&Refused>, recorders_followed: bool) -> bool {
    recorders_followed && placed.is_settled() && refused.is_none()
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
        window: Window::new(
            spec.window.from.0,
            spec.window.until.as_ref().map(|until| until.0),
        ),
    }
}
