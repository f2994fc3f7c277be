//! Step three: the status. It claims only what was read back from the bucket. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::recordings_found::{coverage_known_at, evaluate_recordings_found, is_coverage_known};
use super::stall_causes::{OpenHoldFindings, open_hold_causes, resolved_hold_causes};
use super::validate::HoldValidation;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{Days, HoldPhase, IncidentHold, IncidentHoldStatus, Placement, ReleaseWait};
use crate::controllers::kubernetes::{meta, status as kube_status};
use crate::controllers::runner::Watched;
use crate::controllers::stall;
use crate::controllers::stall::condition_since;
use crate::rules::hold::resolution::is_resolved_in_spec;

/// Finalizer of a hold: the resource stays until the operator keeps nothing for it.
pub const FINALIZER: &str = "toezicht.dev/hold";

/// Whether the hold took effect at some time, so that the operator may have kept recordings for it.
pub fn has_taken_effect(hold: &IncidentHold) -> bool {
    let status = hold.status.as_ref();
    // The finalizer comes first. The status can be older: it may have survived a restore that lost the finalizer.
    hold.finalizers().iter().any(|name| name == FINALIZER)
        || status.is_some_and(|status| status.placement.is_some())
}

/// Returns the status of `hold`, and the next time at which it changes without an event.
pub fn hold_status(
    hold: &IncidentHold,
    valid: &HoldValidation,
    now: Timestamp,
) -> (IncidentHoldStatus, Option<Timestamp>) {
    let (generation, before) = (hold.metadata.generation, hold.conditions());
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    // Not `is_resolved`: it waits until this status no longer has the reason `ResolutionInFuture`.
    let is_resolved = is_resolved_in_spec(hold, now);
    let accepted = accept_if_in_ledger(&valid.accepted, placement);
    let placed = (!is_resolved).then(|| placed(hold, &accepted, placement, now));
    let placed = placed.map(|placed| with_lost_recorders(placed, valid));
    let released = released(hold, placement, is_resolved);
    let released = released.map(|released| with_lost_recorders(released, valid));
    let (released, overdue) = mark_overdue(hold, released, is_resolved, now);
    let (recordings_found, unknown_cameras) =
        evaluate_recordings_found(hold, valid, &accepted, placement, now);
    let open = placed.as_ref().map(|placed| OpenHoldFindings {
        accepted: &accepted,
        placed,
        recordings_found: &recordings_found,
    });
    let causes = match (&open, &released) {
        (Some(open), _) => open_hold_causes(hold, valid, open, released.as_ref(), now),
        (None, Some(released)) => resolved_hold_causes(valid, released, overdue),
        (None, None) => Vec::new(),
    };
    let (stalled, next_stall) = stall::evaluate(&causes, now);
    let mut findings = vec![ready(hold, open.as_ref(), released.as_ref()), accepted.clone()];
    if let Some(open) = &open {
        findings.extend([open.placed.clone(), recordings_found.clone()]);
    }
    findings.extend(released);
    if !is_resolved {
        findings.extend(valid.review_every.map(|interval| review_due(hold, interval, now)));
    }
    findings.push(stalled);
    let mut conditions = merge(before, &findings, generation, now);
    if open.is_some() && valid.site.as_ref().is_some_and(|site| site.is_paused) {
        conditions =
            kube_status::mark_unobserved(conditions, before, Reason::Paused, "its Site is paused", now);
    }
    let status = IncidentHoldStatus {
        observed_generation: generation,
        conditions,
        state: Some(phase(hold, &accepted, placement, is_resolved)),
        unknown_cameras: if is_resolved { Vec::new() } else { unknown_cameras },
        // The retention controller writes these.
        placement: None,
        never_held_time: None,
    };
    let changes = [next_stall, valid.next_change, overdue.filter(|at| *at > now)];
    (status, changes.into_iter().flatten().min())
}

/// Whether the operator keeps nothing for a hold, so that the resource may be deleted.
pub fn is_fully_released(hold: &IncidentHold, placement: Option<&Placement>, is_resolved: bool) -> bool {
    let is_released = placement.map(|placement| placement.release_time.is_some());
    // A hold with a finalizer took effect, even without a placement: the operator may have been killed in between.
    is_resolved && is_released.unwrap_or(!has_taken_effect(hold))
}

fn phase(
    hold: &IncidentHold,
    accepted: &ConditionFinding,
    placement: Option<&Placement>,
    is_resolved: bool,
) -> HoldPhase {
    let is_released = placement.is_some_and(|placement| placement.release_time.is_some());
    match (is_resolved, accepted.is_true(), accepted.reason) {
        (true, ..) if is_released || never_held_at(hold).is_some() => HoldPhase::Released,
        (true, ..) => HoldPhase::Releasing,
        (false, true, _) => HoldPhase::Open,
        (false, false, Reason::NotStarted) => HoldPhase::Scheduled,
        (false, false, _) => HoldPhase::Rejected,
    }
}

/// Returns `Accepted`. A hold in the bucket's ledger stays in effect, even if its policy would now reject it.
fn accept_if_in_ledger(accepted: &ConditionFinding, placement: Option<&Placement>) -> ConditionFinding {
    if accepted.is_true() || placement.is_none() {
        return accepted.clone();
    }
    let message = format!(
        "the hold is in the bucket's ledger, so it stays in effect; a new hold with this spec would be rejected: {}",
        accepted.message
    );
    ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, message)
}

/// Returns `Placed` of an open hold. `placement.verified` decides: `rules/hold/proof` (`is_placed`) grants it to a pass, and
/// `controllers/retention/report` writes it.
pub fn placed(
    hold: &IncidentHold,
    accepted: &ConditionFinding,
    placement: Option<&Placement>,
    now: Timestamp,
) -> ConditionFinding {
    use ConditionStatus::{False, True, Unknown};
    let finding = |status: ConditionStatus, reason, message: String| {
        ConditionFinding::new(ConditionType::Placed, status, reason, message)
    };
    let Some(placement) = placement else {
        if accepted.is_true() {
            let message = "the bucket's ledger does not have the hold yet; if this persists, check StorageEnforced of the Site";
            return finding(False, Reason::Placing, message.to_owned());
        }
        let message = format!("nothing is kept for the hold: {}", accepted.message);
        return finding(False, Reason::DependencyNotReady, message);
    };
    let message = placement_message(hold, placement, now);
    let is_verified = placement.verified && Some(placement.observed_generation) == hold.metadata.generation;
    if let Some(problem) = incomplete_reason(placement) {
        // After a verification, an incomplete pass proves nothing against the hold.
        let status = if is_verified { Unknown } else { False };
        return finding(status, Reason::Retrying, format!("{message}; {problem}"));
    }
    if is_verified {
        let proof = if placement.segments > 0 {
            "every recorder acknowledged the hold, and the legal hold and tag of each segment were read back"
        } else {
            "every recorder acknowledged the hold; new segments in the window will be kept"
        };
        return finding(True, Reason::Verified, format!("{message}; {proof}"));
    }
    let waits_for = if placement.acknowledged {
        "every recorder acknowledged the hold; waiting until no request of an earlier release can still arrive, and a pass over \
         the bucket has read back the legal hold and tag of each segment"
    } else {
        "waiting until every recorder acknowledges the hold, which an upload without an answer delays; if this lasts, see Ready of the \
         Site (RecorderNotReady) and the recorder pods"
    };
    finding(False, Reason::Placing, format!("{message}; {waits_for}"))
}

/// Adds the recorders that are lost: the hold waits for them, and does not have what is in their spools.
fn with_lost_recorders(finding: ConditionFinding, valid: &HoldValidation) -> ConditionFinding {
    let Some(names) = valid.site.as_ref().and_then(|site| site.lost_recorders.as_ref()) else {
        return finding;
    };
    let consequence = match (finding.condition, finding.is_true()) {
        (ConditionType::Placed, true) => "segments in its spool are not kept yet",
        (ConditionType::Placed, false) => {
            "it cannot acknowledge the hold, and segments in its spool are not kept yet"
        }
        (_, true) => return finding,
        (_, false) => "it cannot acknowledge the release",
    };
    let message = format!(
        "{}; {names}, which Kubernetes does not reach: {consequence}: see Ready of the Site",
        finding.message
    );
    ConditionFinding { message, ..finding }
}

/// Describes the segments that are kept, and the part of the window that they cover.
fn placement_message(hold: &IncidentHold, placement: &Placement, now: Timestamp) -> String {
    let Placement { segments, size, coverage, sealed_segments, coverage_until_time, .. } = placement;
    let mut message = if *segments > 0 {
        format!("{segments} segments ({size}) are kept")
    } else {
        "no segment in the window was found".to_owned()
    };
    let has_ended = hold.spec.window.until.as_ref().is_some_and(|until| until.0 <= now);
    match (coverage, coverage_until_time) {
        (Some(coverage), _) if has_ended => {
            let _ = write!(message, "; recordings cover {coverage} of the window");
        }
        (Some(coverage), Some(until)) => {
            let _ = write!(message, "; recordings cover {coverage} of the window up to {}", until.0);
        }
        _ if !is_coverage_known(hold, placement, now) => {
            let before =
                coverage_known_at(hold).map_or_else(String::new, |at| format!(", and will be at {at}"));
            let _ = write!(message, "; the coverage of the window is not known yet{before}");
        }
        _ => (),
    }
    if *sealed_segments > 0 {
        let _ = write!(
            message,
            "; {sealed_segments} of them cannot be read until their embargo ends (article 4.2)"
        );
    }
    message
}

/// Returns the problem of the last pass, if it did not complete this hold.
fn incomplete_reason(placement: &Placement) -> Option<String> {
    match &placement.last_error {
        Some(error) => Some(format!("the last pass did not finish, and the operator retries it: {error}")),
        None => placement.store_rejection.as_ref().map(ToString::to_string),
    }
}

/// Returns the time at which the operator read the ledger and did not find the hold.
fn never_held_at(hold: &IncidentHold) -> Option<Timestamp> {
    Some(hold.status.as_ref()?.never_held_time.as_ref()?.0)
}

/// Returns `Released` of a hold with a resolution.
pub fn released(
    hold: &IncidentHold,
    placement: Option<&Placement>,
    is_resolved: bool,
) -> Option<ConditionFinding> {
    use ConditionStatus::{False, True, Unknown};
    let finding = |status: ConditionStatus, reason, message: String| {
        Some(ConditionFinding::new(ConditionType::Released, status, reason, message))
    };
    if !is_resolved {
        let ahead = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0)?;
        let consequence = if placement.is_some() {
            "and the hold stays open up to that time"
        } else {
            "so the hold is not accepted and keeps nothing"
        };
        let message = format!(
            "spec.resolution.time: {ahead} is in the future, {consequence}: correct it, or withdraw the resolution (spec.state: Open, \
             without spec.resolution)"
        );
        return finding(False, Reason::ResolutionInFuture, message);
    }
    if placement.is_none() && !has_taken_effect(hold) {
        let Some(at) = never_held_at(hold) else {
            let message = "the bucket's ledger has not been read yet, and may contain an earlier hold with the same name and reference; if this lasts, \
                 check StorageEnforced of the Site";
            return finding(Unknown, Reason::Pending, message.to_owned());
        };
        let message =
            format!("nothing was ever kept for the hold: at {at}, the bucket's ledger did not have it");
        return finding(True, Reason::Verified, message);
    }
    let released_at = placement.and_then(|placement| placement.release_time.as_ref());
    match (released_at, placement.and_then(incomplete_reason)) {
        (Some(at), _) => {
            let message = format!(
                "nothing has been kept for the hold since {}; segments that no other hold covers were deleted if past their \
                 ceiling, and expire otherwise",
                at.0
            );
            finding(True, Reason::Verified, message)
        }
        (None, Some(problem)) => finding(False, Reason::Retrying, problem),
        (None, None) => {
            let message = match placement.and_then(|placement| placement.release_wait) {
                Some(ReleaseWait::EarlierRequests) => {
                    "waiting until no request that protects these recordings can still take effect, at most 16 minutes"
                }
                Some(ReleaseWait::Recorders) => {
                    "waiting until every recorder acknowledges the release, at most 24 hours; if this lasts, see Ready of the Site"
                }
                None => "waiting until a pass over the bucket finds nothing left to release",
            };
            finding(False, Reason::Releasing, message.to_owned())
        }
    }
}

/// Returns `released` as overdue if the release takes too long, and the time at which it becomes overdue.
fn mark_overdue(
    hold: &IncidentHold,
    released: Option<ConditionFinding>,
    is_resolved: bool,
    now: Timestamp,
) -> (Option<ConditionFinding>, Option<Timestamp>) {
    let is_pending = |released: &&ConditionFinding| is_resolved && released.status == ConditionStatus::False;
    let Some(pending) = released.as_ref().filter(is_pending) else {
        return (released, None);
    };
    // From the first reconcile that saw the resolution: its own time may be long past when somebody writes it.
    let resolved_at = hold.spec.resolution.as_ref().map_or(Timestamp::MIN, |resolution| resolution.time.0);
    let created = hold.metadata.creation_timestamp.as_ref();
    let began = condition_since(hold.conditions(), pending, created, now).max(resolved_at);
    let due = began.saturating_add(stall::WORK_GRACE).unwrap_or(Timestamp::MAX);
    if due > now {
        return (released, Some(due));
    }
    let message = format!("the release began at {began} and is overdue: {}", pending.message);
    let overdue = ConditionFinding::new(ConditionType::Released, false, Reason::Overdue, message);
    (Some(overdue), Some(due))
}

/// Returns `ReviewDue` (article 6). It never releases the hold.
fn review_due(hold: &IncidentHold, interval: Days, now: Timestamp) -> ConditionFinding {
    let finding = |is_due: bool, reason, message| {
        ConditionFinding::new(ConditionType::ReviewDue, is_due, reason, message)
    };
    let reviewed = hold.spec.review.as_ref().map(|review| review.time.0);
    if let Some(ahead) = reviewed.filter(|at| *at > now) {
        let message = format!(
            "spec.review.time: {ahead} is in the future: write the time at which the review took place"
        );
        return finding(true, Reason::ReviewInFuture, message);
    }
    let created = hold.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let last = reviewed.or(created).unwrap_or(now);
    let interval = SignedDuration::from_hours(24 * i64::from(interval.0));
    let due = last.saturating_add(interval).unwrap_or(Timestamp::MAX);
    if due <= now {
        let message = format!(
            "article 6: a review has been due since {due}: if the incident is resolved, set spec.state: Resolved with spec.resolution; \
             if not, set spec.review"
        );
        return finding(true, Reason::Overdue, message);
    }
    finding(false, Reason::AsRequired, format!("the next review is due at {due}"))
}

/// Returns `Ready`: an open hold keeps recordings, a resolved one is released.
fn ready(
    hold: &IncidentHold,
    open: Option<&OpenHoldFindings<'_>>,
    released: Option<&ConditionFinding>,
) -> ConditionFinding {
    let cause = match open {
        None => released,
        Some(open) if !open.accepted.is_true() => Some(open.accepted),
        Some(open) if open.placed.is_true() && !open.recordings_found.is_true() => {
            Some(open.recordings_found)
        }
        Some(open) => Some(open.placed),
    };
    let Some(cause) = cause else {
        return ConditionFinding::new(
            ConditionType::Ready,
            ConditionStatus::Unknown,
            Reason::Pending,
            "the operator has not evaluated the hold yet",
        );
    };
    if meta::is_deleting(hold) {
        let message = if open.is_none() {
            format!("being deleted: {}", cause.message)
        } else {
            "being deleted: an open hold stays until its incident is resolved; set spec.state: Resolved with spec.resolution".to_owned()
        };
        return ConditionFinding::new(ConditionType::Ready, false, Reason::Deleting, message);
    }
    cause.propagate(ConditionType::Ready, cause.status)
}

#[cfg(test)]
mod tests;
