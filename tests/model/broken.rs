//! Each rule is broken in turn, and a promise with it. Were it not so, either nobody needs the rule, or the model cannot
//! see what it is for.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::facts::Beginning::{self, Old, Young};
use super::promises::{EXPLAINED, NOT_LOST, PLACED, RELEASED};
use super::world::{Rule, World};

/// Without `rule`, `promise` is broken: in the shortest way that there is, which is printed.
fn breaks(rule: Rule, beginning: Beginning, promise: &'static str) {
    let began = Instant::now();
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let model = World::new(unimplemented!("{beginning:?}"), Some(rule));
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    let path = checker.discovery(promise);
    let path = path.unwrap_or_else(|| panic!("{rule:?} can be broken, and nobody notices"));
    let (states, took) = (checker.unique_state_count(), began.elapsed());
    let actions = path.into_actions();
    println!("without {rule:?}, not {promise:?}: {} steps, {states} states, {took:.1?}", actions.len());
    actions.iter().for_each(|action| println!("    {action:?}"));
}

#[test]
fn without_a_second_read() {
    breaks(Rule::SecondRead, Old, NOT_LOST);
}

#[test]
fn without_a_read_before_the_bytes_go() {
    breaks(Rule::ReadBeforeDelete, Old, NOT_LOST);
}

#[test]
fn without_the_ledger_among_the_open_holds() {
    breaks(Rule::LedgerCounts, Old, NOT_LOST);
}

#[test]
fn without_an_acknowledgement_of_uploads_under_way() {
    breaks(Rule::UploadsAcknowledged, Young, PLACED);
}

#[test]
fn without_a_recorder_that_remembers_its_spool() {
    breaks(Rule::SpoolRemembered, Young, PLACED);
}

#[test]
fn without_asking_anew_what_recorders_follow() {
    breaks(Rule::FollowIsAskedAnew, Young, RELEASED);
}

#[test]
fn with_the_tag_before_the_hold() {
    breaks(Rule::HoldFirst, Old, NOT_LOST);
}

#[test]
fn without_a_deadline_of_requests() {
    breaks(Rule::Deadline, Young, RELEASED);
}

#[test]
fn without_waiting_for_the_requests_of_the_leader_before() {
    breaks(Rule::ReleaseFrom, Young, RELEASED);
}

#[test]
fn with_a_leader_that_lets_go_too_early() {
    breaks(Rule::LetGoWhenDone, Young, RELEASED);
}

#[test]
fn with_a_leader_that_goes_on_after_it_was_stopped() {
    breaks(Rule::Fence, Old, PLACED);
}

#[test]
fn with_a_release_that_is_claimed_without_a_listing() {
    breaks(Rule::Listing, Old, RELEASED);
}

#[test]
fn with_something_left_to_a_hold_that_the_ledger_does_not_have() {
    breaks(Rule::KeptByLedger, Old, EXPLAINED);
}

#[test]
fn with_a_release_that_is_claimed_since_nobody_wrote_of_the_hold() {
    breaks(Rule::FinalizerCounts, Young, RELEASED);
}
