//! Step three: the status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::dereference::PolicyUsage;
use super::validate::PolicyValidation;
use crate::api::condition::{ConditionFinding, ConditionType, merge};
use crate::api::{RecordingPolicy, RecordingPolicyStatus, ReplacingPolicy};
use crate::controllers::runner::Watched;

pub fn policy_status(
    policy: &RecordingPolicy,
    valid: &PolicyValidation,
    usage: PolicyUsage,
    now: Timestamp,
) -> RecordingPolicyStatus {
    let PolicyValidation { accepted, in_force, next_change: _, replaced_by } = valid;
    let PolicyUsage { sites, cameras } = usage;
    let generation = policy.metadata.generation;
    // Only its author can correct a policy that is not accepted, so it stalls at once.
    let stalled = ConditionFinding::stalled((!accepted.is_true()).then_some(accepted));
    let findings = [accepted.clone(), in_force.clone(), ready(accepted, in_force), stalled];
    RecordingPolicyStatus {
        observed_generation: generation,
        conditions: merge(policy.conditions(), &findings, generation, now),
        replaced_by: replaced_by.as_ref().map(|replacing| ReplacingPolicy {
            name: replacing.policy.clone(),
            from_time: Time(replacing.from),
        }),
        sites: Some(sites),
        cameras: Some(cameras),
    }
}

/// Returns `Ready`: `True` for an accepted policy, even before or after the period in which it is in force.
fn ready(accepted: &ConditionFinding, in_force: &ConditionFinding) -> ConditionFinding {
    let is_ready = accepted.is_true();
    let cause = if is_ready { in_force } else { accepted };
    cause.propagate(ConditionType::Ready, is_ready)
}

#[cfg(test)]
mod tests {
    use super::super::validate::{PolicySuccession, validate};
    use super::*;
    use crate::api::{Ceilings, Days};
    use crate::controllers::testing;
    use crate::rules::succession::{PolicyPeriod, SuccessionError};

    /// Returns `Accepted`, `InForce`, `Ready` and `Stalled`, each as status and reason, and the next change.
    fn conditions(policy: &RecordingPolicy, now: &str) -> ([String; 4], Option<Timestamp>) {
        conditions_with(policy, PolicySuccession::default(), now)
    }

    fn conditions_with(
        policy: &RecordingPolicy,
        succession: PolicySuccession,
        now: &str,
    ) -> ([String; 4], Option<Timestamp>) {
        let ceilings = Ceilings { video: Days(28), calls: Days(7) };
        let now = now.parse().unwrap();
        let valid = validate(&policy.spec, succession, &ceilings, now);
        let status = policy_status(policy, &valid, PolicyUsage { sites: 2, cameras: 7 }, now);
        assert_eq!((status.observed_generation, status.sites, status.cameras), (Some(4), Some(2), Some(7)));
        let row = |type_: &str| {
            let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
            format!("{} {}", found.status, found.reason)
        };
        (["Accepted", "InForce", "Ready", "Stalled"].map(row), valid.next_change)
    }

    #[test]
    fn accepted_policy_is_ready_with_in_force_reason() {
        let mut policy = testing::policy();
        policy.spec.in_force = serde_json::from_value(
            serde_json::json!({"from": "2020-05-06", "until": "2026-01-01T00:00:00Z"}),
        )
        .unwrap();
        for (now, in_force, ready, change) in [
            (
                "2020-05-05T21:59:59Z",
                "False NotYetInForce",
                "True NotYetInForce",
                Some("2020-05-05T22:00:00Z"),
            ),
            ("2020-05-05T22:00:00Z", "True InForce", "True InForce", Some("2026-01-01T00:00:00Z")),
            ("2026-01-01T00:00:00Z", "False Withdrawn", "True Withdrawn", None),
        ] {
            let (found, next) = conditions(&policy, now);
            assert_eq!(found, ["True Valid", in_force, ready, "False AsRequired"], "{now}");
            assert_eq!(next, change.map(|at| at.parse().unwrap()));
        }
    }

    #[test]
    fn replaced_policy_is_withdrawn_from_its_successors_entry_into_force() {
        let from: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let replaced_by = Some(PolicyPeriod { policy: "protocol-2026".into(), from });
        let succession = PolicySuccession { error: None, replaced_by };
        for (now, in_force, ready, change) in [
            ("2026-05-31T23:59:59Z", "True InForce", "True InForce", Some(from)),
            ("2026-06-01T00:00:00Z", "False Withdrawn", "True Withdrawn", None),
        ] {
            let (found, next) = conditions_with(&testing::policy(), succession.clone(), now);
            assert_eq!(found, ["True Valid", in_force, ready, "False AsRequired"], "{now}");
            assert_eq!(next, change);
        }
    }

    #[test]
    fn policy_that_cannot_take_over_is_rejected_and_stays_in_force() {
        let policies = ["a", "b"].map(str::to_owned).to_vec();
        let succession =
            PolicySuccession { error: Some(SuccessionError::Cycle { policies }), replaced_by: None };
        let (found, _) = conditions_with(&testing::policy(), succession, "2026-01-01T00:00:00Z");
        let expected = ["False InvalidField", "True InForce", "False InvalidField", "True InvalidField"];
        assert_eq!(found, expected);
    }

    #[test]
    fn policy_above_cluster_ceiling_is_rejected_not_clamped() {
        let mut policy = testing::policy();
        policy.spec.retention.video = Days(29);
        let (found, _) = conditions(&policy, "2026-01-01T00:00:00Z");
        let expected =
            ["False InvalidField", "False DependencyNotReady", "False InvalidField", "True InvalidField"];
        assert_eq!(found, expected);
    }
}
