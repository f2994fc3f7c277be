//! All that can happen to two recordings and two incidents, step by step, in every order: a model of recorder, store,
//! operators and people, checked by `stateright`. What the operator and the recorder decide, they decide by the code's own
//! functions (`toezicht::rules`). docs/model.md says what is in it and what is not.
// A test may panic: that is how it says that something is wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod broken;
mod facts;
mod grid;
mod look;
mod outside;
mod passes;
mod promises;
mod state;
mod store;
mod world;

use std::time::Instant;

use stateright::{Checker, Model, Property};

use facts::Beginning;
use outside::Action;
use promises::properties;
use state::State;
use world::World;

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.may_happen(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.follows(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

/// Every order of events: the promises hold.
fn keeps_its_promises(beginning: Beginning, least: usize) {
    let began = Instant::now();
    let checker = World::new(beginning, None).checker().threads(2).spawn_bfs().join();
    println!(
        "{beginning:?}: {} states, {} steps, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    for (name, path) in checker.discoveries() {
        if checker.model().property(name).expectation.discovery_is_failure() {
            panic!("{name}: {:#?}", path.into_actions());
        }
    }
    checker.assert_properties();
    assert!(checker.unique_state_count() > least, "the model has become smaller: does it still do everything?");
}

#[test]
fn whatever_happens_to_what_is_young() {
    keeps_its_promises(Beginning::Young, 1000);
}

#[test]
fn whatever_happens_to_what_is_old() {
    keeps_its_promises(Beginning::Old, 1000);
}
