//! Breaks each rule in turn and checks that a property fails. Otherwise the rule would be unnecessary, or the model
//! would not cover it.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::properties::{
    EMBARGO_IS_KEPT, EVERY_PROTECTION_IS_EXPLAINED, EXPIRED_IS_DELETED, NO_HELD_VERSION_IS_LOST,
    PLACED_IS_TRUE, RELEASED_IS_TRUE,
};
use super::scope::{Scope, TAKEOVER, UPLOADS};
use super::world::World;

/// A rule that a mistake could break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The open holds are read a second time before a deletion.
    SecondRead,
    /// They are read again after a protection was cleared, before the bytes are deleted.
    ReadBeforeDelete,
    /// Holds that are open in the ledger are open.
    LedgerCounts,
    /// A recorder acknowledges a hold once no upload that began before is pending.
    UploadsAcknowledged,
    /// The same applies after a restart.
    SpoolRemembered,
    /// An acknowledgement becomes invalid once the open holds change.
    AckIsRequestedAgain,
    /// The legal hold is set before the tag.
    HoldFirst,
    /// A request of a stopped leader arrives while its signature is valid, or never.
    Deadline,
    /// A new leader releases nothing until those signatures have expired.
    ReleaseDelay,
    /// A leader releases its lease only when no request is pending.
    LeaseReleasedWhenIdle,
    /// A leader releases its lease only when no request of its predecessor can arrive.
    LeaseReleasedAfterPredecessor,
    /// A stopped leader that continues writes nothing.
    Fence,
    /// `Released` is claimed only after a pass that found nothing left.
    Listing,
    /// A release that leaves a version to another hold waits until that hold is in the ledger.
    ReleaseWaitsForLedger,
    /// A closed entry of an open hold is opened again.
    Reopened,
    /// A version past its ceiling is deleted when it is released.
    ExpiredDeletedOnRelease,
    /// A version under embargo is sealed.
    Sealed,
}

/// Checks that breaking `rule` breaks `property`, and prints the shortest path to it.
fn assert_breaks(rule: Rule, scope: Scope, property: &'static str) {
    let began = Instant::now();
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let model = World::new(scope, Some(rule));
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("breaking {rule:?} breaks no property"));
    let (states, took) = (checker.unique_state_count(), began.elapsed());
    let actions = path.into_actions();
    println!("without {rule:?}, not {property:?}: {} steps, {states} states, {took:.1?}", actions.len());
    for action in actions {
        println!("    {action:?}");
    }
}

#[test]
fn losing_second_read_loses_held_version() {
    assert_breaks(Rule::SecondRead, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn losing_read_before_delete_loses_held_version() {
    assert_breaks(Rule::ReadBeforeDelete, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn ignoring_ledger_loses_held_version() {
    assert_breaks(Rule::LedgerCounts, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn tagging_before_legal_hold_loses_held_version() {
    assert_breaks(Rule::HoldFirst, TAKEOVER, NO_HELD_VERSION_IS_LOST);
}

#[test]
fn ignoring_pending_uploads_falsifies_placed() {
    assert_breaks(Rule::UploadsAcknowledged, UPLOADS, PLACED_IS_TRUE);
}

#[test]
fn forgetting_spool_falsifies_placed() {
    assert_breaks(Rule::SpoolRemembered, UPLOADS, PLACED_IS_TRUE);
}

#[test]
fn unfenced_leader_falsifies_placed() {
    assert_breaks(Rule::Fence, TAKEOVER, PLACED_IS_TRUE);
}

#[test]
fn stale_acknowledgement_falsifies_released() {
    assert_breaks(Rule::AckIsRequestedAgain, UPLOADS, RELEASED_IS_TRUE);
}

#[test]
fn unlimited_request_lifetime_falsifies_released() {
    assert_breaks(Rule::Deadline, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn releasing_at_once_after_takeover_falsifies_released() {
    assert_breaks(Rule::ReleaseDelay, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn releasing_lease_while_busy_falsifies_released() {
    assert_breaks(Rule::LeaseReleasedWhenIdle, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn releasing_lease_before_predecessor_ends_falsifies_released() {
    assert_breaks(Rule::LeaseReleasedAfterPredecessor, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn skipping_final_listing_falsifies_released() {
    assert_breaks(Rule::Listing, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn keeping_entry_closed_falsifies_released() {
    assert_breaks(Rule::Reopened, TAKEOVER, RELEASED_IS_TRUE);
}

#[test]
fn keeping_for_unrecorded_hold_leaves_unexplained_protection() {
    assert_breaks(Rule::ReleaseWaitsForLedger, TAKEOVER, EVERY_PROTECTION_IS_EXPLAINED);
}

#[test]
fn release_without_deletion_keeps_expired_version() {
    assert_breaks(Rule::ExpiredDeletedOnRelease, TAKEOVER, EXPIRED_IS_DELETED);
}

#[test]
fn skipping_seal_breaks_embargo() {
    assert_breaks(Rule::Sealed, TAKEOVER, EMBARGO_IS_KEPT);
}
