//! How often and how far a pass looks, by what the statuses say of those before it.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::pass::Pass;
use crate::api::{Placement, RetentionStatus};
use crate::storage::audit::Found;

/// How often tag and legal hold of every held version are read, where that takes little.
pub(super) const VERIFY_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How often delete markers over held versions are looked for, where that takes little: listings show them.
pub(super) const UNHIDE_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Reading them takes at most this part of the time.
pub(super) const SHARE: i32 = 20;
/// While any of them is refused, they are read so many times as often.
const REFUSED_SHARE: i32 = 5;

impl Pass<'_> {
    pub(super) fn before(&self) -> Option<&RetentionStatus> {
        self.site.status.as_ref()?.retention.as_ref()
    }

    pub(super) fn verify_every(&self) -> Option<SignedDuration> {
        self.before()?
            .verified_every_seconds
            .map(SignedDuration::from_secs)
    }

    pub(super) fn unhidden_at(&self) -> Option<Timestamp> {
        Some(self.before()?.unhidden_at.as_ref()?.0)
    }

    pub(super) fn unhide_every(&self) -> Option<SignedDuration> {
        let seconds = self.before()?.unhidden_every_seconds?;
        Some(SignedDuration::from_secs(seconds))
    }

    pub(super) fn is_to_unhide(&self) -> bool {
        let every = self.unhide_every().unwrap_or(UNHIDE_EVERY);
        self.unhidden_at().is_none_or(|at| at + every <= self.now)
    }

    /// Whether the audit found keys that cannot be true, which may be anywhere, or held versions that were not where they
    /// were looked for.
    pub(super) fn is_everywhere(&self) -> bool {
        const SIGNS: [Found; 4] = [
            Found::ImplausibleKey,
            Found::HeldUnprotected,
            Found::HeldMistagged,
            Found::HeldHidden,
        ];
        let audit = self.site.status.as_ref().and_then(|status| status.audit.as_ref());
        audit.is_some_and(|audit| {
            audit
                .findings
                .iter()
                .any(|finding| SIGNS.iter().any(|sign| finding.kind == <&str>::from(sign)))
        })
    }

    /// Whether everything is to be looked at: something is new, or can now be proved, or it is time.
    pub(super) fn is_full(&self) -> bool {
        let last = self.before().and_then(|before| before.verified_at.as_ref());
        let is_time = match (last, self.verify_every()) {
            (Some(at), Some(every)) => at.0 + paced(every, self.is_refused_before()) <= self.now,
            _ => true,
        };
        let is_new = !self.plan.write.is_empty() || !self.is_seen_before();
        let mut before = self.placements().flatten();
        let is_to_prove = before.any(|placement| !placement.proved && placement.refused == 0);
        is_time || is_new || is_to_prove && self.recorders_follow()
    }

    /// Whether the store refused something of an open hold when everything was last looked at.
    pub(super) fn is_refused_before(&self) -> bool {
        self.placements().flatten().any(|placement| placement.refused > 0)
    }

    /// The placements of the open holds, as their status has them; `None`: of a hold that was not looked at as it is now.
    pub(super) fn placements(&self) -> impl Iterator<Item = Option<&Placement>> {
        let open = self
            .holds
            .iter()
            .filter(|hold| hold.uid().is_some_and(|uid| self.plan.open.contains_key(&uid)));
        open.map(|hold| {
            let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
            placement.filter(|placement| Some(placement.observed_generation) == hold.metadata.generation)
        })
    }

    /// Whether the status of every open hold speaks of it as it is now.
    pub(super) fn is_seen_before(&self) -> bool {
        self.placements().all(|placement| placement.is_some())
    }

    /// Whether the status of every open hold says that it is proved as it is now.
    pub(super) fn is_proved_before(&self) -> bool {
        self.placements()
            .all(|placement| placement.is_some_and(|placement| placement.proved))
    }

    pub(super) fn proved_at(&self) -> Option<Timestamp> {
        let verified_at = self.before()?.verified_at.as_ref()?.0;
        (self.plan.write.is_empty() && self.is_proved_before()).then_some(verified_at)
    }

    /// Whether every recorder follows the holds that are open, and no other.
    pub(super) fn recorders_follow(&self) -> bool {
        self.bucket.recorders.is_of(&self.plan.coverings())
    }
}

/// How often everything is looked at.
pub(super) fn paced(every: SignedDuration, is_refused: bool) -> SignedDuration {
    if is_refused { every / REFUSED_SHARE } else { every }
}
