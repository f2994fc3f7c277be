//! The store: effects of requests and of its lifecycle. A deletion here decides whether a held version is lost.

use toezicht::rules::hold::steps::ProtectionStep;
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

use super::rules::Rule;
use super::state::{
    Instant, LateRequest, Object, Placement, Request, Set, State, Version, members, singleton,
};
use super::values::SAME_DAY;
use super::world::World;

impl World {
    /// Applies a request that arrives.
    pub fn apply_request(&self, state: &mut State, request: Request) {
        match request {
            Request::Ledger(hold, entry) => state.ledger[hold] = entry,
            Request::SetProtection(version, write) => {
                if let Version::Stored(object) = &mut state.versions[version] {
                    set_protection(object, write);
                }
            }
            Request::Unhide(version, since) => {
                if let Version::Stored(object) = &mut state.versions[version] {
                    object.hidden = object.hidden.filter(|hidden| *hidden != since);
                }
            }
            Request::Delete { versions, unlawful } => {
                for version in members(versions) {
                    if let Some(object) = state.object(version)
                        && !object.legal_hold
                    {
                        let is_unlawful = members(unlawful).any(|n| n == version);
                        self.delete_bytes(state, version, object, is_unlawful);
                    }
                }
            }
        }
    }

    /// Deletes the bytes of a version. A version under an open hold is lost if the hold was declared before the
    /// request was sent, if its placement was verified, or if the version was readable as held.
    fn delete_bytes(&self, state: &mut State, version: usize, object: Object, is_unlawful: bool) {
        let open = self.covering(version, object.uploaded_at) & state.open();
        let is_proved = members(open).any(|hold| state.holds[hold].placement == Placement::Proved);
        let is_readable = open != 0 && object.tag == RetentionTag::Held;
        state.is_lost |= is_unlawful || is_proved || is_readable;
        state.versions[version] = Version::Deleted;
    }

    /// Returns those of `versions` that a hold declared before now covers.
    pub fn unlawful(&self, state: &State, versions: Set) -> Set {
        let settled = members(state.open()).filter(|hold| state.holds[*hold].is_settled);
        let settled: Set = settled.map(singleton).sum();
        let is_held = |version: &usize| {
            let object = state.object(*version);
            object.is_some_and(|object| self.covering(*version, object.uploaded_at) & settled != 0)
        };
        members(versions).filter(is_held).map(singleton).sum()
    }

    /// Returns whether a late request of a stopped leader may still arrive.
    pub fn may_arrive(&self, late: LateRequest, state: &State) -> bool {
        let latest = self.now(late.signed) + SIGNATURE_VALIDITY;
        self.is_broken(Rule::Deadline) || self.now(state.clock) < latest
    }

    /// Applies a late request of a stopped leader.
    pub fn deliver_late_request(&self, state: &mut State, number: usize) {
        if let Some(late) = state.late[number].take() {
            let clears_protection =
                [ProtectionStep::LegalHold(false), ProtectionStep::Tag(RetentionTag::Video)];
            if let Request::SetProtection(_, write) = late.request {
                state.is_disturbed |= clears_protection.contains(&write);
            }
            self.apply_request(state, late.request);
        }
    }

    /// Returns whether the lifecycle may take its next step with a version.
    pub fn is_lifecycle_enabled(&self, state: &State, version: usize) -> bool {
        let object = state.object(version);
        object.is_some_and(|object| {
            is_subject_to_lifecycle(object) && self.is_lifecycle_due(object, state.clock)
        })
    }

    /// Runs the lifecycle's next step on a version.
    pub fn lifecycle(&self, state: &mut State, version: usize, now: Instant) {
        if let Some(object) = state.object(version) {
            if object.hidden.is_some() {
                self.delete_bytes(state, version, object, false);
            } else {
                let hidden = Some(now.max(SAME_DAY));
                state.versions[version] = Version::Stored(Object { hidden, ..object });
            }
        }
    }

    /// Runs the lifecycle steps that are overdue at `next`, each at its earliest time.
    pub fn run_overdue_lifecycle(&self, state: &mut State, version: usize, next: Instant) {
        while let Some(object) = state.object(version)
            && is_subject_to_lifecycle(object)
            && self.is_lifecycle_overdue(object, state.clock, next)
        {
            let is_due = self.is_lifecycle_due(object, state.clock);
            self.lifecycle(state, version, if is_due { state.clock } else { next });
        }
    }
}

/// Returns whether the lifecycle applies to a version: its rules match by tag, and a legal hold prevents the deletion
/// of bytes.
fn is_subject_to_lifecycle(object: Object) -> bool {
    let is_held = object.legal_hold && object.hidden.is_some();
    object.tag == RetentionTag::Video && !is_held
}

fn set_protection(object: &mut Object, write: ProtectionStep) {
    match write {
        ProtectionStep::LegalHold(is_on) => object.legal_hold = is_on,
        ProtectionStep::Tag(tag) => object.tag = tag,
        ProtectionStep::Unhide => {}
    }
}
