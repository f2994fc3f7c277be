//! Holds with a placement, for tests.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::dereference::HoldReferences;
use super::status::hold_status;
use super::validate::validate;
use crate::api::{HoldState, IncidentHold, IncidentHoldStatus, Placement, Resolution, ResolutionOutcome};
use crate::controllers::testing;

/// Returns twelve hours after the declaration of [`hold`].
pub fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

pub fn after_seconds(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub fn hold(purpose: &str) -> IncidentHold {
    let mut hold = testing::hold("h");
    hold.spec.purpose = purpose.into();
    hold
}

pub fn resolved(mut hold: IncidentHold) -> IncidentHold {
    hold.spec.state = HoldState::Resolved;
    hold
}

pub fn resolution(time: Timestamp) -> Resolution {
    Resolution { time: Time(time), by: "CISO".into(), outcome: ResolutionOutcome::Closed }
}

pub fn placement() -> Placement {
    Placement {
        scope_hash: String::new(),
        acknowledged: true,
        observed_generation: 2,
        acceptance_time: Time(now()),
        verified: true,
        last_verification_time: Some(Time(now())),
        segments: 12,
        size: "3.0 MiB".into(),
        coverage_until_time: Some(Time(now())),
        coverage: Some("98%".into()),
        sealed_segments: 0,
        store_rejection: None,
        sources: vec![],
        release_wait: None,
        release_time: None,
        last_error: None,
    }
}

pub fn with_placement(mut hold: IncidentHold, placement: Placement) -> IncidentHold {
    hold.status = Some(IncidentHoldStatus { placement: Some(placement), ..IncidentHoldStatus::default() });
    hold
}

/// Returns the site and policy of [`hold`], with these cameras.
pub fn hold_references(cameras: &[&str]) -> HoldReferences {
    HoldReferences {
        site: Some(testing::site()),
        policy: Some(testing::policy()),
        policy_name: "protocol-2020".to_owned(),
        cameras: cameras.iter().map(ToString::to_string).collect(),
    }
}

/// Returns the status at `now`, and the next time at which it changes.
pub fn status_at(
    hold: &IncidentHold,
    references: &HoldReferences,
    now: Timestamp,
) -> (IncidentHoldStatus, Option<Timestamp>) {
    hold_status(hold, &validate(&hold.spec, references, now), now)
}

pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
    let found = conditions.iter().find(|condition| condition.type_ == type_);
    found.unwrap_or_else(|| panic!("{type_} is missing: {conditions:?}"))
}

/// Returns status and reason of a condition, separated by a space.
pub fn verdict(conditions: &[Condition], type_: &str) -> String {
    let found = condition(conditions, type_);
    format!("{} {}", found.status, found.reason)
}
