//! Each rule is broken in turn, and a promise with it. Were it not so, either nobody needs the rule, or the model cannot
//! see what it is for.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::promises::{EXPLAINED, GONE, NOT_LOST, NOT_SEEN, PLACED, RELEASED};
use super::scope::{Scope, TAKEOVER, UPLOADS};
use super::world::World;

/// A rule that a mistake could break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Before anything is deleted, the open holds are read a second time.
    SecondRead,
    /// So they are once more after marks were taken off, before the bytes go.
    ReadBeforeDelete,
    /// What the ledger has open is open.
    LedgerCounts,
    /// A recorder acknowledges a hold when no upload is under way that began before.
    UploadsAcknowledged,
    /// So it does after it was started anew.
    SpoolRemembered,
    /// What recorders followed before counts no more once something else is held.
    FollowIsAskedAnew,
    /// The legal hold first, then the tag.
    HoldFirst,
    /// A request of a leader that was stopped lands within the time that its signature is valid, or never.
    Deadline,
    /// A new leader releases nothing until then.
    ReleaseFrom,
    /// A leader lets go when nothing is under way any more.
    LetGoWhenDone,
    /// Nor is anything of a leader from which it took over.
    LetGoForAllBefore,
    /// A leader that was stopped and goes on writes nothing.
    Fence,
    /// Released is said after a pass that found nothing left.
    Listing,
    /// A release that leaves something to another hold waits until the ledger has that.
    KeptByLedger,
    /// An entry that is closed, of a hold that is open, is opened again.
    Reopened,
    /// What is over its ceiling is deleted when it is released.
    GoesWhenReleased,
    /// What may not be seen yet is sealed.
    Sealed,
}

/// Without `rule`, `promise` is broken: in the shortest way that there is, which is printed.
fn breaks(rule: Rule, scope: Scope, promise: &'static str) {
    let began = Instant::now();
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let model = World::new(scope, Some(rule));
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    let path = checker.discovery(promise);
    let path = path.unwrap_or_else(|| panic!("{rule:?} can be broken, and nobody notices"));
    let (states, took) = (checker.unique_state_count(), began.elapsed());
    let actions = path.into_actions();
    println!("without {rule:?}, not {promise:?}: {} steps, {states} states, {took:.1?}", actions.len());
    for action in actions {
        println!("    {action:?}");
    }
}

#[test]
fn without_a_second_read() {
    breaks(Rule::SecondRead, TAKEOVER, NOT_LOST);
}

#[test]
fn without_a_read_before_the_bytes_go() {
    breaks(Rule::ReadBeforeDelete, TAKEOVER, NOT_LOST);
}

#[test]
fn without_the_ledger_among_the_open_holds() {
    breaks(Rule::LedgerCounts, TAKEOVER, NOT_LOST);
}

#[test]
fn with_the_tag_before_the_hold() {
    breaks(Rule::HoldFirst, TAKEOVER, NOT_LOST);
}

#[test]
fn without_an_acknowledgement_of_uploads_under_way() {
    breaks(Rule::UploadsAcknowledged, UPLOADS, PLACED);
}

#[test]
fn without_a_recorder_that_remembers_its_spool() {
    breaks(Rule::SpoolRemembered, UPLOADS, PLACED);
}

#[test]
fn with_a_leader_that_goes_on_after_it_was_stopped() {
    breaks(Rule::Fence, TAKEOVER, PLACED);
}

#[test]
fn without_asking_anew_what_recorders_follow() {
    breaks(Rule::FollowIsAskedAnew, UPLOADS, RELEASED);
}

#[test]
fn without_a_deadline_of_requests() {
    breaks(Rule::Deadline, TAKEOVER, RELEASED);
}

#[test]
fn without_waiting_for_the_requests_of_the_leader_before() {
    breaks(Rule::ReleaseFrom, TAKEOVER, RELEASED);
}

#[test]
fn with_a_leader_that_lets_go_too_early() {
    breaks(Rule::LetGoWhenDone, TAKEOVER, RELEASED);
}

#[test]
fn with_a_leader_that_lets_go_while_requests_of_the_one_before_may_land() {
    breaks(Rule::LetGoForAllBefore, TAKEOVER, RELEASED);
}

#[test]
fn with_a_release_that_is_claimed_without_a_listing() {
    breaks(Rule::Listing, TAKEOVER, RELEASED);
}

#[test]
fn without_opening_the_entry_of_a_hold_that_is_open_again() {
    breaks(Rule::Reopened, TAKEOVER, RELEASED);
}

#[test]
fn with_something_left_to_a_hold_that_the_ledger_does_not_have() {
    breaks(Rule::KeptByLedger, TAKEOVER, EXPLAINED);
}

#[test]
fn with_a_release_that_leaves_what_is_over_its_ceiling() {
    breaks(Rule::GoesWhenReleased, TAKEOVER, GONE);
}

#[test]
fn with_something_that_can_be_seen_too_early() {
    breaks(Rule::Sealed, TAKEOVER, NOT_SEEN);
}
