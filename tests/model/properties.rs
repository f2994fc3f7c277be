//! Properties that must always hold, and states that must be reachable so that the properties are not vacuous.

use stateright::Property;
use toezicht::rules::recording::tag::RetentionTag;

use super::state::{Declared, N, Object, State, Version, singleton};
use super::values::{DAYS_LATER, LAST};
use super::world::World;

pub const NO_HELD_VERSION_IS_LOST: &str = "nothing held is lost";
pub const PLACED_IS_TRUE: &str = "Placed never lies";
pub const RELEASED_IS_TRUE: &str = "Released never lies";
pub const EVERY_PROTECTION_IS_EXPLAINED: &str = "nothing is kept that no hold explains";
pub const EXPIRED_IS_DELETED: &str = "past its deadline an unheld version is gone";
pub const EMBARGO_IS_KEPT: &str = "nothing can be seen before the embargo has passed";

pub const TWO_PLACED: &str = "two holds are placed";
pub const ONE_RELEASED: &str = "a hold is released while the other is placed";
pub const TWO_RELEASED: &str = "two holds are released";
pub const ALL_DELETED: &str = "everything is gone";
pub const KEPT_BY_LEDGER: &str = "what is lost to the cluster is kept by the ledger";
pub const LATE_REQUEST_CLEARS_PROTECTION: &str = "a late request takes marks";

pub fn properties() -> Vec<Property<World>> {
    vec![
        Property::always(NO_HELD_VERSION_IS_LOST, |_, state: &State| !state.is_lost),
        Property::always(PLACED_IS_TRUE, placed_is_true),
        Property::always(RELEASED_IS_TRUE, released_is_true),
        Property::always(EVERY_PROTECTION_IS_EXPLAINED, every_protection_is_explained),
        Property::always(EXPIRED_IS_DELETED, expired_is_deleted),
        Property::always(EMBARGO_IS_KEPT, embargo_is_kept),
        Property::sometimes(TWO_PLACED, |world: &World, state: &State| {
            (0..N).all(|hold| is_placed(world, state, hold))
        }),
        Property::sometimes(ONE_RELEASED, |world: &World, state: &State| {
            is_released(world, state, 0) && is_placed(world, state, 1)
        }),
        Property::sometimes(TWO_RELEASED, |world: &World, state: &State| {
            (0..N).all(|hold| is_released(world, state, hold))
        }),
        Property::sometimes(ALL_DELETED, |_, state: &State| {
            state.versions.iter().all(|version| *version == Version::Deleted)
        }),
        Property::sometimes(KEPT_BY_LEDGER, |world: &World, state: &State| {
            let is_lost = state.holds.iter().any(|hold| hold.declared == Declared::Lost);
            let is_kept = objects(state).filter(|(_, object)| object.legal_hold).count() == N;
            state.clock == LAST && is_lost && is_kept && is_released(world, state, 0)
        }),
        Property::sometimes(LATE_REQUEST_CLEARS_PROTECTION, |_, state: &State| state.is_disturbed),
    ]
}

fn is_placed(world: &World, state: &State, hold: usize) -> bool {
    world.claimed_conditions(state.holds[hold]).0
}

fn is_released(world: &World, state: &State, hold: usize) -> bool {
    world.claimed_conditions(state.holds[hold]).1
}

/// Returns the stored versions.
fn objects(state: &State) -> impl Iterator<Item = (usize, Object)> {
    (0..N).filter_map(|version| Some((version, state.object(version)?)))
}

/// Returns whether every version of a placed hold is protected from the store's lifecycle. Initial versions have
/// legal hold and tag and are not hidden, unless a late request of a stopped leader cleared one. Later uploads have
/// at least the tag.
fn placed_is_true(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        let covering = world.covering(version, object.uploaded_at);
        let is_claimed = (0..N).any(|hold| covering & singleton(hold) != 0 && is_placed(world, state, hold));
        let is_fully_protected =
            object.legal_hold && object.tag != RetentionTag::Video && object.hidden.is_none();
        let may_be_partly_protected = state.is_disturbed || world.scope.has_recorder && version == 1;
        !is_claimed || is_fully_protected || may_be_partly_protected && !object.is_left_to_lifecycle()
    })
}

/// Returns whether nothing that only a released hold covered is still protected.
fn released_is_true(world: &World, state: &State) -> bool {
    let is_true = |hold: usize| {
        let others = state.unreleased() & !singleton(hold);
        objects(state).all(|(version, object)| {
            let covering = world.covering(version, object.uploaded_at);
            let is_covered_only_by_it = covering & singleton(hold) != 0 && covering & others == 0;
            !is_covered_only_by_it || object.is_left_to_lifecycle()
        })
    };
    !state.has_false_claim && (0..N).all(|hold| !is_released(world, state, hold) || is_true(hold))
}

/// Returns whether the store's lifecycle alone would delete every version that no hold explains.
fn every_protection_is_explained(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        object.is_left_to_lifecycle() || world.covering(version, object.uploaded_at) & state.unreleased() != 0
    })
}

/// Returns whether every stored version past its ceiling that was uploaded in time is covered by a hold.
fn expired_is_deleted(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        let is_late = [DAYS_LATER, LAST].contains(&object.uploaded_at);
        let is_past_ceiling = !is_late && world.is_due(version, object, state.clock);
        !is_past_ceiling || world.covering(version, object.uploaded_at) & state.unreleased() != 0
    })
}

/// Returns whether no version is readable, by the tag `held`, before its embargo has passed.
fn embargo_is_kept(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        object.tag != RetentionTag::Held || !world.is_sealed(version, object, state.clock)
    })
}
