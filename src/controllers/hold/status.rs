//! Step three: what is reported: from what was read back of the bucket, never more than is true. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{Days, HoldPhase, IncidentHold, IncidentHoldStatus, Placement};
use crate::controllers::hold::recordings_found::{coverage_known_at, evaluate_covers, is_coverage_known};
use crate::controllers::hold::stall_causes::{OpenHoldFindings, open_hold_causes, resolved_hold_causes};
use crate::controllers::hold::validate::HoldValidation;
use crate::controllers::kubernetes::{meta, status as kit_status};
use crate::controllers::runner::Watched;
use crate::controllers::stall;
use crate::controllers::stall::condition_since;
use crate::rules::hold::resolution::is_resolved_in_spec;

/// Finalizer of a hold: its resource stays until nothing is kept for it any more.
pub const FINALIZER: &str = "toezicht.dev/hold";

/// Whether something was kept for it once, as its finalizer says, or its status, which may be older than the finalizer.
pub fn has_taken_effect(hold: &IncidentHold) -> bool {
    let status = hold.status.as_ref();
    hold.finalizers().iter().any(|name| name == FINALIZER)
        || status.is_some_and(|status| status.placement.is_some())
}

/// The status of `hold`, and when it changes though nothing happens.
pub fn hold_status(
    hold: &IncidentHold,
    valid: &HoldValidation,
    now: Timestamp,
) -> (IncidentHoldStatus, Option<Timestamp>) {
    let (generation, before) = (hold.metadata.generation, hold.conditions());
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    let is_resolved = is_resolved_in_spec(hold, now);
    let accepted = accept_if_in_ledger(&valid.accepted, placement);
    let placed = placed(hold, &accepted, placement, is_resolved, now);
    let released = released(hold, placement, is_resolved);
    let (released, overdue) = mark_overdue(hold, released, is_resolved, now);
    let (covers, unknown_cameras) = evaluate_covers(hold, valid, &accepted, placement, now);
    let open =
        placed.as_ref().map(|placed| OpenHoldFindings { accepted: &accepted, placed, covers: &covers });
    let causes = match (&open, &released) {
        (Some(open), _) => open_hold_causes(hold, valid, open, released.as_ref(), now),
        (None, Some(released)) => resolved_hold_causes(valid, released, overdue),
        (None, None) => Vec::new(),
    };
    let (stalled, next_change) = stall::evaluate(&causes, now);
    let mut findings = vec![ready(hold, open.as_ref(), released.as_ref()), accepted.clone()];
    findings.extend(placed.clone());
    findings.extend(open.is_some().then(|| covers.clone()));
    findings.extend(released);
    if !is_resolved {
        let every = valid.review_every;
        findings.extend(every.map(|every| review_due(hold, every, now)));
    }
    findings.push(stalled);
    let mut conditions = merge(before, &findings, generation, now);
    let is_paused = valid.site.as_ref().is_some_and(|site| site.is_paused);
    if is_paused && open.is_some() {
        conditions =
            kit_status::mark_unobserved(conditions, before, Reason::Paused, "its Site is paused", now);
    }
    let status = IncidentHoldStatus {
        observed_generation: generation,
        conditions,
        state: Some(progress(hold, &accepted, placement, is_resolved)),
        unknown_cameras: if is_resolved { Vec::new() } else { unknown_cameras },
        // The retention controller's.
        placement: None,
        never_held_time: None,
    };
    let changes = [next_change, valid.next_change, overdue.filter(|at| *at > now)];
    (status, changes.into_iter().flatten().min())
}

/// Whether nothing is kept for it, so that its resource may go. One that has the finalizer counted once, so something may
/// be kept for it though nobody has said so yet: the operator may have been killed before it could.
pub fn is_fully_released(hold: &IncidentHold, placement: Option<&Placement>, is_resolved: bool) -> bool {
    let is_released = placement.map(|placement| placement.release_time.is_some());
    is_resolved && is_released.unwrap_or(!has_taken_effect(hold))
}

fn progress(
    hold: &IncidentHold,
    accepted: &ConditionFinding,
    placement: Option<&Placement>,
    is_resolved: bool,
) -> HoldPhase {
    if is_resolved {
        let is_released = placement.is_some_and(|placement| placement.release_time.is_some());
        return if is_released || never_held_at(hold).is_some() {
            HoldPhase::Released
        } else {
            HoldPhase::Releasing
        };
    }
    match (accepted.is_true(), accepted.reason) {
        (true, _) => HoldPhase::Open,
        (false, Reason::NotStarted) => HoldPhase::Scheduled,
        (false, _) => HoldPhase::Rejected,
    }
}

/// A hold that the bucket's ledger has counts, whatever became of its policy since.
fn accept_if_in_ledger(accepted: &ConditionFinding, placement: Option<&Placement>) -> ConditionFinding {
    if accepted.is_true() || placement.is_none() {
        return accepted.clone();
    }
    let message = format!(
        "the bucket's ledger has it, so it still counts; a new hold like it would be refused: {}",
        accepted.message
    );
    ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, message)
}

/// Whether all that an open hold covers was found as it must be.
pub fn placed(
    hold: &IncidentHold,
    accepted: &ConditionFinding,
    placement: Option<&Placement>,
    is_resolved: bool,
    now: Timestamp,
) -> Option<ConditionFinding> {
    let found = |truth: ConditionStatus, reason, message: String| {
        Some(ConditionFinding::new(ConditionType::Placed, truth, reason, message))
    };
    if is_resolved {
        return None;
    }
    let Some(placement) = placement else {
        if accepted.is_true() {
            let message = "the ledger of the site's bucket does not have it yet; if that stays: is the Site's StorageEnforced True?";
            return found(ConditionStatus::False, Reason::Placing, message.to_owned());
        }
        let message = format!("nothing is kept for it: {}", accepted.message);
        return found(ConditionStatus::False, Reason::DependencyNotReady, message);
    };
    let message = placement_message(hold, placement, now);
    let is_of_this = Some(placement.observed_generation) == hold.metadata.generation;
    if let Some(lacks) = incomplete_reason(placement) {
        let message = format!("{message}; {lacks}");
        let truth =
            if placement.verified && is_of_this { ConditionStatus::Unknown } else { ConditionStatus::False };
        return found(truth, Reason::Retrying, message);
    }
    if placement.verified && is_of_this {
        let proof = if placement.segments > 0 {
            "every recorder has the hold, and the legal hold and tag of each segment were read back"
        } else {
            "every recorder has the hold: segments that still come are kept"
        };
        return found(ConditionStatus::True, Reason::Verified, format!("{message}; {proof}"));
    }
    found(
        ConditionStatus::False,
        Reason::Placing,
        format!(
            "{message}; waits until every recorder has the hold, no request of an earlier release can land any more, and a pass over \
             the bucket finds nothing left to do"
        ),
    )
}

/// What is kept, and how much of the window that is.
fn placement_message(hold: &IncidentHold, placement: &Placement, now: Timestamp) -> String {
    let Placement {
        segments, size, coverage, sealed_segments: sealed, coverage_until_time: known_until, ..
    } = placement;
    let mut message = if *segments > 0 {
        format!("{segments} segments ({size}) are kept")
    } else {
        "no segment was found that it covers".to_owned()
    };
    let until = hold.spec.window.until.as_ref().filter(|until| until.0 <= now);
    match (coverage, known_until) {
        (Some(coverage), _) if until.is_some() => {
            let _ = write!(message, "; there are recordings of {coverage} of the window");
        }
        (Some(coverage), Some(known)) => {
            let _ = write!(message, "; there are recordings of {coverage} of the window up to {}", known.0);
        }
        _ if !is_coverage_known(hold, placement, now) => {
            let from = coverage_known_at(hold).map_or_else(String::new, |from| format!(" before {from}"));
            let _ = write!(message, "; how much of the window was recorded is not known{from}");
        }
        _ => (),
    }
    if *sealed > 0 {
        let _ = write!(message, "; nobody may read {sealed} of them yet (article 4.2)");
    }
    message
}

/// What the last pass did not do of it.
fn incomplete_reason(placement: &Placement) -> Option<String> {
    let broken_off = placement.last_error.as_ref();
    let broken_off =
        broken_off.map(|problem| format!("the last pass was incomplete and is made again: {problem}"));
    broken_off.or_else(|| placement.store_rejection.as_ref().map(ToString::to_string))
}

/// When the ledger was found to have nothing of it.
fn never_held_at(hold: &IncidentHold) -> Option<Timestamp> {
    Some(hold.status.as_ref()?.never_held_time.as_ref()?.0)
}

/// Whether nothing is kept any more for a hold that is resolved, or says so for an instant that is still to come.
pub fn released(
    hold: &IncidentHold,
    placement: Option<&Placement>,
    is_resolved: bool,
) -> Option<ConditionFinding> {
    let found = |truth: bool, reason, message: String| {
        Some(ConditionFinding::new(ConditionType::Released, truth, reason, message))
    };
    if !is_resolved {
        let ahead = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0)?;
        let message = format!(
            "spec.resolution.time: {ahead} lies in the future, and the hold is open until then: correct it, or withdraw the \
             resolution (spec.state: Open, without spec.resolution)"
        );
        return found(false, Reason::ResolutionInFuture, message);
    }
    if placement.is_none() && !has_taken_effect(hold) {
        let Some(at) = never_held_at(hold) else {
            let message = "whether something is kept for it is known once the bucket's ledger was read";
            return Some(ConditionFinding::new(
                ConditionType::Released,
                ConditionStatus::Unknown,
                Reason::Pending,
                message,
            ));
        };
        let message = format!("nothing was ever kept for it: the bucket's ledger had nothing of it at {at}");
        return found(true, Reason::Verified, message);
    }
    let released_at = placement.and_then(|placement| placement.release_time.as_ref());
    match (released_at, placement.and_then(incomplete_reason)) {
        (Some(at), _) => found(
            true,
            Reason::Verified,
            format!(
                "nothing is kept for it since {}: segments that no other hold covers go by their ceiling",
                at.0
            ),
        ),
        (None, Some(lacks)) => found(false, Reason::Retrying, lacks),
        (None, None) => found(
            false,
            Reason::Releasing,
            "waits until every recorder has let go of it, no earlier request can land any more, and a pass over the bucket \
             finds nothing left to do"
                .to_owned(),
        ),
    }
}

/// The same, told as overdue once it has lasted too long; and when that is.
fn mark_overdue(
    hold: &IncidentHold,
    released: Option<ConditionFinding>,
    is_resolved: bool,
    now: Timestamp,
) -> (Option<ConditionFinding>, Option<Timestamp>) {
    let Some(waits) =
        released.as_ref().filter(|released| is_resolved && released.status == ConditionStatus::False)
    else {
        return (released, None);
    };
    let at = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0);
    let made = hold.metadata.creation_timestamp.as_ref();
    let begun = condition_since(hold.conditions(), waits, made, now).max(at.unwrap_or(Timestamp::MIN));
    let due = begun.saturating_add(stall::WORK_GRACE).unwrap_or(Timestamp::MAX);
    if due > now {
        return (released, Some(due));
    }
    let message = format!(
        "the incident is resolved, and its recordings are not released since {begun}: {}",
        waits.message
    );
    let overdue = ConditionFinding::new(ConditionType::Released, false, Reason::Overdue, message);
    (Some(overdue), Some(due))
}

/// Whether it is time that somebody asks whether the hold is still needed (article 6). It is never released by that.
fn review_due(hold: &IncidentHold, every: Days, now: Timestamp) -> ConditionFinding {
    let found = |truth: bool, reason, message| {
        ConditionFinding::new(ConditionType::ReviewDue, truth, reason, message)
    };
    let reviewed = hold.spec.review.as_ref().map(|review| review.time.0);
    if let Some(ahead) = reviewed.filter(|at| *at > now) {
        let message = format!(
            "spec.review.time: {ahead} lies in the future: write the instant at which the review took place"
        );
        return found(true, Reason::ReviewInFuture, message);
    }
    let created = hold.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let last = reviewed.or(created).unwrap_or(now);
    let due =
        last.saturating_add(SignedDuration::from_hours(24 * i64::from(every.0))).unwrap_or(Timestamp::MAX);
    if due <= now {
        let message = format!(
            "article 6: since {due} a review is due: is the incident resolved? If so, set spec.state and spec.resolution; if not, \
             write spec.review"
        );
        return found(true, Reason::Overdue, message);
    }
    found(false, Reason::AsRequired, format!("the next review is due at {due}"))
}

/// Whether the hold does what it is for: it keeps recordings, or has released them.
fn ready(
    hold: &IncidentHold,
    open: Option<&OpenHoldFindings<'_>>,
    released: Option<&ConditionFinding>,
) -> ConditionFinding {
    let cause = match open {
        None => released,
        Some(open) if !open.accepted.is_true() => Some(open.accepted),
        Some(open) if open.placed.is_true() && !open.covers.is_true() => Some(open.covers),
        Some(open) => Some(open.placed),
    };
    let Some(cause) = cause else {
        return ConditionFinding::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Pending, "");
    };
    if meta::is_deleting(hold) {
        let message = if open.is_none() {
            format!("being deleted: {}", cause.message)
        } else {
            "being deleted: an open hold stays until its incident is resolved: set spec.state and spec.resolution".to_owned()
        };
        return ConditionFinding::new(ConditionType::Ready, false, Reason::Deleting, message);
    }
    cause.propagate(ConditionType::Ready, cause.status)
}

#[cfg(test)]
pub(crate) mod tests;
