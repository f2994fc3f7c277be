//! What the status of a hold claims, written and looked at: whoever claims what is not true in the store has failed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use toezicht::api::condition::{ConditionFinding, ConditionType, Reason};
use toezicht::api::{IncidentHold, Placement};
use toezicht::controllers::hold::status::{placed, released};

use super::api::is_resolved;
use super::world::World;

/// Writes that the ledger had nothing of a hold, and looks whether nothing is kept for it.
pub fn report_never_held(world: &mut World, of: &IncidentHold, began: Timestamp, said: Timestamp) {
    let uid = of.metadata.uid.clone().unwrap();
    let now = world.now();
    let Some(hold) = world.api.holds.get_mut(&uid) else {
        return;
    };
    let status = hold.status.get_or_insert_default();
    if status.never_held_time.is_some() {
        return;
    }
    status.never_held_time = Some(Time(said));
    let is_released = released(hold, None, is_resolved(hold, said)).is_some_and(|finding| finding.is_true());
    if is_released {
        world.checks.released(&uid, false, &world.store, &world.api, began, now);
    }
    world.see();
}

/// Writes what there is of a hold, and looks whether what follows from it is true.
pub fn claim(world: &mut World, of: &IncidentHold, next: Placement, began: Timestamp, said: Timestamp) {
    let uid = of.metadata.uid.clone().unwrap();
    let now = world.now();
    let Some(hold) = world.api.holds.get_mut(&uid) else {
        return;
    };
    let is_news = hold.status.as_ref().and_then(|status| status.placement.as_ref()) != Some(&next);
    hold.status.get_or_insert_default().placement = Some(next.clone());
    let hold = hold.clone();
    let accepted = ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, String::new());
    let is_resolved = is_resolved(&hold, said);
    let is_placed = !is_resolved && placed(&hold, &accepted, Some(&next), said).is_true();
    let is_released = released(&hold, Some(&next), is_resolved).is_some_and(|finding| finding.is_true());
    if is_news {
        world.say(|| {
            format!(
                "{uid} is told: {} segments, Placed {is_placed}, Released {is_released}, {:?}",
                next.segments, next.last_error
            )
        });
    }
    if !is_placed {
        world.checks.withdraw_placed(&uid);
    }
    // What was said by another look is no claim of this one.
    let is_looked_at = next.last_verification_time.as_ref().is_some_and(|at| at.0 == said);
    if is_placed && is_looked_at {
        world.checks.placed(&uid, &hold, &world.store, began);
    }
    if is_released && is_news {
        world.checks.released(&uid, true, &world.store, &world.api, began, now);
    }
    world.see();
}
