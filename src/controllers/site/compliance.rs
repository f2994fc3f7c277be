//! `Compliant`: whether the last audit found the promises kept. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{AuditStatus, Ceilings, Days, reject_future};
use crate::controllers::kubernetes::quantity::format_size;

/// Age up to which an audit counts. The days at the ceiling are audited hourly.
const MAX_AUDIT_AGE: SignedDuration = SignedDuration::from_hours(3);
/// Interval between two audits of the whole bucket, in words.
const FULL_AUDIT_INTERVAL: &str = "24 h";

/// Ceilings of a site (article 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCeilings {
    /// Ceilings of lifecycle, sweep and audit: those of the policy, or the last valid ones.
    pub effective: Ceilings,
    /// Ceilings of the cluster.
    pub cluster: Ceilings,
}

struct ClassCompliance<'a> {
    name: &'static str,
    field: &'static str,
    oldest: Option<&'a Time>,
    effective: Days,
    cluster: Days,
}

impl ClassCompliance<'_> {
    /// Whether the audit at `boundary_at` found a recording past the lower of the two ceilings.
    fn is_past_ceiling(&self, boundary_at: Timestamp) -> bool {
        self.oldest
            .is_some_and(|oldest| expires_at(oldest.0, self.effective.min(self.cluster)) <= boundary_at)
    }
}

impl SiteCeilings {
    fn classes<'a>(&self, audit: &'a AuditStatus) -> [ClassCompliance<'a>; 2] {
        let Self { effective, cluster } = self;
        [
            ClassCompliance {
                name: "video",
                field: "video",
                oldest: audit.oldest_unheld_video_time.as_ref(),
                effective: effective.video,
                cluster: cluster.video,
            },
            ClassCompliance {
                name: "call",
                field: "calls",
                oldest: audit.oldest_unheld_calls_time.as_ref(),
                effective: effective.calls,
                cluster: cluster.calls,
            },
        ]
    }
}

/// Returns `Compliant`, from the content of the bucket and not from the operator's actions. The lower of the effective and
/// the cluster's ceilings counts.
pub fn evaluate_compliance(
    audit: Option<&AuditStatus>,
    ceilings: Option<&SiteCeilings>,
    now: Timestamp,
) -> ConditionFinding {
    use ConditionStatus::{False, True, Unknown};
    let finding = |status: ConditionStatus, reason, message: String| {
        ConditionFinding::new(ConditionType::Compliant, status, reason, message)
    };
    let Some(audit) = audit else {
        let message = "no audit yet: the first one follows once the bucket is read back".to_owned();
        return finding(Unknown, Reason::NotAudited, message);
    };
    let boundary_at = audit.last_boundary_audit_time.0;
    if reject_future(boundary_at, now).is_none_or(|at| now.duration_since(at) > MAX_AUDIT_AGE) {
        let message = format!(
            "the last audit was at {boundary_at}, not within the last three hours; see StorageEnforced"
        );
        return finding(Unknown, Reason::NotAudited, message);
    }
    let violations = describe_findings(audit, true);
    let mut counts = describe_counts(audit, ceilings);
    let notes = describe_findings(audit, false);
    if !notes.is_empty() {
        let _ = write!(counts, "; also reported: {notes}");
    }
    if !violations.is_empty() {
        // The verdict comes first: an event has room for the beginning of a message only.
        let message = format!("{violations}; docs/how-to/audit-a-bucket.md explains each finding; {counts}");
        return finding(False, Reason::ViolationsFound, message);
    }
    let classes = ceilings.map(|ceilings| ceilings.classes(audit));
    let past = classes.iter().flatten().filter(|class| class.is_past_ceiling(boundary_at));
    // A recording past a lowered ceiling of the policy is the next sweep's work. One past a lowered ceiling of the cluster
    // stays until a person decides.
    let (lowered, awaiting_audit): (Vec<_>, Vec<_>) = past.partition(|class| class.cluster < class.effective);
    if !lowered.is_empty() {
        let lowered: Vec<String> = lowered.into_iter().map(describe_lowered_ceiling).collect();
        return finding(False, Reason::CeilingLowered, format!("{}. {counts}", lowered.join("; ")));
    }
    if !awaiting_audit.is_empty() {
        let message = format!(
            "the policy's ceilings were lowered after the last audit at {boundary_at}: the next audit follows within one hour"
        );
        return finding(Unknown, Reason::NotAudited, message);
    }
    finding(True, Reason::AuditPassed, counts)
}

/// Describes a recording that the cluster does not allow any more, with the remedies.
fn describe_lowered_ceiling(class: &ClassCompliance<'_>) -> String {
    let ClassCompliance { name, field, oldest, effective, cluster } = class;
    let oldest = oldest.map_or(Timestamp::MIN, |oldest| oldest.0);
    format!(
        "the {name} of {oldest} is past the cluster's ceiling of {cluster}, which was lowered below the {effective} of the last \
         accepted policy; recordings expire after {effective} until spec.retention.{field} of the RecordingPolicy is {cluster} or \
         less, or the cluster's administrators raise ceilings.{field} of the operator"
    )
}

/// Describes the findings that are violations, or the others.
fn describe_findings(audit: &AuditStatus, is_violation: bool) -> String {
    let findings = audit.findings.iter().filter(|finding| finding.violation == is_violation);
    let findings: Vec<String> =
        findings.map(|finding| format!("{} {}", finding.count, finding.type_)).collect();
    findings.join(", ")
}

/// Describes the audit: times, counts and the oldest recording of each class.
fn describe_counts(audit: &AuditStatus, ceilings: Option<&SiteCeilings>) -> String {
    let mut text = format!(
        "audited at {}, the days at the ceiling at {}; the next full audit follows within {FULL_AUDIT_INTERVAL}; {} versions of {}, \
         {} of them held, {} inspected",
        audit.last_full_audit_time.0,
        audit.last_boundary_audit_time.0,
        audit.versions,
        format_size(u64::try_from(audit.bytes).unwrap_or_default()),
        audit.held_versions,
        audit.inspected_versions,
    );
    if let Some(ceilings) = ceilings {
        describe_oldest(&mut text, audit, ceilings);
    }
    text
}

/// Adds the oldest recording of each class with its expiry (article 6), and the delay of the store's lifecycle. With times
/// and not with ages, which would change the status at each reconcile.
fn describe_oldest(text: &mut String, audit: &AuditStatus, ceilings: &SiteCeilings) {
    for class in ceilings.classes(audit) {
        let ClassCompliance { name, field, effective, cluster, .. } = class;
        if let Some(Time(oldest)) = class.oldest {
            let until = expires_at(*oldest, effective);
            let _ = write!(
                text,
                "; the oldest {name} that no hold covers began at {oldest} and expires by {until}"
            );
        }
        if cluster < effective {
            let _ = write!(text, "; the cluster's ceiling of {field} is {cluster}");
        }
    }
    if audit.lifecycle_lag_seconds > 0 {
        let _ = write!(text, "; the store's lifecycle was {} s late", audit.lifecycle_lag_seconds);
    }
}

/// Returns the time at which a recording of `from` passes its ceiling.
fn expires_at(from: Timestamp, ceiling: Days) -> Timestamp {
    let ceiling = SignedDuration::from_hours(24 * i64::from(ceiling.0));
    from.saturating_add(ceiling).unwrap_or(Timestamp::MAX)
}
