//! The store: what requests do to it, and what it does by itself. Here is seen whether a held version is lost.

use toezicht::rules::hold::steps::ProtectionStep;
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

use super::broken::Rule;
use super::facts::SAME_DAY;
use super::state::{Instant, Late, Object, Placement, Request, Set, State, Version, each, one};
use super::world::World;

impl World {
    /// A request arrives.
    pub fn arrives(&self, state: &mut State, request: Request) {
        match request {
            Request::Ledger(hold, entry) => state.ledger[hold] = entry,
            Request::Mark(version, write) => {
                if let Version::Stored(object) = &mut state.versions[version] {
                    mark(object, write);
                }
            }
            Request::Unhide(version, since) => {
                if let Version::Stored(object) = &mut state.versions[version] {
                    object.hidden = object.hidden.filter(|hidden| *hidden != since);
                }
            }
            Request::Delete { versions, unlawful } => {
                for version in each(versions) {
                    if let Some(object) = state.object(version)
                        && !object.legal_hold
                    {
                        let is_unlawful = each(unlawful).any(|n| n == version);
                        self.delete_bytes(state, version, object, is_unlawful);
                    }
                }
            }
        }
    }

    /// The bytes of a version go: was it lost to an open hold? It was if that was declared before the request was sent, if
    /// it had been proved, or if the version could be read as what is held.
    fn delete_bytes(&self, state: &mut State, version: usize, object: Object, is_unlawful: bool) {
        let open = self.covering(version, object.taken) & state.open();
        let is_proved = each(open).any(|hold| state.holds[hold].placement == Placement::Proved);
        let is_readable = open != 0 && object.tag == RetentionTag::Held;
        state.is_lost |= is_unlawful || is_proved || is_readable;
        state.versions[version] = Version::Gone;
    }

    /// Those of `versions` that a hold covers which was declared before now.
    pub fn unlawful(&self, state: &State, versions: Set) -> Set {
        let settled = each(state.open()).filter(|hold| state.holds[*hold].is_settled);
        let settled: Set = settled.map(one).sum();
        let is_kept = |version: &usize| {
            let object = state.object(*version);
            object.is_some_and(|object| self.covering(*version, object.taken) & settled != 0)
        };
        each(versions).filter(is_kept).map(one).sum()
    }

    /// Whether a request of a leader that was stopped may still arrive.
    pub fn may_arrive(&self, late: Late, state: &State) -> bool {
        let latest = self.now(late.signed) + SIGNATURE_VALIDITY;
        self.is_broken(Rule::Deadline) || self.now(state.clock) < latest
    }

    /// A request of a leader that was stopped arrives.
    pub fn deliver_late_request(&self, state: &mut State, number: usize) {
        if let Some(late) = state.late[number].take() {
            let takes_marks = [ProtectionStep::LegalHold(false), ProtectionStep::Tag(RetentionTag::Video)];
            if let Request::Mark(_, write) = late.request {
                state.is_disturbed |= takes_marks.contains(&write);
            }
            self.arrives(state, late.request);
        }
    }

    /// Whether lifecycle may take its next step with a version.
    pub fn is_lifecycle_enabled(&self, state: &State, version: usize) -> bool {
        let object = state.object(version);
        object.is_some_and(|object| {
            is_subject_to_lifecycle(object) && self.is_lifecycle_due(object, state.clock)
        })
    }

    /// Lifecycle takes it.
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

    /// Lifecycle takes the steps that it must have taken by `next`, each when it may first.
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

/// Lifecycle goes by the tag, and a legal hold keeps the bytes.
fn is_subject_to_lifecycle(object: Object) -> bool {
    let is_kept = object.legal_hold && object.hidden.is_some();
    object.tag == RetentionTag::Video && !is_kept
}

fn mark(object: &mut Object, write: ProtectionStep) {
    match write {
        ProtectionStep::LegalHold(is_on) => object.legal_hold = is_on,
        ProtectionStep::Tag(tag) => object.tag = tag,
        ProtectionStep::Unhide => {}
    }
}
