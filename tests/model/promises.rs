//! What must never be, whatever happens; and what must be able to happen, so that the rest says something.

use stateright::Property;
use toezicht::storage::tag::RetentionTag;

use super::facts::BEFORE;
use super::state::{Declared, N, State, Version, one};
use super::world::World;

pub const NOT_LOST: &str = "nothing held is lost";
pub const PLACED: &str = "Placed never lies";
pub const RELEASED: &str = "Released never lies";
pub const EXPLAINED: &str = "nothing is kept that no hold explains";
pub const EMBARGO: &str = "nothing is readable before the embargo has passed";

pub fn properties() -> Vec<Property<World>> {
    vec![
        Property::always(NOT_LOST, |_, state: &State| !state.is_lost),
        Property::always(PLACED, placed),
        Property::always(RELEASED, released),
        Property::always(EXPLAINED, explained),
        Property::always(EMBARGO, embargo),
        Property::sometimes("two holds are placed", |world: &World, state: &State| {
            (0..N).all(|hold| world.claims(state.holds[hold]).0)
        }),
        Property::sometimes("a hold is released while the other is placed", |world: &World, state: &State| {
            let claims = |hold: usize| world.claims(state.holds[hold]);
            claims(0).1 && claims(1).0
        }),
        Property::sometimes("two holds are released", |world: &World, state: &State| {
            (0..N).all(|hold| world.claims(state.holds[hold]).1)
        }),
        Property::sometimes("everything is gone", |_, state: &State| {
            state.versions.iter().all(|version| *version == Version::Gone)
        }),
        Property::sometimes("what is lost to the cluster is kept by the ledger", |world: &World, state: &State| {
            let is_lost = |hold: &usize| state.holds[*hold].declared == Declared::Lost;
            let is_kept = |version: usize| state.object(version).is_some_and(|object| object.legal_hold);
            state.clock == 4 && (0..N).any(|hold| is_lost(&hold)) && is_kept(0) && is_kept(1) && world.claims(state.holds[0]).1
        }),
        Property::sometimes("a late request takes marks", |_, state: &State| state.is_disturbed),
    ]
}

/// While `Placed` is said, nothing that the hold covers can be taken by the store's lifecycle. What was there from the
/// beginning has both its marks and can be seen, unless a request of a leader that was stopped took one after that; what
/// is uploaded meanwhile has at least its tag.
fn placed(world: &World, state: &State) -> bool {
    (0..N).filter(|hold| world.claims(state.holds[*hold]).0).all(|hold| {
        let covered = (0..N).filter_map(|version| {
            let object = state.object(version)?;
            (world.covering(version, object.taken) & one(hold) != 0).then_some(object)
        });
        covered.into_iter().all(|object| {
            let is_whole = object.legal_hold && object.tag != RetentionTag::Video && object.hidden.is_none();
            let may_lack_one = object.taken != BEFORE || state.is_disturbed;
            is_whole || may_lack_one && !object.is_left_to_lifecycle()
        })
    })
}

/// While `Released` is said, nothing that the hold covers is kept, unless another hold explains it.
fn released(world: &World, state: &State) -> bool {
    let unreleased = |hold: usize| state.unreleased() & !one(hold);
    !state.has_lied
        && (0..N).filter(|hold| world.claims(state.holds[*hold]).1).all(|hold| {
            (0..N).filter_map(|version| Some((version, state.object(version)?))).all(|(version, object)| {
                let covering = world.covering(version, object.taken);
                let is_its = covering & one(hold) != 0 && covering & unreleased(hold) == 0;
                !is_its || object.is_left_to_lifecycle()
            })
        })
}

/// With the operator dead, the store alone deletes in time what no hold explains.
fn explained(world: &World, state: &State) -> bool {
    (0..N).filter_map(|version| Some((version, state.object(version)?))).all(|(version, object)| {
        object.is_left_to_lifecycle() || world.covering(version, object.taken) & state.unreleased() != 0
    })
}

fn embargo(world: &World, state: &State) -> bool {
    let all: u8 = (1 << N) - 1;
    (0..N).filter_map(|version| Some((version, state.object(version)?))).all(|(version, object)| {
        object.tag != RetentionTag::Held || world.held_tag(version, object, all, state.clock) == Some(RetentionTag::Held)
    })
}
