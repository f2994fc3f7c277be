//! Step two: what the policy means now. Pure.

use jiff::Timestamp;

use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{Ceilings, RecordingPolicySpec};
use crate::protocol::{calendar, permission, policy};

/// What a policy means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// Whether it can be followed on this cluster.
    pub accepted: Finding,
    /// Whether it is in force (article 11).
    pub in_force: Finding,
    /// When it enters into force or ends next.
    pub next_change: Option<Timestamp>,
}

/// Judges `spec`; above the cluster's `ceilings` it is refused, never clamped.
pub fn validate(spec: &RecordingPolicySpec, ceilings: &Ceilings, now: Timestamp) -> Valid {
    let accepted = policy::accept(spec, ceilings);
    let window =
        calendar::zone(&spec.time_zone, "spec.timeZone").and_then(|zone| permission::in_force(spec, &zone));
    let Ok(window) = window else {
        let message = "its days cannot be told: see Accepted";
        let in_force = Finding::new(ConditionType::InForce, Truth::Unknown, Reason::DependsOn, message);
        return Valid { accepted, in_force, next_change: None };
    };
    let next_change =
        [Some(window.from), window.until].into_iter().flatten().filter(|change| *change > now).min();
    let in_force = if accepted.is_true() {
        permission::in_force_verdict(&window, now)
    } else {
        let message = "a policy that is not accepted is not followed: see Accepted";
        Finding::new(ConditionType::InForce, false, Reason::DependsOn, message)
    };
    Valid { accepted, in_force, next_change }
}
