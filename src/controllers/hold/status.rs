//! Step three: what is reported: never more than is true. Pure.

use jiff::Timestamp;

use super::validate::Valid;
use crate::api::condition::{ConditionType, Finding, Reason, merge};
use crate::api::{HoldState, IncidentHold, IncidentHoldStatus};
use crate::controllers::drive::Watched;

/// What a person must know of every open hold of this version.
const NOT_ENFORCED: &str = "this version of Toezicht places no holds: what the hold covers goes when its retention says so. \
     Secure the recordings by hand, with the operator's identity at the store, since the bucket's policy refuses all others: a \
     legal hold on each version, then the tag toezicht-retention=held";

/// The status of `hold`.
pub fn status(hold: &IncidentHold, valid: &Valid, now: Timestamp) -> IncidentHoldStatus {
    let Valid {
        accepted,
        next_change: _,
    } = valid;
    let generation = hold.metadata.generation;
    let placed = placed(hold.spec.state);
    let findings = [
        accepted.clone(),
        placed.clone(),
        ready(accepted, &placed),
        stalled(accepted, &placed),
    ];
    IncidentHoldStatus {
        observed_generation: generation,
        conditions: merge(hold.conditions(), &findings, generation, now),
    }
}

fn placed(state: HoldState) -> Finding {
    match state {
        HoldState::Open => Finding::new(ConditionType::Placed, false, Reason::NotYetEnforced, NOT_ENFORCED),
        HoldState::Resolved => Finding::new(
            ConditionType::Placed,
            false,
            Reason::Resolved,
            "the incident is resolved; this version had placed nothing",
        ),
    }
}

/// An open hold that holds nothing is never ready. A resolved one asks for nothing.
fn ready(accepted: &Finding, placed: &Finding) -> Finding {
    let is_ready = placed.reason == Reason::Resolved;
    let cause = if is_ready || accepted.is_true() {
        placed
    } else {
        accepted
    };
    cause.told_of(ConditionType::Ready, is_ready)
}

/// Only a person can put right what is not accepted, or secure what this version does not.
fn stalled(accepted: &Finding, placed: &Finding) -> Finding {
    let cause = if accepted.is_true() { placed } else { accepted };
    Finding::stalled((placed.reason != Reason::Resolved).then_some(cause))
}

#[cfg(test)]
mod tests {
    use super::super::dereference::Named;
    use super::super::validate::validate;
    use super::*;
    use crate::api::condition::Truth;
    use crate::controllers::kit::event;

    fn hold(state: HoldState, purpose: &str) -> IncidentHold {
        let mut hold: IncidentHold = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "h", "namespace": "n", "generation": 2},
            "spec": {
                "siteRef": {"name": "s"},
                "window": {"from": "2026-01-01T10:00:00Z"},
                "purpose": purpose,
                "reference": "2026-1",
            },
        }))
        .unwrap();
        hold.spec.state = state;
        hold
    }

    fn named() -> Named {
        let site = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {
                "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"},
                "managers": [],
                "storage": {
                    "bucket": "bucket", "region": "r",
                    "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                    "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
                },
            },
        }));
        let policy = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {
                "title": "t", "timeZone": "Europe/Amsterdam", "adopted": {"by": "c", "date": "2020-05-04"},
                "inForce": {"from": "2020-05-06"}, "purposes": ["Theft"],
                "retention": {"video": "28d", "calls": "7d"}, "holds": {"reviewEvery": "28d"},
            },
        }));
        Named {
            site: Some(site.unwrap()),
            policy: Some(policy.unwrap()),
            cameras: vec!["c".into()],
        }
    }

    fn rows(hold: &IncidentHold, named: &Named) -> Vec<(String, String, String)> {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let status = status(hold, &validate(&hold.spec, named, now), now);
        status
            .conditions
            .into_iter()
            .map(|c| (c.type_, c.status, c.reason))
            .collect()
    }

    fn row(type_: ConditionType, truth: Truth, reason: Reason) -> (String, String, String) {
        let (type_, truth, reason): (&str, &str, &str) = (type_.into(), truth.into(), reason.into());
        (type_.into(), truth.into(), reason.into())
    }

    #[test]
    fn an_accepted_hold_is_not_placed_and_never_ready() {
        let rows = rows(&hold(HoldState::Open, "Theft"), &named());
        assert_eq!(
            rows,
            [
                row(ConditionType::Accepted, Truth::True, Reason::Valid),
                row(ConditionType::Placed, Truth::False, Reason::NotYetEnforced),
                row(ConditionType::Ready, Truth::False, Reason::NotYetEnforced),
                row(ConditionType::Stalled, Truth::True, Reason::NotYetEnforced),
            ]
        );
    }

    #[test]
    fn what_is_not_accepted_says_why() {
        for (named, purpose, reason) in [
            (Named::default(), "Theft", Reason::ReferenceNotFound),
            (
                Named {
                    policy: None,
                    ..named()
                },
                "Theft",
                Reason::ReferenceNotFound,
            ),
            (named(), "Curiosity", Reason::InvalidField),
        ] {
            let rows = rows(&hold(HoldState::Open, purpose), &named);
            assert!(
                rows.contains(&row(ConditionType::Accepted, Truth::False, reason)),
                "{rows:?}"
            );
            assert!(
                rows.contains(&row(ConditionType::Placed, Truth::False, Reason::NotYetEnforced)),
                "{rows:?}"
            );
            assert!(
                rows.contains(&row(ConditionType::Ready, Truth::False, reason)),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn a_resolved_hold_asks_for_nothing() {
        let rows = rows(&hold(HoldState::Resolved, "Theft"), &named());
        assert!(
            rows.contains(&row(ConditionType::Ready, Truth::True, Reason::Resolved)),
            "{rows:?}"
        );
        assert!(
            rows.contains(&row(ConditionType::Stalled, Truth::False, Reason::AsRequired)),
            "{rows:?}"
        );
    }

    #[test]
    fn an_open_hold_warns() {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let hold = hold(HoldState::Open, "Theft");
        let status = status(&hold, &validate(&hold.spec, &named(), now), now);
        let warnings = event::changes(&[], &status.conditions);
        assert!(warnings.iter().any(|event| {
            event.reason == "NotYetEnforced"
                && event.action == "Placed"
                && matches!(event.type_, kube::runtime::events::EventType::Warning)
        }));
    }
}
