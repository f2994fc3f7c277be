//! How often and how far a pass looks, by what the statuses say of the previous ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::pass::Pass;
use crate::api::{IncidentHold, Placement, Refusal, RetentionStatus, past};
use crate::storage::audit::Found;
use crate::storage::hold::coverage::Coverage;
use crate::storage::hold::memory::Told;
use crate::storage::hold::{Placed, Refused};
use crate::storage::ledger::Entry;

/// How often everything that is held is listed, and its marks read, where that takes little.
pub(super) const VERIFY_EVERY: SignedDuration = SignedDuration::from_mins(15);
/// Verification takes at most this part of the time.
const SHARE: i32 = 20;
/// What a day of verifications may cost at a store that charges for requests: at most 700,000 reads of two requests each and
/// 30,000 listings of what cameras recorded. Listings of calls, and of what somebody else put elsewhere, come on top.
const EACH_READ: SignedDuration = SignedDuration::from_millis(250);
const EACH_LISTING: SignedDuration = SignedDuration::from_secs(3);
/// The longest that verification may be put off.
const AT_LEAST_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// While the store refuses something, everything is read so many times as often, and takes so much more.
const REFUSED_SHARE: i32 = 15;

/// What sources were not visited for is tried again after this long: others have had their turn then.
pub(super) const UNVISITED: SignedDuration = SignedDuration::from_mins(10);
/// What the store failed at in placing is tried again after this long at most: all is listed, and little is read.
const FAILED_AT_MOST: SignedDuration = SignedDuration::from_mins(5);
/// A release that the store refused, or what it failed at, is tried again after this long.
pub(super) const REFUSED: SignedDuration = SignedDuration::from_mins(1);

/// How often everything is verified, by what it took the last time.
pub(super) fn verify_every(placed: &Placed, versions: u64, took: SignedDuration) -> SignedDuration {
    let times =
        |each: SignedDuration, count: u64| each.saturating_mul(i32::try_from(count).unwrap_or(i32::MAX));
    VERIFY_EVERY
        .max(took.saturating_mul(SHARE))
        .max(times(EACH_READ, versions))
        .max(times(EACH_LISTING, placed.listed_days))
        .min(AT_LEAST_EVERY)
}

impl Pass<'_> {
    pub(super) fn before(&self) -> Option<&RetentionStatus> {
        self.site.status.as_ref()?.retention.as_ref()
    }

    pub(super) fn verify_every(&self) -> Option<SignedDuration> {
        self.before()?.verified_every_seconds.map(SignedDuration::from_secs)
    }

    /// Whether the audit found keys that cannot be true, which may be anywhere, or held versions that were not where they
    /// were looked for.
    pub(super) fn is_everywhere(&self) -> bool {
        const SIGNS: [Found; 4] =
            [Found::ImplausibleKey, Found::HeldUnprotected, Found::HeldMistagged, Found::HeldHidden];
        let audit = self.site.status.as_ref().and_then(|status| status.audit.as_ref());
        audit.is_some_and(|audit| {
            audit.findings.iter().any(|finding| SIGNS.iter().any(|sign| finding.kind == <&str>::from(sign)))
        })
    }

    /// Whether everything is to be verified: it is time.
    pub(super) fn is_time(&self) -> bool {
        let last = self.before().and_then(|before| before.verified_at.as_ref());
        match (last.and_then(|at| past(at.0, self.now)), self.verify_every()) {
            (Some(at), Some(every)) => at + paced(every, self.is_refused_before()) <= self.now,
            _ => true,
        }
    }

    /// Whether everything is to be listed: something is new, or can now be proved, or it is time.
    /// Those that are `uncertain` cannot be proved yet.
    pub(super) fn is_full(&self, uncertain: &BTreeMap<String, SignedDuration>) -> bool {
        let is_new =
            !self.plan.write.is_empty() || self.placements().any(|(_, placement)| placement.is_none());
        let mut provable = self.placements().filter(|(entry, _)| !uncertain.contains_key(&entry.uid));
        let is_to_prove = provable.any(|(_, placement)| {
            placement.is_some_and(|placement| !placement.proved && placement.refused.is_none())
        });
        self.is_time() || is_new || self.is_to_retry() || is_to_prove && self.recorders_follow()
    }

    /// Whether the store failed at something, or sources were not visited, a while ago. What the store refused has its turn with
    /// the next verification.
    fn is_to_retry(&self) -> bool {
        self.retry_at().is_some_and(|at| at <= self.now)
    }

    /// When that is.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        let every = self.verify_every().unwrap_or(VERIFY_EVERY);
        let retry_at = |refused: &Refusal| {
            let pause = match refused {
                Refusal { failed: true, .. } => paced(every, true).clamp(REFUSED, FAILED_AT_MOST),
                Refusal { versions: 0, .. } => paced(every, true).max(UNVISITED),
                _ => return None,
            };
            Some(past(refused.at.0, self.now).map_or(self.now, |at| at + pause))
        };
        let of_site = self.before().and_then(|before| before.refused.as_ref());
        let of_holds = self.placements().filter_map(|(_, placement)| placement?.refused.as_ref());
        of_site.into_iter().chain(of_holds).filter_map(retry_at).min()
    }

    /// Whether a manifest does not list what the status of its hold tells: the operator was stopped between the two.
    pub(super) fn is_unwritten(&self, told: &[Arc<Told>], unread: &BTreeMap<String, Refused>) -> bool {
        let open = self.plan.open.values().zip(told);
        let mut open = open.filter(|(entry, _)| !unread.contains_key(&entry.uid));
        open.any(|(entry, told)| {
            let placement = self.hold(&entry.uid).and_then(|hold| current(hold, entry));
            let placement = placement.filter(|placement| placement.proved && placement.refused.is_none());
            placement.is_some_and(|placement| {
                told.is_unwritten() || u64::try_from(placement.segments) != Ok(told.count())
            })
        })
    }

    /// The hold with this UID.
    pub(super) fn hold(&self, uid: &str) -> Option<&IncidentHold> {
        let mut holds = self.holds.iter();
        holds.find(|hold| hold.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether the store refused something when everything was last verified.
    pub(super) fn is_refused_before(&self) -> bool {
        let is_refused =
            |placement: &Placement| placement.refused.as_ref().is_some_and(Refusal::is_of_versions);
        let mut of_holds = self.placements().filter_map(|(_, placement)| placement);
        self.before().is_some_and(|before| before.refused.is_some()) || of_holds.any(is_refused)
    }

    /// Whether something was refused of a hold whose status does not say so yet.
    pub(super) fn is_news(&self, placed: &Placed) -> bool {
        let is_of_versions =
            |coverage: &Coverage| coverage.refused.as_ref().is_some_and(Refused::is_of_versions);
        let refused = self.plan.open.values().zip(&placed.coverage);
        let mut refused = refused.filter(|(_, coverage)| coverage.refused.is_some());
        refused.any(|(entry, coverage)| match self.hold(&entry.uid) {
            Some(hold) => current(hold, entry).is_none_or(|placement| match &placement.refused {
                None => true,
                Some(before) => is_of_versions(coverage) && !before.is_of_versions(),
            }),
            // What was not looked at of such a hold stands nowhere: it has its turn.
            None => is_of_versions(coverage) && !self.is_refused_before(),
        })
    }

    /// The open holds with their placements, as their status has them; `None`: of a hold whose scope has changed since.
    fn placements(&self) -> impl Iterator<Item = (&Entry, Option<&Placement>)> {
        let open = self.plan.open.values();
        open.filter_map(|entry| Some((entry, current(self.hold(&entry.uid)?, entry))))
    }

    /// When each of the open holds was last proved, as it is now. One that only the ledger has was when everything was.
    pub(super) fn proved_at(&self) -> Vec<Option<Timestamp>> {
        let of_all = self.before().filter(|before| before.refused.is_none());
        let of_all = of_all.and_then(|before| before.verified_at.as_ref());
        let proved_at = |entry: &Entry| match self.hold(&entry.uid) {
            Some(hold) => current(hold, entry).filter(|placement| placement.proved)?.verified_at.as_ref(),
            None => of_all,
        };
        // Of one that is new to the ledger, a status tells of the time before it was released, or lost.
        let is_new = |uid: &str| self.plan.write.iter().any(|entry| entry.uid == *uid);
        let known = |entry: &Entry| Some(entry).filter(|entry| !is_new(&entry.uid)).and_then(proved_at);
        self.plan.open.values().map(|entry| past(known(entry)?.0, self.now)).collect()
    }

    /// When a release that the store refused lately is tried again; `None`: now.
    pub(super) fn release_again(&self, entry: &Entry) -> Option<Timestamp> {
        let placement = self.hold(&entry.uid)?.status.as_ref()?.placement.as_ref()?;
        let refused = placement.refused.as_ref()?;
        let pause = if refused.is_of_versions() || refused.failed { REFUSED } else { UNVISITED };
        let again = past(refused.at.0, self.now)? + pause;
        Some(again).filter(|again| *again > self.now)
    }

    /// Whether every recorder follows the holds that are open, and no other.
    pub(super) fn recorders_follow(&self) -> bool {
        self.bucket.recorders.is_of(&self.plan.coverings())
    }

    /// Whether every recorder has acknowledged this hold as it is: once it has, its later silence takes nothing back. A
    /// recorder that starts reads the open holds before it uploads anything.
    pub(super) fn was_acknowledged(&self, entry: &Entry) -> bool {
        let placement = self.hold(&entry.uid).and_then(|hold| current(hold, entry));
        placement.is_some_and(|placement| placement.proved || placement.acknowledged)
    }
}

/// How often everything is verified.
pub(super) fn paced(every: SignedDuration, is_refused: bool) -> SignedDuration {
    if is_refused { every / REFUSED_SHARE } else { every }
}

/// The placement of a hold, where its status speaks of what it covers now.
pub(super) fn current<'a>(hold: &'a IncidentHold, entry: &Entry) -> Option<&'a Placement> {
    let placement = hold.status.as_ref()?.placement.as_ref()?;
    Some(placement).filter(|placement| placement.scope == entry.scope() && is_of(placement, entry))
}

/// Whether a placement is of the time since the entry counts: what it says may come from before a release, out of a backup.
/// A status has whole seconds.
pub(super) fn is_of(placement: &Placement, entry: &Entry) -> bool {
    placement.accepted_at.0.as_second() == entry.accepted_at.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verification_costs_no_more_than_is_stated() {
        let every = |versions, listed_days, seconds| {
            let placed = Placed { listed_days, ..Placed::default() };
            verify_every(&placed, versions, SignedDuration::from_secs(seconds)).as_secs()
        };
        assert_eq!(every(300, 20, 1), 15 * 60);
        assert_eq!(every(15_000, 750, 10), 62 * 60 + 30);
        assert_eq!(every(300, 750, 10), 37 * 60 + 30);
        assert_eq!(every(300, 20, 60), 20 * 60);
        assert_eq!(every(u64::MAX, u64::MAX, i64::MAX), 24 * 60 * 60);
    }
}
