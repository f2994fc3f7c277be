//! Audits each Site's bucket, independently of the other controllers: from the bucket's content and the holds of the
//! API server. All of it daily, the days at the ceiling hourly.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};

use super::context::{Context, ControllerKind};
use super::handoff::{SiteBucket, sites_in_scope};
use super::kubernetes::{ApiError, meta};
use super::requeue;
use super::retention::list_holds;
use super::runner::{Reconciled, Reconciler, write_status_part};
use crate::api::{AuditFinding, AuditStatus, Ceilings, Site, SiteStatus, later, reject_future};
use crate::leader::fence::NotLeader;
use crate::rules::Class;
use crate::rules::hold::resolution::is_resolved;
use crate::storage::recordings::audit::{
    AuditError, AuditOptions, FindingKind, Tally, audit, is_at_boundary,
};
use crate::storage::recordings::sweep::state::ScanRange;

/// Field manager of the audit status.
const MANAGER: &str = "toezicht/audit";
const FULL_AUDIT_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// Interval between full audits while a held version is at risk.
const AT_RISK_AUDIT_INTERVAL: SignedDuration = SignedDuration::from_mins(15);
/// Interval between audits of the days at the ceiling.
const BOUNDARY_AUDIT_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// Of this many versions that no hold covers, the tag and legal hold of one are read.
const SAMPLE_ONE_IN: u32 = 100;

/// Reason that an audit failed.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum AuditReconcileError {
    /// The API server rejected or failed a request.
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    #[strum(transparent)]
    Audit(#[from] AuditError),
    /// This replica is no longer the leader.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}

/// Returns the controller of the audits of the Sites of `scope`, or of all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<DeserializeGuard<Site>> {
    let (sites, opened) = (&context.cache.sites, sites_in_scope(context.handoff.bucket_changes(), scope));
    sites.controller(sites.changes_of_spec()).reconcile_on(opened)
}

pub struct AuditReconciler {
    pub context: Context,
}

impl Reconciler for AuditReconciler {
    type Object = Site;
    type Failure = AuditReconcileError;
    const KIND: ControllerKind = ControllerKind::Audit;
    const REFETCH: bool = true;

    async fn reconcile(&self, site: &Site, now: Timestamp) -> Result<Reconciled, AuditReconcileError> {
        let before = site.status.as_ref().and_then(|status| status.audit.as_ref());
        let bucket = self.context.handoff.bucket(site).filter(|_| !meta::is_paused(site));
        let (Some(bucket), Some(reach)) = (bucket, due_reach(before, now)) else {
            let next = before.map(|before| later(before.last_boundary_audit_time.0, audit_interval(before)));
            return Ok(Reconciled {
                action: next.map_or_else(Action::await_change, |next| requeue::at(now, [next])),
                is_changed: false,
            });
        };
        // Read again: other Sites may have had their turn since, and somebody may have corrected the clock.
        let tally = self.audit(site, &bucket, reach, Timestamp::now()).await?;
        let next = audit_status(before, &tally, reach, &bucket.terms.ceilings, now);
        let again = later(now, audit_interval(&next));
        let part = |audit| SiteStatus { audit: Some(audit), ..SiteStatus::default() };
        let before = before.cloned().map(part);
        let is_changed =
            write_status_part(&self.context, MANAGER, site, before.as_ref(), &part(next)).await?;
        Ok(Reconciled { action: requeue::at(now, [again]), is_changed })
    }
}

impl AuditReconciler {
    async fn audit(
        &self,
        site: &Site,
        bucket: &SiteBucket,
        reach: ScanRange,
        now: Timestamp,
    ) -> Result<Tally, AuditReconcileError> {
        let holds = list_holds(&self.context.client, site).await?;
        let known = holds.iter().filter_map(|hold| Some((hold.uid()?, is_resolved(hold, now)))).collect();
        let scope = AuditOptions {
            terms: bucket.terms.clone(),
            range: reach,
            sample_one_in: SAMPLE_ONE_IN,
            known_holds: Some(known),
            // Empty: an audit must not trust protections that the passes have cached.
            cache: self.context.handoff.protection_cache(site).empty_sibling().into(),
        };
        Ok(self.context.fence.guard(audit(&bucket.operator, &scope, now)).await??)
    }
}

/// Returns the range that is due. `None`: nothing yet.
pub fn due_reach(before: Option<&AuditStatus>, now: Timestamp) -> Option<ScanRange> {
    let is_within =
        |at: &Time, every| reject_future(at.0, now).is_some_and(|at| now.duration_since(at) < every);
    match before {
        Some(before) if is_within(&before.last_boundary_audit_time, audit_interval(before)) => None,
        Some(before) if is_within(&before.last_full_audit_time, full_audit_interval(before)) => {
            Some(ScanRange::Boundary)
        }
        _ => Some(ScanRange::All),
    }
}

/// The operator restores unprotected held versions within minutes, so a new audit soon tells whether it did.
fn full_audit_interval(before: &AuditStatus) -> SignedDuration {
    let is_at_risk = before.findings.iter().any(|finding| {
        finding.type_.starts_with("Held") || finding.type_ == <&str>::from(FindingKind::UnreadProtection)
    });
    if is_at_risk { AT_RISK_AUDIT_INTERVAL } else { FULL_AUDIT_INTERVAL }
}

/// Returns the interval between an audit and the next.
pub fn audit_interval(before: &AuditStatus) -> SignedDuration {
    full_audit_interval(before).min(BOUNDARY_AUDIT_INTERVAL)
}

/// Returns the status after an audit.
///
/// An audit of the days at the ceiling shows everything that is overdue by a plausible key, and the oldest recording if
/// it is there. Everything else keeps the value of the last full audit, unless more was found.
pub fn audit_status(
    before: Option<&AuditStatus>,
    tally: &Tally,
    reach: ScanRange,
    ceilings: &Ceilings,
    now: Timestamp,
) -> AuditStatus {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let found = tally.findings.iter().map(|(found, findings)| AuditFinding {
        type_: <&str>::from(found).to_owned(),
        count: count(findings.count),
        violation: found.is_violation(),
        examples: findings.examples.clone(),
    });
    let oldest = |class| tally.oldest_unheld.get(&class).copied().map(Time);
    match (reach, before) {
        (ScanRange::Boundary, Some(before)) => {
            // A recording on a listed day that was not found again is gone. One that was found may be younger, on a
            // future day.
            let older = |class, before: &Option<Time>| {
                let is_listed = |before: &Time| is_at_boundary(class, ceilings, before.0, now);
                let still = before.clone().filter(|before| !is_listed(before));
                still.into_iter().chain(oldest(class)).min()
            };
            AuditStatus {
                last_boundary_audit_time: Time(now),
                oldest_unheld_video_time: older(Class::Video, &before.oldest_unheld_video_time),
                oldest_unheld_calls_time: older(Class::Calls, &before.oldest_unheld_calls_time),
                findings: merge_findings(&before.findings, found.collect()),
                ..before.clone()
            }
        }
        _ => AuditStatus {
            last_full_audit_time: Time(now),
            last_boundary_audit_time: Time(now),
            versions: count(tally.versions),
            bytes: count(tally.bytes),
            held_versions: count(tally.held_versions),
            inspected_versions: count(tally.inspected_versions),
            sample_one_in: i64::from(SAMPLE_ONE_IN),
            oldest_unheld_video_time: oldest(Class::Video),
            oldest_unheld_calls_time: oldest(Class::Calls),
            lifecycle_lag_seconds: tally.lifecycle_lag_seconds.as_secs(),
            findings: sort_findings(found.collect()),
        },
    }
}

/// Merges the findings of a full audit with those of a later audit at the ceiling. The later one shows everything
/// overdue, except recordings with implausible keys, which expire on another day than that of their key.
fn merge_findings(before: &[AuditFinding], mut seen: Vec<AuditFinding>) -> Vec<AuditFinding> {
    let named = |kind: FindingKind| before.iter().find(|finding| finding.type_ == <&str>::from(kind));
    let all_overdue_is_seen = named(FindingKind::ImplausibleKey).is_none();
    let overdue = named(FindingKind::Overdue).filter(|_| all_overdue_is_seen);
    for old in before.iter().filter(|old| Some(*old) != overdue) {
        match seen.iter_mut().find(|new| new.type_ == old.type_) {
            Some(new) if new.count >= old.count => (),
            Some(new) => *new = old.clone(),
            None => seen.push(old.clone()),
        }
    }
    sort_findings(seen)
}

/// Sorted, so that the status changes only with the findings.
fn sort_findings(mut findings: Vec<AuditFinding>) -> Vec<AuditFinding> {
    findings.sort_by(|one, other| one.type_.cmp(&other.type_));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::rules::PROTOCOL_CEILINGS;

    fn tally_of(findings: &[(FindingKind, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (kind, count) in findings {
            tally.findings.entry(*kind).or_default().count = *count;
        }
        tally
    }

    fn full_audit(tally: &Tally, now: Timestamp) -> AuditStatus {
        audit_status(None, tally, ScanRange::All, &PROTOCOL_CEILINGS, now)
    }

    #[test]
    fn findings_on_held_versions_shorten_the_interval() {
        let minutes = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let of = |found: &[(FindingKind, u64)]| full_audit(&tally_of(found), minutes(0));
        let (quiet, at_risk) = (of(&[]), of(&[(FindingKind::HeldUnprotected, 1)]));
        assert_eq!(due_reach(Some(&quiet), minutes(15)), None);
        assert_eq!(due_reach(Some(&quiet), minutes(60)), Some(ScanRange::Boundary));
        assert_eq!(due_reach(Some(&at_risk), minutes(14)), None);
        assert_eq!(due_reach(Some(&at_risk), minutes(15)), Some(ScanRange::All));
        // A status from a clock that was days ahead does not count.
        assert_eq!(due_reach(Some(&quiet), minutes(-10 * 24 * 60)), Some(ScanRange::All));
        // After a full audit without findings, none are reported.
        let mended =
            audit_status(Some(&at_risk), &Tally::default(), ScanRange::All, &PROTOCOL_CEILINGS, minutes(15));
        assert!(mended.findings.is_empty());
    }

    #[test]
    fn boundary_audit_clears_only_findings_of_listed_days() {
        let day = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
        let mut tally = tally_of(&[
            (FindingKind::Overdue, 2),
            (FindingKind::UnexpectedObject, 3),
            (FindingKind::Mistagged, 4),
        ]);
        tally.oldest_unheld.insert(Class::Video, day(2));
        tally.oldest_unheld.insert(Class::Calls, day(25));
        let whole = full_audit(&tally, day(29));
        let boundary_audit =
            |seen: &Tally| audit_status(Some(&whole), seen, ScanRange::Boundary, &PROTOCOL_CEILINGS, day(31));
        // Two days later, the day of the video is listed and that of the call is not.
        let next =
            boundary_audit(&tally_of(&[(FindingKind::UnexpectedObject, 1), (FindingKind::Mistagged, 5)]));
        let counts: Vec<_> = next.findings.iter().map(|found| (found.type_.as_str(), found.count)).collect();
        assert_eq!(counts, [("Mistagged", 5), ("UnexpectedObject", 3)]);
        assert_eq!(next.oldest_unheld_video_time, None);
        assert_eq!(next.oldest_unheld_calls_time, Some(Time(day(25))));
        let mut seen = Tally::default();
        seen.oldest_unheld.insert(Class::Video, day(3));
        // Of a future day, by its key.
        seen.oldest_unheld.insert(Class::Calls, day(30));
        let next = boundary_audit(&seen);
        assert_eq!(next.oldest_unheld_video_time, Some(Time(day(3))));
        assert_eq!(next.oldest_unheld_calls_time, Some(Time(day(25))));
    }

    #[test]
    fn overdue_finding_with_implausible_keys_stays_until_full_audit() {
        let is_reported = |before: &[(FindingKind, u64)]| {
            let now = Timestamp::UNIX_EPOCH;
            let whole = full_audit(&tally_of(before), now);
            let (seen, ceilings) = (Tally::default(), &PROTOCOL_CEILINGS);
            let next = audit_status(Some(&whole), &seen, ScanRange::Boundary, ceilings, now);
            next.findings.iter().any(|finding| finding.type_ == "Overdue")
        };
        assert!(!is_reported(&[(FindingKind::Overdue, 1)]));
        assert!(is_reported(&[(FindingKind::Overdue, 1), (FindingKind::ImplausibleKey, 1)]));
    }
}
