//! How often and how far a pass looks, by what the statuses say of the previous ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::pass::RetentionPass;
use crate::api::{IncidentHold, Placement, RetentionStatus, StoreRejectionStatus, reject_future};
use crate::controllers::retention::intervals::{
    MIN_VERIFY_INTERVAL, effective_interval, is_since_acceptance,
};
use crate::rules::hold::entry::LedgerEntry;
use crate::storage::recordings::audit::FindingKind;
use crate::storage::recordings::error::PassErrors;
use crate::storage::recordings::hold::PlaceReport;
use crate::storage::recordings::hold::coverage::Coverage;
use crate::storage::recordings::hold::protection_cache::ManifestVersions;

/// What sources were not visited for is tried again after this long: others have had their turn then.
pub(crate) const UNVISITED_RETRY_DELAY: SignedDuration = SignedDuration::from_mins(10);
/// What the store failed at in placing is tried again after this long at most: all is listed, and little is read.
const MAX_FAILURE_RETRY_DELAY: SignedDuration = SignedDuration::from_mins(5);
/// A release that the store refused, or what it failed at, is tried again after this long.
pub(crate) const REJECTED_RETRY_DELAY: SignedDuration = SignedDuration::from_mins(1);

impl RetentionPass<'_> {
    pub(crate) fn previous_status(&self) -> Option<&RetentionStatus> {
        self.site.status.as_ref()?.retention.as_ref()
    }

    pub(crate) fn previous_verify_interval(&self) -> Option<SignedDuration> {
        self.previous_status()?.verification_interval_seconds.map(SignedDuration::from_secs)
    }

    /// Whether the audit found keys that cannot be true, which may be anywhere, or held versions that were not where they
    /// were looked for.
    pub(crate) fn has_misplaced_versions(&self) -> bool {
        const MISPLACED_KINDS: [FindingKind; 4] = [
            FindingKind::ImplausibleKey,
            FindingKind::HeldUnprotected,
            FindingKind::HeldMistagged,
            FindingKind::HeldHidden,
        ];
        let audit = self.site.status.as_ref().and_then(|status| status.audit.as_ref());
        audit.is_some_and(|audit| {
            audit
                .findings
                .iter()
                .any(|finding| MISPLACED_KINDS.iter().any(|sign| finding.type_ == <&str>::from(sign)))
        })
    }

    /// Whether everything is to be verified: it is time.
    pub(crate) fn is_verify_due(&self) -> bool {
        let last = self.previous_status().and_then(|before| before.last_verification_time.as_ref());
        match (last.and_then(|at| reject_future(at.0, self.now)), self.previous_verify_interval()) {
            (Some(at), Some(every)) => {
                at + effective_interval(every, self.has_previous_rejection()) <= self.now
            }
            _ => true,
        }
    }

    /// Whether everything is to be listed: something is new, or can now be proved, or it is time.
    /// Those that are `uncertain` cannot be proved yet.
    pub(crate) fn is_full_pass_due(&self, uncertain: &BTreeMap<String, SignedDuration>) -> bool {
        let is_new =
            !self.plan.to_write.is_empty() || self.placements().any(|(_, placement)| placement.is_none());
        let mut provable = self.placements().filter(|(entry, _)| !uncertain.contains_key(&entry.uid));
        let is_to_prove = provable.any(|(_, placement)| {
            placement.is_some_and(|placement| !placement.verified && placement.store_rejection.is_none())
        });
        self.is_verify_due()
            || is_new
            || self.is_retry_due()
            || is_to_prove && self.have_recorders_acknowledged()
    }

    /// Whether the store failed at something, or sources were not visited, a while ago. What the store refused has its turn with
    /// the next verification.
    fn is_retry_due(&self) -> bool {
        self.retry_at().is_some_and(|at| at <= self.now)
    }

    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        let every = self.previous_verify_interval().unwrap_or(MIN_VERIFY_INTERVAL);
        let retry_at = |refused: &StoreRejectionStatus| {
            let pause = match refused {
                StoreRejectionStatus { retryable: true, .. } => {
                    effective_interval(every, true).clamp(REJECTED_RETRY_DELAY, MAX_FAILURE_RETRY_DELAY)
                }
                StoreRejectionStatus { versions: 0, .. } => {
                    effective_interval(every, true).max(UNVISITED_RETRY_DELAY)
                }
                _ => return None,
            };
            Some(reject_future(refused.time.0, self.now).map_or(self.now, |at| at + pause))
        };
        let of_site = self.previous_status().and_then(|before| before.store_rejection.as_ref());
        let of_holds = self.placements().filter_map(|(_, placement)| placement?.store_rejection.as_ref());
        of_site.into_iter().chain(of_holds).filter_map(retry_at).min()
    }

    /// Whether a manifest does not list what the status of its hold tells: the operator was stopped between the two.
    pub(crate) fn has_stale_manifest(
        &self,
        told: &[Arc<ManifestVersions>],
        unread: &BTreeMap<String, PassErrors>,
    ) -> bool {
        let open = self.plan.open.values().zip(told);
        let mut open = open.filter(|(entry, _)| !unread.contains_key(&entry.uid));
        open.any(|(entry, told)| {
            let placement = self.hold_by_uid(&entry.uid).and_then(|hold| current_placement(hold, entry));
            let placement =
                placement.filter(|placement| placement.verified && placement.store_rejection.is_none());
            placement.is_some_and(|placement| {
                told.is_outdated() || u64::try_from(placement.segments) != Ok(told.count())
            })
        })
    }

    pub(crate) fn hold_by_uid(&self, uid: &str) -> Option<&IncidentHold> {
        let mut holds = self.holds.iter();
        holds.find(|hold| hold.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether the store refused something when everything was last verified.
    pub(crate) fn has_previous_rejection(&self) -> bool {
        let is_refused = |placement: &Placement| {
            placement.store_rejection.as_ref().is_some_and(StoreRejectionStatus::has_versions)
        };
        let mut of_holds = self.placements().filter_map(|(_, placement)| placement);
        self.previous_status().is_some_and(|before| before.store_rejection.is_some())
            || of_holds.any(is_refused)
    }

    /// Whether something was refused of a hold whose status does not say so yet.
    pub(crate) fn has_new_rejection(&self, placed: &PlaceReport) -> bool {
        let is_of_versions =
            |coverage: &Coverage| coverage.errors.as_ref().is_some_and(PassErrors::has_versions);
        let refused = self.plan.open.values().zip(&placed.coverage);
        let mut refused = refused.filter(|(_, coverage)| coverage.errors.is_some());
        refused.any(|(entry, coverage)| match self.hold_by_uid(&entry.uid) {
            Some(hold) => {
                current_placement(hold, entry).is_none_or(|placement| match &placement.store_rejection {
                    None => true,
                    Some(before) => is_of_versions(coverage) && !before.has_versions(),
                })
            }
            // What was not looked at of such a hold stands nowhere: it has its turn.
            None => is_of_versions(coverage) && !self.has_previous_rejection(),
        })
    }

    /// The open holds with their placements, as their status has them; `None`: of a hold whose scope has changed since.
    fn placements(&self) -> impl Iterator<Item = (&LedgerEntry, Option<&Placement>)> {
        let open = self.plan.open.values();
        open.filter_map(|entry| Some((entry, current_placement(self.hold_by_uid(&entry.uid)?, entry))))
    }

    /// When each of the open holds was last proved, as it is now. One that only the ledger has was when everything was.
    pub(crate) fn proved_at(&self) -> Vec<Option<Timestamp>> {
        let of_all = self.previous_status().filter(|before| before.store_rejection.is_none());
        let of_all = of_all.and_then(|before| before.last_verification_time.as_ref());
        let proved_at = |entry: &LedgerEntry| match self.hold_by_uid(&entry.uid) {
            Some(hold) => current_placement(hold, entry)
                .filter(|placement| placement.verified)?
                .last_verification_time
                .as_ref(),
            None => of_all,
        };
        // Of one that is new to the ledger, a status tells of the time before it was released, or lost.
        let is_new = |uid: &str| self.plan.to_write.iter().any(|entry| entry.uid == *uid);
        let known = |entry: &LedgerEntry| Some(entry).filter(|entry| !is_new(&entry.uid)).and_then(proved_at);
        self.plan.open.values().map(|entry| reject_future(known(entry)?.0, self.now)).collect()
    }

    /// When a release that the store refused lately is tried again; `None`: now.
    pub(crate) fn release_retry_at(&self, entry: &LedgerEntry) -> Option<Timestamp> {
        let placement = self.hold_by_uid(&entry.uid)?.status.as_ref()?.placement.as_ref()?;
        let refused = placement.store_rejection.as_ref()?;
        let pause = if refused.has_versions() || refused.retryable {
            REJECTED_RETRY_DELAY
        } else {
            UNVISITED_RETRY_DELAY
        };
        let again = reject_future(refused.time.0, self.now)? + pause;
        Some(again).filter(|again| *again > self.now)
    }

    /// Whether every recorder follows the holds that are open, and no other.
    pub(crate) fn have_recorders_acknowledged(&self) -> bool {
        self.bucket.hold_ack.has_acknowledged(&self.plan.recorder_scopes())
    }

    /// Whether every recorder has acknowledged this hold as it is: once it has, its later silence takes nothing back. A
    /// recorder that starts reads the open holds before it uploads anything.
    pub(crate) fn was_acknowledged(&self, entry: &LedgerEntry) -> bool {
        let placement = self.hold_by_uid(&entry.uid).and_then(|hold| current_placement(hold, entry));
        placement.is_some_and(|placement| placement.verified || placement.acknowledged)
    }
}

/// The placement of a hold, where its status speaks of what it covers now.
pub(crate) fn current_placement<'a>(hold: &'a IncidentHold, entry: &LedgerEntry) -> Option<&'a Placement> {
    let placement = hold.status.as_ref()?.placement.as_ref()?;
    Some(placement).filter(|placement| {
        placement.scope_hash == entry.scope_hash() && is_since_acceptance(placement, entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::retention::intervals::verify_interval;

    #[test]
    fn verify_interval_bounds_request_cost() {
        let every = |versions, listed_days, seconds| {
            let placed = PlaceReport { listed_days, ..PlaceReport::default() };
            verify_interval(&placed, versions, SignedDuration::from_secs(seconds)).as_secs()
        };
        assert_eq!(every(300, 20, 1), 15 * 60);
        assert_eq!(every(15_000, 750, 10), 62 * 60 + 30);
        assert_eq!(every(300, 750, 10), 37 * 60 + 30);
        assert_eq!(every(300, 20, 60), 20 * 60);
        assert_eq!(every(u64::MAX, u64::MAX, i64::MAX), 24 * 60 * 60);
    }
}
