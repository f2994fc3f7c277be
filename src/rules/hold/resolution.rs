//! When an incident counts as resolved.

use jiff::Timestamp;

use crate::api::condition::{ConditionType, Reason};
use crate::api::{HoldState, IncidentHold};

/// Whether the incident is resolved by what the hold says: until the instant that the resolution names, it is open.
pub fn is_resolved_in_spec(hold: &IncidentHold, now: Timestamp) -> bool {
    let at = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0);
    hold.spec.state == HoldState::Resolved && at.is_none_or(|at| at <= now)
}

/// Whether the incident is resolved, so that what the hold covers may go. Not while the status says that the resolution
/// lies ahead: by that the API server lets people withdraw it.
pub fn is_resolved(hold: &IncidentHold, now: Timestamp) -> bool {
    let (type_, reason): (&str, &str) = (ConditionType::Released.into(), Reason::ResolutionInFuture.into());
    let mut conditions = hold.status.iter().flat_map(|status| &status.conditions);
    let may_be_withdrawn = conditions.any(|condition| condition.type_ == type_ && condition.reason == reason);
    is_resolved_in_spec(hold, now) && !may_be_withdrawn
}
