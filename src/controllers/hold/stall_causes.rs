//! Causes for which a hold stalls: a person must act. Pure.

use jiff::{SignedDuration, Timestamp};

use super::validate::HoldValidation;
use crate::api::IncidentHold;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::controllers::runner::Watched;
use crate::controllers::stall::{self, StallCause, condition_since};

/// A resolution further in the future than this is a mistake.
const MAX_RESOLUTION_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Conditions of an open hold.
pub struct OpenHoldFindings<'a> {
    pub accepted: &'a ConditionFinding,
    pub placed: &'a ConditionFinding,
    pub recordings_found: &'a ConditionFinding,
}

/// Returns the causes for which an open hold can stall, the most severe first.
pub fn open_hold_causes(
    hold: &IncidentHold,
    valid: &HoldValidation,
    open: &OpenHoldFindings<'_>,
    released: Option<&ConditionFinding>,
    now: Timestamp,
) -> Vec<StallCause> {
    let created = hold.metadata.creation_timestamp.as_ref();
    let after_grace = |finding: &ConditionFinding, grace| {
        let since = condition_since(hold.conditions(), finding, created, now);
        StallCause::after_grace(finding.clone(), since, grace)
    };
    let OpenHoldFindings { accepted, placed, recordings_found } = open;
    if !accepted.is_true() {
        let soon = now.saturating_add(stall::REFERENCE_GRACE).unwrap_or(now);
        return match accepted.reason {
            Reason::ReferenceNotFound => vec![after_grace(accepted, stall::REFERENCE_GRACE)],
            // A window that starts within minutes needs no person. One further ahead is probably a typo.
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
        causes.push(after_grace(placed, stall::WORK_GRACE));
    }
    let ahead = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0);
    if ahead.is_some_and(|ahead| ahead.duration_since(now) > MAX_RESOLUTION_AHEAD) {
        causes.extend(released.cloned().map(StallCause::immediate));
    }
    if recordings_found.status == ConditionStatus::False {
        causes.push(after_grace(recordings_found, stall::REFERENCE_GRACE));
    }
    causes
}

/// Returns the causes for which a resolved hold can stall. `overdue`: time at which its release is overdue.
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
    causes.extend(overdue.map(|at| StallCause { finding: released.clone(), stalls_at: at }));
    causes
}

/// Returns the cause if the Site itself stalls: the operator then does nothing for its holds.
fn site_cause(valid: &HoldValidation) -> Option<StallCause> {
    let stalled = valid.site.as_ref()?.stalled.as_ref()?;
    let message = format!("the hold's Site is stalled: {stalled}");
    let finding = ConditionFinding::new(ConditionType::Stalled, true, Reason::DependencyNotReady, message);
    Some(StallCause::immediate(finding))
}

#[cfg(test)]
mod tests;
