//! Schedule of retention passes: how often and how far each looks, from the statuses of earlier passes. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::plan::HoldPlan;
use crate::api::{
    IncidentHold, Placement, RetentionStatus, Site, StoreRejectionStatus, earlier, later, reject_future,
};
use crate::controllers::handoff::HoldAck;
use crate::rules::LedgerEntry;
use crate::storage::PassErrors;
use crate::storage::recordings::audit::FindingKind;
use crate::storage::recordings::hold::PlaceReport;
use crate::storage::recordings::hold::coverage::Coverage;
use crate::storage::recordings::hold::protection_cache::ManifestVersions;
use crate::storage::recordings::sweep::state::ScanRange;
use crate::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

/// Shortest interval between full passes, which list everything that is held and read its protection.
const MIN_VERIFY_INTERVAL: SignedDuration = SignedDuration::from_mins(15);
/// Verification may use at most one part in this many of wall-clock time.
const DUTY_CYCLE: i32 = 20;
/// Bounds the daily cost on a store that charges for requests: 350,000 verified versions, with two requests each.
const TIME_PER_READ: SignedDuration = SignedDuration::from_millis(250);
/// The same for listings of cameras: about 30,000 a day. Listings of calls and of foreign objects are extra.
const TIME_PER_LISTING: SignedDuration = SignedDuration::from_secs(3);
const MAX_VERIFY_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// After a rejection, full passes run this many times as often, and may cost as much more.
const REJECTED_SPEEDUP: i32 = 15;
/// Delay before sources that had no turn are visited again: other sources have had theirs by then.
pub(crate) const UNVISITED_RETRY_DELAY: SignedDuration = SignedDuration::from_mins(10);
/// Longest delay before a place request that failed is retried: the retry lists everything but reads little.
const MAX_FAILURE_RETRY_DELAY: SignedDuration = SignedDuration::from_mins(5);
/// Delay before a rejected release, or one that failed, is retried.
pub(crate) const REJECTED_RETRY_DELAY: SignedDuration = SignedDuration::from_mins(1);
/// Interval between sweeps.
pub(crate) const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// Decisions about one pass, from the statuses of the Site and of its holds.
pub(crate) struct Schedule<'a> {
    pub(crate) site: &'a Site,
    pub(crate) holds: &'a [IncidentHold],
    pub(crate) plan: &'a HoldPlan,
    pub(crate) hold_ack: &'a HoldAck,
    pub(crate) now: Timestamp,
}

impl<'a> Schedule<'a> {
    fn status(&self) -> Option<&'a RetentionStatus> {
        self.site.status.as_ref()?.retention.as_ref()
    }

    /// Returns the interval between full passes, by the last one.
    pub(crate) fn verify_interval(&self) -> Option<SignedDuration> {
        self.status()?.verification_interval_seconds.map(SignedDuration::from_secs)
    }

    /// Returns the start of the last full pass. A time in the future comes from a clock that was wrong.
    pub(crate) fn verified_at(&self) -> Option<Timestamp> {
        reject_future(self.status()?.last_verification_time.as_ref()?.0, self.now)
    }

    /// Returns the range of the sweep that is due now, or the time of the next sweep.
    pub(crate) fn sweep_range(&self) -> Result<ScanRange, Timestamp> {
        let last = self.status().and_then(|status| status.last_sweep_time.as_ref());
        let last = last.and_then(|at| reject_future(at.0, self.now));
        if let Some(next) = last.map(|at| later(at, SWEEP_INTERVAL)).filter(|next| *next > self.now) {
            return Err(next);
        }
        let day = |at: Timestamp| jiff::tz::TimeZone::UTC.to_datetime(at).date();
        // Implausible keys may be on any day, so the first sweep of a day visits everything.
        let is_first_today = last.is_none_or(|at| day(at) != day(self.now));
        Ok(if is_first_today { ScanRange::All } else { ScanRange::Boundary })
    }

    /// Returns whether the audit found implausible keys, which may be on any day, or unprotected held versions, which
    /// were not on the visited days.
    pub(crate) fn has_misplaced_versions(&self) -> bool {
        const MISPLACED_KINDS: [FindingKind; 4] = [
            FindingKind::ImplausibleKey,
            FindingKind::HeldUnprotected,
            FindingKind::HeldMistagged,
            FindingKind::HeldHidden,
        ];
        let audit = self.site.status.as_ref().and_then(|status| status.audit.as_ref());
        let mut findings = audit.into_iter().flat_map(|audit| &audit.findings);
        findings.any(|finding| MISPLACED_KINDS.iter().any(|kind| finding.type_ == <&str>::from(kind)))
    }

    /// Returns whether the interval since the last full pass has passed.
    pub(crate) fn is_verify_due(&self) -> bool {
        match (self.verified_at(), self.verify_interval()) {
            (Some(at), Some(every)) => {
                later(at, effective_interval(every, self.has_previous_rejection())) <= self.now
            }
            _ => true,
        }
    }

    /// Returns whether a full pass is due: by its interval, for a new hold, for a retry, or to verify a hold. Holds in
    /// doubt (`uncertain`) cannot be verified yet.
    pub(crate) fn is_full_pass_due(&self, uncertain: &BTreeMap<String, SignedDuration>) -> bool {
        let is_new =
            !self.plan.to_write.is_empty() || self.placements().any(|(_, placement)| placement.is_none());
        let mut provable = self.placements().filter(|(entry, _)| !uncertain.contains_key(&entry.uid));
        let is_unverified = provable.any(|(_, placement)| {
            placement.is_some_and(|placement| !placement.verified && placement.store_rejection.is_none())
        });
        self.is_verify_due()
            || is_new
            || self.retry_at().is_some_and(|at| at <= self.now)
            || is_unverified && self.have_recorders_acknowledged()
    }

    /// Returns when failed requests and unvisited sources are retried. Rejected requests wait for the next verification.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        let every = effective_interval(self.verify_interval().unwrap_or(MIN_VERIFY_INTERVAL), true);
        let retry_at = |rejection: &StoreRejectionStatus| {
            let pause = match rejection {
                StoreRejectionStatus { retryable: true, .. } => {
                    every.clamp(REJECTED_RETRY_DELAY, MAX_FAILURE_RETRY_DELAY)
                }
                StoreRejectionStatus { versions: 0, .. } => every.max(UNVISITED_RETRY_DELAY),
                _ => return None,
            };
            Some(reject_future(rejection.time.0, self.now).map_or(self.now, |at| later(at, pause)))
        };
        let of_site = self.status().and_then(|status| status.store_rejection.as_ref());
        let of_holds = self.placements().filter_map(|(_, placement)| placement?.store_rejection.as_ref());
        of_site.into_iter().chain(of_holds).filter_map(retry_at).min()
    }

    /// Returns whether a hold's manifest disagrees with its status: the operator stopped between the two writes.
    pub(crate) fn has_stale_manifest(
        &self,
        manifests: &[Arc<ManifestVersions>],
        unread: &BTreeMap<String, PassErrors>,
    ) -> bool {
        let open = self.plan.open.values().zip(manifests);
        let mut open = open.filter(|(entry, _)| !unread.contains_key(&entry.uid));
        open.any(|(entry, manifest)| {
            let placement = self.placement(entry);
            let placement =
                placement.filter(|placement| placement.verified && placement.store_rejection.is_none());
            placement.is_some_and(|placement| {
                manifest.is_outdated() || u64::try_from(placement.segments) != Ok(manifest.versions.count())
            })
        })
    }

    fn hold(&self, uid: &str) -> Option<&'a IncidentHold> {
        self.holds.iter().find(|hold| hold.metadata.uid.as_deref() == Some(uid))
    }

    /// Returns whether the store rejected requests about versions in the last full pass.
    pub(crate) fn has_previous_rejection(&self) -> bool {
        let is_rejected = |placement: &Placement| {
            placement.store_rejection.as_ref().is_some_and(StoreRejectionStatus::has_versions)
        };
        let mut of_holds = self.placements().filter_map(|(_, placement)| placement);
        self.status().is_some_and(|status| status.store_rejection.is_some()) || of_holds.any(is_rejected)
    }

    /// Returns whether a pass found a rejection that the status of its hold does not have yet.
    pub(crate) fn has_new_rejection(&self, placed: &PlaceReport) -> bool {
        let is_of_versions =
            |coverage: &Coverage| coverage.errors.as_ref().is_some_and(PassErrors::has_versions);
        let rejected = self.plan.open.values().zip(&placed.coverage);
        let mut rejected = rejected.filter(|(_, coverage)| coverage.errors.is_some());
        rejected.any(|(entry, coverage)| match self.hold(&entry.uid) {
            Some(hold) => {
                current_placement(hold, entry).is_none_or(|placement| match &placement.store_rejection {
                    None => true,
                    Some(before) => is_of_versions(coverage) && !before.has_versions(),
                })
            }
            // Without a resource no status can have it. Unvisited parts have their turn in a later pass.
            None => is_of_versions(coverage) && !self.has_previous_rejection(),
        })
    }

    /// Returns the placement of an open hold, if its status is about the present scope.
    fn placement(&self, entry: &LedgerEntry) -> Option<&'a Placement> {
        current_placement(self.hold(&entry.uid)?, entry)
    }

    /// Returns the open holds that have a resource, with their placements. `None`: the scope has changed since.
    fn placements(&self) -> impl Iterator<Item = (&'a LedgerEntry, Option<&'a Placement>)> {
        let open = self.plan.open.values();
        open.filter_map(|entry| Some((entry, current_placement(self.hold(&entry.uid)?, entry))))
    }

    /// Returns when each open hold was last verified in its present scope. A hold that only the ledger has is as old as
    /// the last full pass.
    pub(crate) fn proved_at(&self) -> Vec<Option<Timestamp>> {
        let proved_at = |entry: &LedgerEntry| {
            // The status of a hold that is new to the ledger is older than its release or loss.
            if self.plan.to_write.iter().any(|written| written.uid == entry.uid) {
                return None;
            }
            match self.hold(&entry.uid) {
                Some(hold) => {
                    let placement = current_placement(hold, entry).filter(|placement| placement.verified)?;
                    reject_future(placement.last_verification_time.as_ref()?.0, self.now)
                }
                None => {
                    self.verified_at().filter(|_| self.status().is_some_and(|s| s.store_rejection.is_none()))
                }
            }
        };
        self.plan.open.values().map(proved_at).collect()
    }

    /// Returns when a rejected release is retried. `None`: now.
    pub(crate) fn release_retry_at(&self, entry: &LedgerEntry) -> Option<Timestamp> {
        let placement = self.hold(&entry.uid)?.status.as_ref()?.placement.as_ref()?;
        let rejection = placement.store_rejection.as_ref()?;
        let pause = if rejection.has_versions() || rejection.retryable {
            REJECTED_RETRY_DELAY
        } else {
            UNVISITED_RETRY_DELAY
        };
        let again = later(reject_future(rejection.time.0, self.now)?, pause);
        Some(again).filter(|again| *again > self.now)
    }

    /// Returns whether requests of a release may be under way: a hold is being released, or was until recently.
    pub(crate) fn is_releasing(&self) -> bool {
        let recently = earlier(self.now, SIGNATURE_VALIDITY);
        let released_at =
            |hold: &IncidentHold| hold.status.as_ref()?.placement.as_ref()?.release_time.clone();
        !self.plan.closing.is_empty()
            || self.plan.closed.iter().any(|entry| entry.closed_at.is_none_or(|at| at > recently))
            || self.holds.iter().filter_map(released_at).any(|at| at.0 > recently)
    }

    /// Returns whether every recorder has acknowledged the open holds, and that the others ended.
    pub(crate) fn have_recorders_acknowledged(&self) -> bool {
        let releasing = self.plan.closing.iter().map(|entry| entry.uid.as_str()).collect();
        self.hold_ack.has_acknowledged(&self.plan.recorder_scopes(), &releasing)
    }

    /// Returns whether every recorder has once acknowledged this hold in its present scope. A recorder that is silent
    /// since does not revoke it: one that starts reads the open holds before it uploads.
    pub(crate) fn was_acknowledged(&self, entry: &LedgerEntry) -> bool {
        self.placement(entry).is_some_and(|placement| placement.verified || placement.acknowledged)
    }

    /// Returns the protections that the cache may be trusted for, between full passes: those read since then.
    pub(crate) fn trusted_since(&self) -> Timestamp {
        earlier(self.now, self.verify_interval().unwrap_or(MIN_VERIFY_INTERVAL))
    }
}

/// Returns the placement of a hold, if its status is about the entry's scope and acceptance.
fn current_placement<'a>(hold: &'a IncidentHold, entry: &LedgerEntry) -> Option<&'a Placement> {
    let placement = hold.status.as_ref()?.placement.as_ref()?;
    Some(placement).filter(|placement| {
        placement.scope_hash == entry.scope_hash() && is_since_acceptance(placement, entry)
    })
}

/// Returns whether a placement belongs to the entry's acceptance. An older one comes from a backup and may precede a
/// release. Compares whole seconds, as a status has them.
pub(crate) fn is_since_acceptance(placement: &Placement, entry: &LedgerEntry) -> bool {
    placement.acceptance_time.0.as_second() == entry.accepted_at.as_second()
}

/// Returns the interval to the next full pass, from the cost of the last one.
pub(crate) fn next_verify_interval(
    placed: &PlaceReport,
    versions: u64,
    took: SignedDuration,
) -> SignedDuration {
    let times =
        |each: SignedDuration, count: u64| each.saturating_mul(i32::try_from(count).unwrap_or(i32::MAX));
    MIN_VERIFY_INTERVAL
        .max(took.saturating_mul(DUTY_CYCLE))
        .max(times(TIME_PER_READ, versions))
        .max(times(TIME_PER_LISTING, placed.listed_days))
        // Last: no cost postpones the verification further.
        .min(MAX_VERIFY_INTERVAL)
}

pub(crate) fn effective_interval(every: SignedDuration, is_rejected: bool) -> SignedDuration {
    if is_rejected { every / REJECTED_SPEEDUP } else { every }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verify_interval_bounds_request_cost() {
        let every = |versions, listed_days, seconds| {
            let placed = PlaceReport { listed_days, ..PlaceReport::default() };
            next_verify_interval(&placed, versions, SignedDuration::from_secs(seconds)).as_secs()
        };
        assert_eq!(every(300, 20, 1), 15 * 60);
        assert_eq!(every(15_000, 750, 10), 62 * 60 + 30);
        assert_eq!(every(300, 750, 10), 37 * 60 + 30);
        assert_eq!(every(300, 20, 60), 20 * 60);
        assert_eq!(every(u64::MAX, u64::MAX, i64::MAX), 24 * 60 * 60);
    }
}
