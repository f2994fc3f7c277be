//! When something may be claimed or let go: pure. The model of the whole (`tests/model`) goes by these very rules.

use jiff::Timestamp;

use crate::api::{IncidentHold, Placement};
use crate::controllers::hold::is_resolved;
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Sources};
use crate::storage::hold::coverage::Coverage;
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

/// How many versions a hold has fewer than when it was last proved. What was refused is there, whatever is to become of it.
pub fn lost(before: &Placement, coverage: &Coverage) -> u64 {
    if !before.proved {
        return 0;
    }
    let had = before.segments + before.refused.as_ref().map_or(0, |refused| refused.versions);
    let refused = coverage.refused.as_ref().map_or(0, |refused| refused.versions);
    let has = coverage.segments + refused;
    u64::try_from(had).unwrap_or_default().saturating_sub(has)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::Refusal;
    use crate::storage::sweep::HoldsUnknown;

    /// Of a hold that had, or has, so many, and so many that were refused.
    fn told(proved: bool, had: (i64, i64), has: (u64, u64)) -> u64 {
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
        let before = Placement {
            observed_generation: 1,
            accepted_at: at.clone(),
            proved,
            verified_at: None,
            segments: had.0,
            size: "1 MiB".into(),
            known_until: None,
            coverage: Some("9%".into()),
            sealed: 0,
            refused: (had.1 > 0).then(|| Refusal {
                versions: had.1,
                answer: "no".into(),
                at,
            }),
            sources: vec![],
            released_at: None,
            problem: None,
        };
        let cover = Cover {
            sources: Sources::All,
            calls: false,
            window: Window::new(Timestamp::UNIX_EPOCH, None),
        };
        let mut coverage = Coverage::of(&cover, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
        coverage.segments = has.0;
        coverage.refused = (has.1 > 0).then(|| Refused {
            versions: has.1,
            first: HoldsUnknown("no".into()).into(),
        });
        lost(&before, &coverage)
    }

    #[test]
    fn what_is_refused_is_not_lost_until_it_is_gone() {
        assert_eq!(told(true, (10, 0), (8, 2)), 0);
        assert_eq!(told(true, (8, 2), (8, 0)), 2, "gone while it was not protected");
        assert_eq!(told(true, (8, 2), (10, 0)), 0);
        assert_eq!(told(true, (8, 0), (9, 0)), 0, "it only grows");
        assert_eq!(told(false, (10, 0), (8, 0)), 0, "nobody knew what it had");
    }
}
