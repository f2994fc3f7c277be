//! Whether the last audit found the promises kept. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{AuditStatus, Ceilings, Days, reject_future};
use crate::controllers::kubernetes::quantity::format_size;

/// An audit of the days at the ceiling is due hourly; one that is this old says nothing of now.
const MAX_AUDIT_AGE: SignedDuration = SignedDuration::from_hours(3);
/// How old counts of the whole bucket are at most, in words.
const FULL_AUDIT_INTERVAL: &str = "24 h";

/// The ceilings of a site (article 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCeilings {
    /// Those that rule lifecycle, sweep and audit: the policy's, or the last that could be followed.
    pub effective: Ceilings,
    /// What the cluster allows at most.
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
    /// Whether the audit at `boundary_at` saw a recording that is too old for the lower of the two ceilings.
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

/// Whether the last audit found the promises kept: what is said of the bucket here is from what was in it, not from what
/// was done to it. It is judged by the lower of the ceilings that rule and those that the cluster allows.
pub fn evaluate_compliance(
    audit: Option<&AuditStatus>,
    ceilings: Option<&SiteCeilings>,
    now: Timestamp,
) -> ConditionFinding {
    let new_finding = |truth, reason, message: String| {
        ConditionFinding::new(ConditionType::Compliant, truth, reason, message)
    };
    let Some(audit) = audit else {
        let message = "there was no audit yet: it follows once the bucket is read back".to_owned();
        return new_finding(ConditionStatus::Unknown, Reason::NotAudited, message);
    };
    let boundary_at = audit.last_boundary_audit_time.0;
    if reject_future(boundary_at, now).is_none_or(|at| now.duration_since(at) > MAX_AUDIT_AGE) {
        let message = format!("the last audit is of {boundary_at}: is the store there?");
        return new_finding(ConditionStatus::Unknown, Reason::NotAudited, message);
    }
    let counts = describe_counts(audit, ceilings);
    let parts: Vec<String> =
        audit.findings.iter().map(|finding| format!("{} {}", finding.count, finding.type_)).collect();
    let findings = if parts.is_empty() { String::new() } else { format!("; {}", parts.join(", ")) };
    if audit.findings.iter().any(|finding| finding.violation) {
        let message =
            format!("{counts}{findings}: docs/how-to/audit-a-bucket.md says what each means and what to do");
        return new_finding(ConditionStatus::False, Reason::ViolationsFound, message);
    }
    let classes = ceilings.map(|ceilings| ceilings.classes(audit));
    let over = classes.iter().flatten().filter(|class| class.is_past_ceiling(boundary_at));
    let (lowered, newer): (Vec<_>, Vec<_>) = over.partition(|class| class.cluster < class.effective);
    if !lowered.is_empty() {
        let lowered: Vec<String> = lowered.into_iter().map(describe_lowered_ceiling).collect();
        return new_finding(
            ConditionStatus::False,
            Reason::CeilingLowered,
            format!("{}. {counts}{findings}", lowered.join("; ")),
        );
    }
    if !newer.is_empty() {
        let message = format!(
            "the policy's ceilings were lowered after the last audit, of {boundary_at}: the next follows within the hour"
        );
        return new_finding(ConditionStatus::Unknown, Reason::NotAudited, message);
    }
    new_finding(ConditionStatus::True, Reason::AuditPassed, format!("{counts}{findings}"))
}

/// A recording that the cluster no longer allows, and what to do.
fn describe_lowered_ceiling(class: &ClassCompliance<'_>) -> String {
    let ClassCompliance { name, field, oldest, effective, cluster } = class;
    let oldest = oldest.map_or(Timestamp::MIN, |oldest| oldest.0);
    format!(
        "the {name} of {oldest} is older than the cluster's ceiling of {cluster}, which was lowered below the {effective} of the last \
         policy that could be followed; recordings go by the {effective} until spec.retention.{field} of the RecordingPolicy is \
         {cluster} or less, or the cluster's administrators raise ceilings.{field} of the operator"
    )
}

fn describe_counts(audit: &AuditStatus, ceilings: Option<&SiteCeilings>) -> String {
    format!(
        "audited at {}, the days at the ceiling at {}; all is audited again within {FULL_AUDIT_INTERVAL}. There were {} versions of {}, {} of \
         them held, {} inspected{}",
        audit.last_full_audit_time.0,
        audit.last_boundary_audit_time.0,
        audit.versions,
        format_size(u64::try_from(audit.bytes).unwrap_or_default()),
        audit.held_versions,
        audit.inspected_versions,
        describe_oldest(audit, ceilings),
    )
}

/// From when the oldest is of each class, against its ceiling (article 6), and how late the store's own lifecycle was: no
/// ages, so that nothing is written as time goes by.
fn describe_oldest(audit: &AuditStatus, ceilings: Option<&SiteCeilings>) -> String {
    let Some(ceilings) = ceilings else {
        return String::new();
    };
    let mut text = String::new();
    for class in ceilings.classes(audit) {
        let ClassCompliance { name, effective, cluster, .. } = class;
        if let Some(Time(oldest)) = class.oldest {
            let until = expires_at(*oldest, effective);
            let _ =
                write!(text, "; the oldest {name} that no hold covered was of {oldest}, and goes by {until}");
        }
        if cluster < effective {
            let _ = write!(text, "; the cluster's ceiling for each {name} is {cluster}");
        }
    }
    if audit.lifecycle_lag_seconds > 0 {
        let _ = write!(text, "; the store's lifecycle was {} s late", audit.lifecycle_lag_seconds);
    }
    text
}

/// When a recording of `from` is over its ceiling.
fn expires_at(from: Timestamp, ceiling: Days) -> Timestamp {
    let ceiling = SignedDuration::from_hours(24 * i64::from(ceiling.0));
    from.saturating_add(ceiling).unwrap_or(Timestamp::MAX)
}
