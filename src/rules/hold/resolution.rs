//! Resolution of an incident.

use jiff::Timestamp;

use crate::api::condition::{ConditionType, Reason};
use crate::api::{HoldState, IncidentHold};

/// Returns whether the hold declares a resolution that is not in the future.
pub fn is_resolved_in_spec(hold: &IncidentHold, now: Timestamp) -> bool {
    let at = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0);
    hold.spec.state == HoldState::Resolved && at.is_none_or(|at| at <= now)
}

/// Returns whether the incident is resolved, so the hold can be released. It is not while the status has the reason
/// `ResolutionInFuture`: the API server then lets people withdraw the resolution, which must not race with a release.
pub fn is_resolved(hold: &IncidentHold, now: Timestamp) -> bool {
    let (type_, reason): (&str, &str) = (ConditionType::Released.into(), Reason::ResolutionInFuture.into());
    let mut conditions = hold.status.iter().flat_map(|status| &status.conditions);
    let may_be_withdrawn = conditions.any(|condition| condition.type_ == type_ && condition.reason == reason);
    is_resolved_in_spec(hold, now) && !may_be_withdrawn
}
