//! All that can happen to two recordings and two incidents, step by step, in every order: a model of recorder, store,
//! operators and people, checked by `stateright`. What the operator and the recorder decide, they decide by the code's own
//! functions (`toezicht::rules`). docs/model.md says what is in it and what is not.
// A test may panic: that is how it says that something is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod broken;
mod facts;
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
use promises::{ALL_GONE, KEPT_BY_LEDGER, ONE_RELEASED, TAKEN_LATE, TWO_PLACED, TWO_RELEASED, properties};
use scope::{AGEING, Scope, TAKEOVER, UPLOADS};
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

/// Goes through all of a scope: no promise is broken, and what `can_happen` does.
fn explore(scope: Scope, can_happen: &[&'static str]) {
    let began = Instant::now();
    let checker = World::new(scope, None).checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    // Not by `println`, of which nothing is heard where all is well.
    let said = format!(
        "model, {}: {states} states, {depth} deep, {:.1?}\n",
        scope.name,
        began.elapsed()
    );
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    for property in properties() {
        if property.expectation == Expectation::Always {
            checker.assert_no_discovery(property.name);
        }
    }
    for name in can_happen {
        checker.assert_any_discovery(name);
    }
}

#[test]
fn uploads() {
    explore(UPLOADS, &[TWO_PLACED, ONE_RELEASED, TWO_RELEASED]);
}

#[test]
fn takeover() {
    explore(TAKEOVER, &[TWO_PLACED, ONE_RELEASED, TWO_RELEASED, TAKEN_LATE]);
}

#[test]
fn ageing() {
    explore(
        AGEING,
        &[TWO_PLACED, ONE_RELEASED, TWO_RELEASED, ALL_GONE, KEPT_BY_LEDGER],
    );
}

fn env(name: &str, default: u8) -> u8 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

#[test]
fn measure() {
    let began = Instant::now();
    let clock: &'static [u8] = Box::leak(
        std::env::var("CLOCK")
            .unwrap_or("01234".into())
            .bytes()
            .map(|b| b - b'0')
            .collect::<Vec<_>>()
            .into_boxed_slice(),
    );
    let scope = Scope {
        name: "measured",
        beginning: if env("OLD", 0) == 1 {
            facts::Beginning::Old
        } else {
            facts::Beginning::Young
        },
        has_recorder: env("REC", 1) == 1,
        failures: env("FAIL", 0),
        terms: env("TERMS", 1),
        may_lose: env("LOSE", 0) == 1,
        clock,
    };
    let checker = World::new(scope, None)
        .checker()
        .threads(2)
        .timeout(std::time::Duration::from_secs(env("SECS", 40).into()))
        .spawn_bfs()
        .join();
    println!(
        "{scope:?}: {} states, {} steps, depth {}, {:.1?} done {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed(),
        checker.is_done()
    );
    for (name, path) in checker.discoveries() {
        println!("{name}");
        if checker.model().property(name).expectation.discovery_is_failure() {
            println!("{name}: {:?}", path.into_actions());
        }
    }
}
