//! Step two: what the policy means now. Pure.

use jiff::Timestamp;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{Ceilings, RecordingPolicySpec};
use crate::rules::{calendar, permission, policy};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyValidation {
    /// Whether it can be followed on this cluster.
    pub accepted: ConditionFinding,
    /// Whether it is in force (article 11).
    pub in_force: ConditionFinding,
    /// When it enters into force or ends next.
    pub next_change: Option<Timestamp>,
}

/// Judges `spec`; above the cluster's `ceilings` it is refused, never clamped.
pub fn validate(spec: &RecordingPolicySpec, ceilings: &Ceilings, now: Timestamp) -> PolicyValidation {
    let accepted = policy::evaluate_acceptance(spec, ceilings);
    let window = calendar::parse_zone(&spec.time_zone, "spec.timeZone")
        .and_then(|zone| permission::in_force_window(spec, &zone));
    let Ok(window) = window else {
        let message = "its days cannot be told: see Accepted";
        let in_force = ConditionFinding::new(
            ConditionType::InForce,
            ConditionStatus::Unknown,
            Reason::DependencyNotReady,
            message,
        );
        return PolicyValidation { accepted, in_force, next_change: None };
    };
    let next_change =
        [Some(window.from), window.until].into_iter().flatten().filter(|change| *change > now).min();
    let in_force = if accepted.is_true() {
        permission::evaluate_in_force(&window, now)
    } else {
        let message = "a policy that is not accepted is not followed: see Accepted";
        ConditionFinding::new(ConditionType::InForce, false, Reason::DependencyNotReady, message)
    };
    PolicyValidation { accepted, in_force, next_change }
}
