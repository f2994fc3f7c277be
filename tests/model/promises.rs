//! What must never be, whatever happens; and what must be able to happen, so that the rest says something.

use stateright::Property;
use toezicht::rules::recording::tag::RetentionTag;

use super::facts::{DAYS_LATER, LAST};
use super::state::{Declared, N, Object, State, Version, one};
use super::world::World;

pub const NO_HELD_VERSION_IS_LOST: &str = "nothing held is lost";
pub const PLACED_IS_TRUE: &str = "Placed never lies";
pub const RELEASED_IS_TRUE: &str = "Released never lies";
pub const EVERY_PROTECTION_IS_EXPLAINED: &str = "nothing is kept that no hold explains";
pub const GONE: &str = "past its deadline an unheld version is gone";
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
        Property::always(PLACED_IS_TRUE, placed),
        Property::always(RELEASED_IS_TRUE, released),
        Property::always(EVERY_PROTECTION_IS_EXPLAINED, explained),
        Property::always(GONE, gone),
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
            state.versions.iter().all(|version| *version == Version::Gone)
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
    world.claims(state.holds[hold]).0
}

fn is_released(world: &World, state: &State, hold: usize) -> bool {
    world.claims(state.holds[hold]).1
}

/// The versions that are there.
fn objects(state: &State) -> impl Iterator<Item = (usize, Object)> {
    (0..N).filter_map(|version| Some((version, state.object(version)?)))
}

/// While `Placed` is said, nothing that the hold covers can be taken by the store's lifecycle. What was there from the
/// beginning has both its marks and can be seen, unless a request of a leader that was stopped took one after that; what
/// is uploaded meanwhile has at least its tag.
fn placed(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        let covering = world.covering(version, object.taken);
        let is_claimed = (0..N).any(|hold| covering & one(hold) != 0 && is_placed(world, state, hold));
        let is_whole = object.legal_hold && object.tag != RetentionTag::Video && object.hidden.is_none();
        let may_lack_one = state.is_disturbed || world.scope.has_recorder && version == 1;
        !is_claimed || is_whole || may_lack_one && !object.is_left_to_lifecycle()
    })
}

/// While `Released` is said, nothing that the hold covers is kept, unless another hold explains it.
fn released(world: &World, state: &State) -> bool {
    let is_so = |hold: usize| {
        let others = state.unreleased() & !one(hold);
        objects(state).all(|(version, object)| {
            let covering = world.covering(version, object.taken);
            let is_its_alone = covering & one(hold) != 0 && covering & others == 0;
            !is_its_alone || object.is_left_to_lifecycle()
        })
    };
    !state.has_lied && (0..N).all(|hold| !is_released(world, state, hold) || is_so(hold))
}

/// With the operator dead, the store alone deletes in time what no hold explains.
fn explained(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        object.is_left_to_lifecycle() || world.covering(version, object.taken) & state.unreleased() != 0
    })
}

/// What is over its ceiling and was uploaded in time is there for a hold, or it is not there.
fn gone(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        let is_late = [DAYS_LATER, LAST].contains(&object.taken);
        let is_over = !is_late && world.is_due(version, object, state.clock);
        !is_over || world.covering(version, object.taken) & state.unreleased() != 0
    })
}

/// Whatever says `held` can be read.
fn embargo_is_kept(world: &World, state: &State) -> bool {
    objects(state).all(|(version, object)| {
        object.tag != RetentionTag::Held || !world.is_sealed(version, object, state.clock)
    })
}
