//! A model of recorder, store, operators and people with two recordings and two incidents. `stateright` checks every
//! order of their steps. Operator and recorder decide by the code's own functions. docs/development/model.md
//! describes what the model covers.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod actions;
#[path = "../common/exact.rs"]
mod exact;
mod initial;
mod lookup_table;
mod passes;
mod properties;
mod reconcile;
mod rules;
mod scope;
mod state;
mod store;
mod values;
mod world;

use std::io::Write;
use std::time::Instant;

use stateright::{Checker, Expectation, Model, Property};

use actions::Action;
use properties::properties;
use scope::{AGEING, ALL_AT_ONCE, Scope, TAKEOVER, UPLOADS};
use state::State;
use world::World;

const DOCS: &str = include_str!("../../docs/development/model.md");

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial_state()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.enabled_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.apply(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
            .into_iter()
            .filter(|property| property.expectation == Expectation::Always || self.can_happen(property.name))
            .collect()
    }
}

/// Explores a whole scope: all properties hold, and docs/development/model.md has the number of states.
fn explore(scope: Scope) {
    let began = Instant::now();
    let checker = World::new(scope, None).checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    // The harness captures `println!` of tests that pass, so write to standard output directly.
    let line = format!("model, {}: {states} states, {depth} deep, {:.1?}\n", scope.name, began.elapsed());
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    checker.assert_properties();
    let row = format!("| `{}` | {states} |", scope.name);
    assert!(DOCS.contains(&row), "docs/development/model.md lacks this row: {row}");
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
