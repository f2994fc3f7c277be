//! All that can happen to two recordings and two incidents, step by step, in every order: a model of recorder, store,
//! operators and people, checked by `stateright`. What the operator and the recorder decide, they decide by the code's own
//! functions. docs/development/model.md says what is in it and what is not.
// A test may panic: that is how it says that something is wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod broken;
#[path = "../common/exact.rs"]
mod exact;
mod facts;
mod first;
mod grid;
mod look;
mod outside;
mod passes;
mod promises;
mod scope;
mod state;
mod store;
mod world;

use std::io::Write;
use std::time::Instant;

use stateright::{Checker, Expectation, Model, Property};

use outside::Action;
use promises::properties;
use scope::{AGEING, ALL_AT_ONCE, Scope, TAKEOVER, UPLOADS};
use state::State;
use world::World;

const DOCS: &str = include_str!("../../docs/development/model.md");

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.enabled_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.follows(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
            .into_iter()
            .filter(|property| property.expectation == Expectation::Always || self.can_happen(property.name))
            .collect()
    }
}

/// Goes through all of a scope: no promise is broken, what can happen does, and docs/development/model.md has the number of states.
fn explore(scope: Scope) {
    let began = Instant::now();
    let checker = World::new(scope, None).checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    // Not by `println`, of which nothing is heard where all is well.
    let said = format!("model, {}: {states} states, {depth} deep, {:.1?}\n", scope.name, began.elapsed());
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    checker.assert_properties();
    let row = format!("| `{}` | {states} |", scope.name);
    assert!(DOCS.contains(&row), "docs/development/model.md says otherwise: {row}");
}

#[test]
fn all_at_once_scope_keeps_all_properties() {
    explore(ALL_AT_ONCE);
}

#[test]
fn uploads() {
    explore(UPLOADS);
}

#[test]
fn takeover() {
    explore(TAKEOVER);
}

#[test]
fn ageing() {
    explore(AGEING);
}
