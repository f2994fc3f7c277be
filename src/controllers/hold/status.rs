//! Step three: what is reported: from what was read back of the bucket, never more than is true. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::has_counted;
use super::validate::Valid;
use crate::api::condition::{ConditionType, Finding, Reason, Truth, merge};
use crate::api::{Days, HoldState, IncidentHold, IncidentHoldStatus, Placement};
use crate::controllers::drive::Watched;
use crate::controllers::kit::meta;

/// The status of `hold`.
pub fn status(hold: &IncidentHold, valid: &Valid, now: Timestamp) -> IncidentHoldStatus {
    let Valid {
        accepted,
        review_every,
        next_change: _,
    } = valid;
    let generation = hold.metadata.generation;
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    let is_resolved = is_resolved(hold, now);
    let accepted = counted(accepted, placement);
    let placed = placed(hold, &accepted, placement, is_resolved);
    let released = released(hold, placement, is_resolved);
    let mut findings = vec![
        ready(
            &accepted,
            &placed,
            &released,
            is_resolved,
            meta::is_deleting(hold),
        ),
        accepted.clone(),
        placed.clone(),
        released,
    ];
    if !is_resolved {
        findings.extend(review_every.map(|every| review_due(hold, every, now)));
    }
    findings.push(stalled(&accepted, is_resolved));
    IncidentHoldStatus {
        observed_generation: generation,
        conditions: merge(hold.conditions(), &findings, generation, now),
        // The retention controller's.
        placement: None,
    }
}

/// Whether the incident is resolved: until the instant that the resolution names, the hold is as if it were open.
pub fn is_resolved(hold: &IncidentHold, now: Timestamp) -> bool {
    let at = hold.spec.resolution.as_ref().map(|resolution| resolution.at.0);
    hold.spec.state == HoldState::Resolved && at.is_none_or(|at| at <= now)
}

/// Whether nothing is kept for it, so that its resource may go. One that has the finalizer counted once, so something may
/// be kept for it though nobody has said so yet: the operator may have been killed before it could.
pub fn may_go(hold: &IncidentHold, placement: Option<&Placement>, is_resolved: bool) -> bool {
    let is_released = placement.map(|placement| placement.released_at.is_some());
    is_resolved && is_released.unwrap_or(!has_counted(hold))
}

/// A hold that the bucket's ledger has counts, whatever became of its policy since.
fn counted(accepted: &Finding, placement: Option<&Placement>) -> Finding {
    if accepted.is_true() || placement.is_none() {
        return accepted.clone();
    }
    let message = format!(
        "the bucket's ledger has it, so it counts on; it would not be accepted anew: {}",
        accepted.message
    );
    Finding::new(ConditionType::Accepted, true, Reason::Valid, message)
}

/// Whether all that it covers was found as it must be.
pub fn placed(
    hold: &IncidentHold,
    accepted: &Finding,
    placement: Option<&Placement>,
    is_resolved: bool,
) -> Finding {
    let found =
        |truth: Truth, reason, message: String| Finding::new(ConditionType::Placed, truth, reason, message);
    if is_resolved {
        return found(
            Truth::False,
            Reason::Resolved,
            "the incident is resolved: nothing is to be kept for it".to_owned(),
        );
    }
    let Some(placement) = placement else {
        if accepted.is_true() {
            let message = "the ledger of the site's bucket does not have it yet; if that stays: is the Site's StorageEnforced True?";
            return found(Truth::False, Reason::Placing, message.to_owned());
        }
        let message = "nothing is kept for it: see Accepted".to_owned();
        return found(Truth::False, Reason::DependsOn, message);
    };
    let Placement {
        segments,
        size,
        coverage,
        sealed,
        ..
    } = placement;
    let mut message =
        format!("{segments} segments ({size}) are kept; there are recordings of {coverage} of the window");
    if *sealed > 0 {
        let _ = write!(message, "; {sealed} of them may not be read yet (article 4.2)");
    }
    let is_of_this = Some(placement.observed_generation) == hold.metadata.generation;
    if let Some(lacks) = lacks(placement) {
        let message = format!("{message}; {lacks}");
        let truth = if placement.proved && is_of_this {
            Truth::Unknown
        } else {
            Truth::False
        };
        return found(truth, Reason::Retrying, message);
    }
    if placement.proved && is_of_this {
        return found(
            Truth::True,
            Reason::ReadBack,
            format!("{message}; each was found with legal hold and tag, after every recorder had the hold"),
        );
    }
    found(
        Truth::False,
        Reason::Placing,
        format!(
            "{message}; waits until every recorder has the hold and a pass over the bucket finds nothing left to do"
        ),
    )
}

/// What the last pass did not do of it.
fn lacks(placement: &Placement) -> Option<String> {
    let broken_off = placement.problem.as_ref();
    let broken_off =
        broken_off.map(|problem| format!("the last pass did not do all and is made again: {problem}"));
    broken_off.or_else(|| placement.refused.as_ref().map(ToString::to_string))
}

/// Whether nothing is kept for it any more. Of an open hold that is not asked.
pub fn released(hold: &IncidentHold, placement: Option<&Placement>, is_resolved: bool) -> Finding {
    let found =
        |truth, reason, message: String| Finding::new(ConditionType::Released, truth, reason, message);
    if !is_resolved {
        return found(false, Reason::Open, "the incident is not resolved".to_owned());
    }
    if may_go(hold, placement, is_resolved) && placement.is_none() {
        return found(true, Reason::ReadBack, "nothing was ever kept for it".to_owned());
    }
    let released_at = placement.and_then(|placement| placement.released_at.as_ref());
    match (released_at, placement.and_then(lacks)) {
        (Some(at), _) => found(
            true,
            Reason::ReadBack,
            format!(
                "since {} nothing is kept for it: what no other hold covers goes, or went, by its ceiling",
                at.0
            ),
        ),
        (None, Some(lacks)) => found(false, Reason::Retrying, lacks),
        (None, None) => found(
            false,
            Reason::Releasing,
            "waits until every recorder has let go of it and a pass over the bucket finds nothing left to do"
                .to_owned(),
        ),
    }
}

/// Whether it is time that somebody asks whether the hold is still needed (article 6). It is never released by that.
fn review_due(hold: &IncidentHold, every: Days, now: Timestamp) -> Finding {
    let reviewed = hold.spec.review.as_ref().map(|review| review.at.0);
    let created = hold.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let last = reviewed.or(created).unwrap_or(now);
    let due = last
        .saturating_add(SignedDuration::from_hours(24 * i64::from(every.0)))
        .unwrap_or(Timestamp::MAX);
    if due <= now {
        let message = format!(
            "article 6: since {due} a review is due: is the incident resolved? If so, set spec.state and spec.resolution; if not, \
             write spec.review"
        );
        return Finding::new(ConditionType::ReviewDue, true, Reason::Overdue, message);
    }
    Finding::new(
        ConditionType::ReviewDue,
        false,
        Reason::AsRequired,
        format!("the next review is due at {due}"),
    )
}

fn ready(
    accepted: &Finding,
    placed: &Finding,
    released: &Finding,
    is_resolved: bool,
    is_deleting: bool,
) -> Finding {
    if is_deleting {
        let waits = if is_resolved { released } else { placed };
        let message = if is_resolved {
            format!("being deleted: {}", waits.message)
        } else {
            "being deleted: an open hold stays until its incident is resolved: set spec.state and spec.resolution".to_owned()
        };
        return Finding::new(ConditionType::Ready, false, Reason::Deleting, message);
    }
    let cause = match (is_resolved, accepted.is_true()) {
        (true, _) => released,
        (false, true) => placed,
        (false, false) => accepted,
    };
    cause.told_of(ConditionType::Ready, cause.truth)
}

/// Only a person can put right what is not accepted.
fn stalled(accepted: &Finding, is_resolved: bool) -> Finding {
    Finding::stalled((!is_resolved && !accepted.is_true()).then_some(accepted))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
