//! Writes of hold statuses, with a check of every claim in them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use toezicht::api::condition::{ConditionFinding, ConditionType, Reason};
use toezicht::api::{IncidentHold, Placement};
use toezicht::controllers::hold::status::{placed, released};

use super::api::is_resolved;
use super::world::World;

/// Writes that a hold never entered the ledger, and checks that nothing is protected for it.
pub fn report_never_held(
    world: &mut World,
    read_hold: &IncidentHold,
    began: Timestamp,
    decided_at: Timestamp,
) {
    let uid = read_hold.metadata.uid.clone().unwrap();
    let now = world.now();
    let Some(hold) = world.api.holds.get_mut(&uid) else {
        return;
    };
    let status = hold.status.get_or_insert_default();
    if status.never_held_time.is_some() {
        return;
    }
    status.never_held_time = Some(Time(decided_at));
    let is_released =
        released(hold, None, is_resolved(hold, decided_at)).is_some_and(|finding| finding.is_true());
    if is_released {
        world.checks.check_released(&uid, false, &world.store, &world.api, began, now);
    }
    world.check_effects();
}

/// Writes a hold's placement and checks the claims that follow from it.
pub fn claim(
    world: &mut World,
    read_hold: &IncidentHold,
    next: Placement,
    began: Timestamp,
    decided_at: Timestamp,
) {
    let uid = read_hold.metadata.uid.clone().unwrap();
    let now = world.now();
    let Some(hold) = world.api.holds.get_mut(&uid) else {
        return;
    };
    let is_changed = hold.status.as_ref().and_then(|status| status.placement.as_ref()) != Some(&next);
    hold.status.get_or_insert_default().placement = Some(next.clone());
    let hold = hold.clone();
    let accepted = ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, String::new());
    let is_resolved = is_resolved(&hold, decided_at);
    let is_placed = !is_resolved && placed(&hold, &accepted, Some(&next), decided_at).is_true();
    let is_released = released(&hold, Some(&next), is_resolved).is_some_and(|finding| finding.is_true());
    if is_changed {
        world.log_trace(|| {
            format!(
                "the status of {uid} has {} segments, Placed {is_placed}, Released {is_released}, {:?}",
                next.segments, next.last_error
            )
        });
    }
    if !is_placed {
        world.checks.withdraw_placed(&uid);
    }
    // Claims of an earlier reconcile are not checked against this one.
    let is_from_this_reconcile = next.last_verification_time.as_ref().is_some_and(|at| at.0 == decided_at);
    if is_placed && is_from_this_reconcile {
        world.checks.check_placed(&uid, &hold, &world.store, began);
    }
    if is_released && is_changed {
        world.checks.check_released(&uid, true, &world.store, &world.api, began, now);
    }
    world.check_effects();
}
