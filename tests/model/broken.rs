//! Each rule is broken in turn, and a promise with it. Were it not so, either nobody needs the rule, or the model cannot
//! see what it is for.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::promises::{
    EMBARGO_IS_KEPT, EVERY_PROTECTION_IS_EXPLAINED, GONE, NO_HELD_VERSION_IS_LOST, PLACED_IS_TRUE,
    RELEASED_IS_TRUE,
};
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
    AckIsRequestedAgain,
    /// The legal hold first, then the tag.
    HoldFirst,
    /// A request of a leader that was stopped lands within the time that its signature is valid, or never.
    Deadline,
    /// A new leader releases nothing until then.
    ReleaseDelay,
    /// A leader lets go when nothing is under way any more.
    LeaseReleasedWhenIdle,
    /// Nor is anything of a leader from which it took over.
    LeaseReleasedAfterPredecessor,
    /// A leader that was stopped and goes on writes nothing.
    Fence,
    /// Released is said after a pass that found nothing left.
    Listing,
    /// A release that leaves something to another hold waits until the ledger has that.
    ReleaseWaitsForLedger,
    /// An entry that is closed, of a hold that is open, is opened again.
    Reopened,
    /// What is over its ceiling is deleted when it is released.
    ExpiredDeletedOnRelease,
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
fn losing_second_read_loses_held_version() {
    breaks(Rule::SecondRead, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn losing_read_before_delete_loses_held_version() {
    breaks(Rule::ReadBeforeDelete, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn ignoring_ledger_loses_held_version() {
    breaks(Rule::LedgerCounts, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn tagging_before_legal_hold_loses_held_version() {
    breaks(Rule::HoldFirst, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn ignoring_pending_uploads_falsifies_placed() {
    breaks(Rule::UploadsAcknowledged, UPLOADS, PLACED_IS_TRUE);
}

#[test]
fn forgetting_spool_falsifies_placed() {
    breaks(Rule::SpoolRemembered, UPLOADS, PLACED_IS_TRUE);
}

#[test]
fn unfenced_leader_falsifies_placed() {
    breaks(Rule::Fence, TAKEOVER, PLACED_IS_TRUE);
}

#[test]
fn stale_acknowledgement_falsifies_released() {
    breaks(Rule::AckIsRequestedAgain, UPLOADS, RELEASED_IS_TRUE);
}

#[test]
fn unlimited_request_lifetime_falsifies_released() {
    breaks(Rule::Deadline, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn releasing_at_once_after_takeover_falsifies_released() {
    breaks(Rule::ReleaseDelay, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn releasing_lease_while_busy_falsifies_released() {
    breaks(Rule::LeaseReleasedWhenIdle, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn releasing_lease_before_predecessor_ends_falsifies_released() {
    breaks(Rule::LeaseReleasedAfterPredecessor, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn skipping_final_listing_falsifies_released() {
    breaks(Rule::Listing, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn keeping_entry_closed_falsifies_released() {
    breaks(Rule::Reopened, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn keeping_for_unrecorded_hold_leaves_unexplained_protection() {
    breaks(Rule::ReleaseWaitsForLedger, TAKEOVER, EVERY_PROTECTION_IS_EXPLAINED);
}

#[test]
fn release_without_deletion_keeps_expired_version() {
    breaks(Rule::ExpiredDeletedOnRelease, TAKEOVER, GONE);
}

#[test]
fn skipping_seal_breaks_embargo() {
    breaks(Rule::Sealed, TAKEOVER, EMBARGO_IS_KEPT);
}
