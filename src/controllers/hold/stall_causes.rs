//! When a hold needs a person. Pure.

use jiff::{SignedDuration, Timestamp};

use super::validate::HoldValidation;
use crate::api::IncidentHold;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::controllers::runner::Watched;
use crate::controllers::stall;
use crate::controllers::stall::{StallCause, condition_since};

/// A resolution that lies further ahead than this is a mistake.
const MAX_RESOLUTION_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// What was found of a hold that is open.
pub struct OpenHoldFindings<'a> {
    /// `Accepted`.
    pub accepted: &'a ConditionFinding,
    /// `Placed`.
    pub placed: &'a ConditionFinding,
    /// `Covers`.
    pub covers: &'a ConditionFinding,
}

/// Why an open hold may need a person, the gravest first.
pub fn open_hold_causes(
    hold: &IncidentHold,
    valid: &HoldValidation,
    open: &OpenHoldFindings<'_>,
    released: Option<&ConditionFinding>,
    now: Timestamp,
) -> Vec<StallCause> {
    let made = hold.metadata.creation_timestamp.as_ref();
    let since = |finding: &ConditionFinding| condition_since(hold.conditions(), finding, made, now);
    let OpenHoldFindings { accepted, placed, covers } = open;
    if !accepted.is_true() {
        let soon = now.saturating_add(stall::REFERENCE_GRACE).unwrap_or(now);
        return match accepted.reason {
            Reason::ReferenceNotFound => {
                vec![StallCause::after_grace((*accepted).clone(), since(accepted), stall::REFERENCE_GRACE)]
            }
            Reason::NotStarted if hold.spec.window.from.0 <= soon => Vec::new(),
            _ => vec![StallCause::immediate((*accepted).clone())],
        };
    }
    let mut causes = Vec::new();
    if valid.site.is_none() {
        causes.push(StallCause::immediate(valid.accepted.clone()));
    }
    if !placed.is_true() {
        causes.extend(site_cause(valid));
        causes.push(StallCause::after_grace((*placed).clone(), since(placed), stall::WORK_GRACE));
    }
    let ahead = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0);
    if ahead.is_some_and(|ahead| ahead.duration_since(now) > MAX_RESOLUTION_AHEAD) {
        causes.extend(released.cloned().map(StallCause::immediate));
    }
    if covers.status == ConditionStatus::False {
        causes.push(StallCause::after_grace((*covers).clone(), since(covers), stall::REFERENCE_GRACE));
    }
    causes
}

/// Why a resolved hold may need a person; `overdue`: when its release is.
pub fn resolved_hold_causes(
    valid: &HoldValidation,
    released: &ConditionFinding,
    overdue: Option<Timestamp>,
) -> Vec<StallCause> {
    if released.status != ConditionStatus::False {
        return Vec::new();
    }
    let mut causes: Vec<StallCause> = site_cause(valid).into_iter().collect();
    if valid.site.is_none() {
        causes.push(StallCause::immediate(valid.accepted.clone()));
    }
    causes.extend(overdue.map(|from| StallCause { finding: released.clone(), stalls_at: from }));
    causes
}

/// The Site needs a person, and without it nothing is done for its holds.
fn site_cause(valid: &HoldValidation) -> Option<StallCause> {
    let stalled = valid.site.as_ref()?.stalled.as_ref()?;
    let message = format!("its Site waits for a person: {stalled}");
    Some(StallCause::immediate(ConditionFinding::new(
        ConditionType::Stalled,
        true,
        Reason::DependencyNotReady,
        message,
    )))
}

#[cfg(test)]
mod tests;
