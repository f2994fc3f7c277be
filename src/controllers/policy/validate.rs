//! Step two: whether a policy is accepted and in force now. Pure.

use jiff::Timestamp;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{Ceilings, RecordingPolicySpec};
use crate::rules::succession::{PolicyPeriod, SuccessionError};
use crate::rules::{calendar, permission, policy, succession};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyValidation {
    /// `Accepted`.
    pub accepted: ConditionFinding,
    /// `InForce` (article 11).
    pub in_force: ConditionFinding,
    /// Next time at which the policy enters into force, ends or is replaced.
    pub next_change: Option<Timestamp>,
    /// Policy that replaces this one.
    pub replaced_by: Option<PolicyPeriod>,
}

/// Succession from and to a policy (article 10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySuccession {
    /// Reason that the policy does not take over, although it names another one.
    pub error: Option<SuccessionError>,
    /// Policy that replaces this one.
    pub replaced_by: Option<PolicyPeriod>,
}

/// Validates `spec`. A policy above the cluster's `ceilings` is rejected, never clamped.
pub fn validate(
    spec: &RecordingPolicySpec,
    succession: PolicySuccession,
    ceilings: &Ceilings,
    now: Timestamp,
) -> PolicyValidation {
    let not_in_force = |status, message| {
        ConditionFinding::new(ConditionType::InForce, status, Reason::DependencyNotReady, message)
    };
    let PolicySuccession { error, replaced_by } = succession;
    let valid = policy::evaluate_acceptance(spec, ceilings);
    let window = calendar::parse_zone(&spec.time_zone, "spec.timeZone")
        .and_then(|zone| permission::in_force_window(spec, &zone));
    let Ok(window) = window else {
        let in_force = not_in_force(
            ConditionStatus::Unknown,
            "the policy has an invalid date or time zone: see Accepted",
        );
        return PolicyValidation { accepted: valid, in_force, next_change: None, replaced_by };
    };
    let replaced_at = replaced_by.as_ref().map(|replacing| replacing.from);
    let changes = [Some(window.from), window.until, replaced_at].into_iter().flatten();
    let next_change = changes.filter(|change| *change > now).min();
    let in_force = if valid.is_true() {
        succession::evaluate_replaced(permission::evaluate_in_force(&window, now), replaced_by.as_ref(), now)
    } else {
        not_in_force(ConditionStatus::False, "the policy is not accepted: see Accepted")
    };
    let accepted = match error {
        // The policy is in force nevertheless: sites can name it, and those that it governs already stay with it.
        Some(error) if valid.is_true() => {
            ConditionFinding::new(ConditionType::Accepted, false, Reason::InvalidField, error.to_string())
        }
        _ => valid,
    };
    PolicyValidation { accepted, in_force, next_change, replaced_by }
}
