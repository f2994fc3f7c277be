//! How often and how far a pass looks, by what the statuses say of those before it.

use jiff::{SignedDuration, Timestamp};

use super::pass::Pass;
use crate::api::{IncidentHold, Placement, RetentionStatus};
use crate::storage::audit::Found;
use crate::storage::hold::Placed;

/// How often tag and legal hold of every held version are read, where that takes little.
pub(super) const VERIFY_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How often delete markers over held versions are looked for, where that takes little: listings show them.
pub(super) const UNHIDE_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Reading them takes at most this part of the time.
pub(super) const SHARE: i32 = 20;
/// While any of them is refused, they are read so many times as often, and take so much more.
const REFUSED_SHARE: i32 = 5;

/// What the store refused to let go of is tried again after this long.
pub(super) const REFUSED: SignedDuration = SignedDuration::from_mins(1);

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
        let is_to_prove = before.any(|placement| !placement.proved && placement.refused.is_none());
        is_time || is_new || is_to_prove && self.recorders_follow()
    }

    /// The hold with this UID.
    pub(super) fn hold(&self, uid: &str) -> Option<&IncidentHold> {
        let mut holds = self.holds.iter();
        holds.find(|hold| hold.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether the store refused something when everything was last looked at.
    pub(super) fn is_refused_before(&self) -> bool {
        let mut of_holds = self.placements().flatten();
        self.before().is_some_and(|before| before.refused.is_some())
            || of_holds.any(|placement| placement.refused.is_some())
    }

    /// Whether something was refused of a hold of which it is not told yet.
    pub(super) fn is_news(&self, placed: &Placed) -> bool {
        let refused = self.plan.open.keys().zip(&placed.coverage);
        let mut refused = refused.filter(|(_, coverage)| coverage.refused.is_some());
        refused.any(|(uid, _)| match self.hold(uid) {
            Some(hold) => current(hold).is_none_or(|placement| placement.refused.is_none()),
            None => !self.is_refused_before(),
        })
    }

    /// The placements of the open holds, as their status has them; `None`: of a hold that was not looked at as it is now.
    fn placements(&self) -> impl Iterator<Item = Option<&Placement>> {
        let open = self.plan.open.keys().filter_map(|uid| self.hold(uid));
        open.map(current)
    }

    /// Whether the status of every open hold speaks of it as it is now.
    fn is_seen_before(&self) -> bool {
        self.placements().all(|placement| placement.is_some())
    }

    /// When each of the open holds was last proved, as it is now. One that only the ledger has was when everything was.
    pub(super) fn proved_at(&self) -> Vec<Option<Timestamp>> {
        let of_all = self.before().filter(|before| before.refused.is_none());
        let of_all = of_all.and_then(|before| before.verified_at.as_ref());
        let proved_at = |uid: &String| match self.hold(uid) {
            Some(hold) => current(hold)
                .filter(|placement| placement.proved)?
                .verified_at
                .as_ref(),
            None => of_all,
        };
        // Of one that is new to the ledger, a status tells of the time before it was released, or lost.
        let is_new = |uid: &String| self.plan.write.iter().any(|entry| entry.uid == *uid);
        let known = |uid: &String| Some(uid).filter(|uid| !is_new(uid)).and_then(proved_at);
        self.plan.open.keys().map(|uid| Some(known(uid)?.0)).collect()
    }

    /// When what the store refused to let go of is tried again, where that is later, and there is nothing else to let go of.
    pub(super) fn release_again(&self) -> Option<Timestamp> {
        let closing = self.plan.closing.iter();
        let refused = closing.map(|entry| Some(current(self.hold(&entry.uid)?)?.refused.as_ref()?.at.0));
        let first = refused.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        Some(first + REFUSED).filter(|again| *again > self.now)
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

/// The placement of a hold, where its status speaks of it as it is now.
fn current(hold: &IncidentHold) -> Option<&Placement> {
    let placement = hold.status.as_ref()?.placement.as_ref()?;
    Some(placement).filter(|placement| Some(placement.observed_generation) == hold.metadata.generation)
}
