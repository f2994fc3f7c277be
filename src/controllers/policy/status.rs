//! Step three: what is reported. Pure.

use jiff::Timestamp;

use super::dereference::PolicyUsage;
use super::validate::PolicyValidation;
use crate::api::condition::{ConditionFinding, ConditionType, merge};
use crate::api::{RecordingPolicy, RecordingPolicyStatus};
use crate::controllers::runner::Watched;

/// The status of `policy`.
pub fn policy_status(
    policy: &RecordingPolicy,
    valid: &PolicyValidation,
    usage: PolicyUsage,
    now: Timestamp,
) -> RecordingPolicyStatus {
    let PolicyValidation { accepted, in_force, next_change: _ } = valid;
    let PolicyUsage { sites, cameras } = usage;
    let generation = policy.metadata.generation;
    let findings = [accepted.clone(), in_force.clone(), ready(accepted, in_force), stalled(accepted)];
    RecordingPolicyStatus {
        observed_generation: generation,
        conditions: merge(policy.conditions(), &findings, generation, now),
        sites: Some(sites),
        cameras: Some(cameras),
    }
}

/// A policy that is not in force yet, or no longer, is as it should be: it says so in the reason.
fn ready(accepted: &ConditionFinding, in_force: &ConditionFinding) -> ConditionFinding {
    let is_ready = accepted.is_true();
    let cause = if is_ready { in_force } else { accepted };
    cause.propagate(ConditionType::Ready, is_ready)
}

/// Only its author can put right what is not accepted.
fn stalled(accepted: &ConditionFinding) -> ConditionFinding {
    ConditionFinding::stalled((!accepted.is_true()).then_some(accepted))
}

#[cfg(test)]
mod tests {
    use super::super::validate::validate;
    use super::*;
    use crate::api::condition::{ConditionStatus, Reason};
    use crate::api::{Ceilings, Days};

    fn policy(video: u32, from: &str, until: Option<&str>) -> RecordingPolicy {
        let mut in_force = serde_json::json!({ "from": from });
        if let Some(until) = until {
            in_force["until"] = until.into();
        }
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "generation": 4},
            "spec": {
                "title": "t", "timeZone": "Europe/Amsterdam",
                "adoption": {"by": "College", "date": "2020-05-04"},
                "inForce": in_force,
                "worksCouncilConsent": {"date": "2020-04-21"},
                "purposes": ["Theft"],
                "retention": {"video": format!("{video}d"), "calls": "7d"},
                "holds": {"reviewInterval": "28d"},
            },
        }))
        .unwrap()
    }

    fn conditions(policy: &RecordingPolicy, now: &str) -> (Vec<(String, String, String)>, Option<Timestamp>) {
        let ceilings = Ceilings { video: Days(28), calls: Days(7) };
        let now = now.parse().unwrap();
        let valid = validate(&policy.spec, &ceilings, now);
        let status = policy_status(policy, &valid, PolicyUsage { sites: 2, cameras: 7 }, now);
        assert_eq!((status.observed_generation, status.sites, status.cameras), (Some(4), Some(2), Some(7)));
        let row =
            |c: k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| (c.type_, c.status, c.reason);
        (status.conditions.into_iter().map(row).collect(), valid.next_change)
    }

    fn has_condition(
        rows: &[(String, String, String)],
        type_: ConditionType,
        truth: ConditionStatus,
        reason: Reason,
    ) -> bool {
        let (type_, truth, reason): (&str, &str, &str) = (type_.into(), truth.into(), reason.into());
        rows.iter().any(|row| row.0 == type_ && row.1 == truth && row.2 == reason)
    }

    #[test]
    fn accepted_policy_is_ready_with_in_force_reason() {
        let policy = policy(28, "2020-05-06", Some("2026-01-01T00:00:00Z"));
        for (now, truth, reason, change) in [
            (
                "2020-05-05T21:59:59Z",
                ConditionStatus::False,
                Reason::NotYetInForce,
                Some("2020-05-05T22:00:00Z"),
            ),
            ("2020-05-05T22:00:00Z", ConditionStatus::True, Reason::InForce, Some("2026-01-01T00:00:00Z")),
            ("2026-01-01T00:00:00Z", ConditionStatus::False, Reason::Withdrawn, None),
        ] {
            let (rows, next) = conditions(&policy, now);
            assert!(
                has_condition(&rows, ConditionType::Accepted, ConditionStatus::True, Reason::Valid),
                "{rows:?}"
            );
            assert!(has_condition(&rows, ConditionType::InForce, truth, reason), "{now}: {rows:?}");
            assert!(
                has_condition(&rows, ConditionType::Ready, ConditionStatus::True, reason),
                "{now}: {rows:?}"
            );
            assert!(
                has_condition(&rows, ConditionType::Stalled, ConditionStatus::False, Reason::AsRequired),
                "{rows:?}"
            );
            assert_eq!(next, change.map(|at| at.parse().unwrap()));
        }
    }

    #[test]
    fn policy_above_cluster_ceiling_is_rejected_not_clamped() {
        let (rows, _) = conditions(&policy(29, "2020-05-06", None), "2026-01-01T00:00:00Z");
        assert!(
            has_condition(&rows, ConditionType::Accepted, ConditionStatus::False, Reason::InvalidField),
            "{rows:?}"
        );
        assert!(
            has_condition(&rows, ConditionType::InForce, ConditionStatus::False, Reason::DependencyNotReady),
            "{rows:?}"
        );
        assert!(
            has_condition(&rows, ConditionType::Ready, ConditionStatus::False, Reason::InvalidField),
            "{rows:?}"
        );
        assert!(
            has_condition(&rows, ConditionType::Stalled, ConditionStatus::True, Reason::InvalidField),
            "{rows:?}"
        );
    }
}
