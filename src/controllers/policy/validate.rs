//! Step two: whether a policy is accepted and in force now. Pure.

use jiff::Timestamp;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{Ceilings, RecordingPolicySpec};
use crate::rules::{calendar, permission, policy};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyValidation {
    /// `Accepted`.
    pub accepted: ConditionFinding,
    /// `InForce` (article 11).
    pub in_force: ConditionFinding,
    /// Next time at which the policy enters into force or ends.
    pub next_change: Option<Timestamp>,
}

/// Validates `spec`. A policy above the cluster's `ceilings` is rejected, never clamped.
pub fn validate(spec: &RecordingPolicySpec, ceilings: &Ceilings, now: Timestamp) -> PolicyValidation {
    let not_in_force = |status, message| {
        ConditionFinding::new(ConditionType::InForce, status, Reason::DependencyNotReady, message)
    };
    let accepted = policy::evaluate_acceptance(spec, ceilings);
    let window = calendar::parse_zone(&spec.time_zone, "spec.timeZone")
        .and_then(|zone| permission::in_force_window(spec, &zone));
    let Ok(window) = window else {
        let in_force = not_in_force(
            ConditionStatus::Unknown,
            "the policy has an invalid date or time zone: see Accepted",
        );
        return PolicyValidation { accepted, in_force, next_change: None };
    };
    let changes = [Some(window.from), window.until].into_iter().flatten();
    let next_change = changes.filter(|change| *change > now).min();
    let in_force = if accepted.is_true() {
        permission::evaluate_in_force(&window, now)
    } else {
        not_in_force(ConditionStatus::False, "the policy is not accepted: see Accepted")
    };
    PolicyValidation { accepted, in_force, next_change }
}
