//! Whether the last audit found the promises kept. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{AuditStatus, Ceilings, Days, past};
use crate::controllers::kit::quantity::size;

/// An audit of the days at the ceiling is due hourly; one that is this old says nothing of now.
const AUDIT_IS_OLD: SignedDuration = SignedDuration::from_hours(3);
/// How old counts of the whole bucket are at most, in words.
const AUDITED_EVERY: &str = "24 h";

/// The ceilings of a site (article 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Those that rule lifecycle, sweep and audit: the policy's, or the last that could be followed.
    pub ruling: Ceilings,
    /// What the cluster allows at most.
    pub cluster: Ceilings,
}

/// One class against its ceilings.
struct OfClass<'a> {
    name: &'static str,
    field: &'static str,
    oldest: Option<&'a Time>,
    ruling: Days,
    cluster: Days,
}

impl OfClass<'_> {
    /// Whether the audit at `boundary_at` saw a recording that is too old for the lower of the two ceilings.
    fn is_over(&self, boundary_at: Timestamp) -> bool {
        self.oldest.is_some_and(|oldest| end(oldest.0, self.ruling.min(self.cluster)) <= boundary_at)
    }
}

impl InForce {
    fn classes<'a>(&self, audit: &'a AuditStatus) -> [OfClass<'a>; 2] {
        let Self { ruling, cluster } = self;
        [
            OfClass {
                name: "video",
                field: "video",
                oldest: audit.oldest_unheld_video.as_ref(),
                ruling: ruling.video,
                cluster: cluster.video,
            },
            OfClass {
                name: "call",
                field: "calls",
                oldest: audit.oldest_unheld_calls.as_ref(),
                ruling: ruling.calls,
                cluster: cluster.calls,
            },
        ]
    }
}

/// Whether the last audit found the promises kept: what is said of the bucket here is from what was in it, not from what
/// was done to it. It is judged by the lower of the ceilings that rule and those that the cluster allows.
pub fn compliant(audit: Option<&AuditStatus>, ceilings: Option<&InForce>, now: Timestamp) -> Finding {
    let found =
        |truth, reason, message: String| Finding::new(ConditionType::Compliant, truth, reason, message);
    let Some(audit) = audit else {
        let message = "there was no audit yet: it follows once the bucket is read back".to_owned();
        return found(Truth::Unknown, Reason::NotAudited, message);
    };
    let boundary_at = audit.boundary_at.0;
    if past(boundary_at, now).is_none_or(|at| now.duration_since(at) > AUDIT_IS_OLD) {
        let message = format!("the last audit is of {boundary_at}: is the store there?");
        return found(Truth::Unknown, Reason::NotAudited, message);
    }
    let counts = counts(audit, ceilings);
    let told: Vec<String> =
        audit.findings.iter().map(|finding| format!("{} {}", finding.count, finding.kind)).collect();
    let told = if told.is_empty() { String::new() } else { format!("; {}", told.join(", ")) };
    if audit.findings.iter().any(|finding| finding.violation) {
        let message = format!("{counts}{told}: docs/audit.md says what each means and what to do");
        return found(Truth::False, Reason::FoundViolations, message);
    }
    let classes = ceilings.map(|ceilings| ceilings.classes(audit));
    let over = classes.iter().flatten().filter(|class| class.is_over(boundary_at));
    let (lowered, newer): (Vec<_>, Vec<_>) = over.partition(|class| class.cluster < class.ruling);
    if !lowered.is_empty() {
        let lowered: Vec<String> = lowered.into_iter().map(too_old).collect();
        return found(
            Truth::False,
            Reason::CeilingLowered,
            format!("{}. {counts}{told}", lowered.join("; ")),
        );
    }
    if !newer.is_empty() {
        let message = format!(
            "the policy's ceilings were lowered after the last audit, of {boundary_at}: the next follows within the hour"
        );
        return found(Truth::Unknown, Reason::NotAudited, message);
    }
    found(Truth::True, Reason::Audited, format!("{counts}{told}"))
}

/// A recording that the cluster no longer allows, and what to do.
fn too_old(class: &OfClass<'_>) -> String {
    let OfClass { name, field, oldest, ruling, cluster } = class;
    let oldest = oldest.map_or(Timestamp::MIN, |oldest| oldest.0);
    format!(
        "the {name} of {oldest} is older than the cluster's ceiling of {cluster}, which was lowered below the {ruling} of the last \
         policy that could be followed; recordings go by the {ruling} until spec.retention.{field} of the RecordingPolicy is \
         {cluster} or less, or the cluster's administrators raise ceilings.{field} of the operator"
    )
}

fn counts(audit: &AuditStatus, ceilings: Option<&InForce>) -> String {
    format!(
        "audited at {}, the days at the ceiling at {}; all is audited again within {AUDITED_EVERY}. There were {} versions of {}, {} of \
         them held, {} inspected{}",
        audit.audited_at.0,
        audit.boundary_at.0,
        audit.versions,
        size(u64::try_from(audit.bytes).unwrap_or_default()),
        audit.held,
        audit.inspected,
        oldest(audit, ceilings),
    )
}

/// From when the oldest is of each class, against its ceiling (article 6), and how late the store's own lifecycle was: no
/// ages, so that nothing is written as time goes by.
fn oldest(audit: &AuditStatus, ceilings: Option<&InForce>) -> String {
    let Some(ceilings) = ceilings else {
        return String::new();
    };
    let mut told = String::new();
    for class in ceilings.classes(audit) {
        let OfClass { name, ruling, cluster, .. } = class;
        if let Some(Time(oldest)) = class.oldest {
            let until = end(*oldest, ruling);
            let _ =
                write!(told, "; the oldest {name} that no hold covered was of {oldest}, and goes by {until}");
        }
        if cluster < ruling {
            let _ = write!(told, "; the cluster's ceiling for each {name} is {cluster}");
        }
    }
    if audit.store_lag_seconds > 0 {
        let _ = write!(told, "; the store's lifecycle was {} s late", audit.store_lag_seconds);
    }
    told
}

/// When a recording of `from` is over its ceiling.
fn end(from: Timestamp, ceiling: Days) -> Timestamp {
    let ceiling = SignedDuration::from_hours(24 * i64::from(ceiling.0));
    from.saturating_add(ceiling).unwrap_or(Timestamp::MAX)
}
