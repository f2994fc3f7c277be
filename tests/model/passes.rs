//! The passes over the versions in single steps: place, release, sweep.

use toezicht::rules::hold::expiry::HeldBy;
use toezicht::rules::hold::proof::is_placed;
use toezicht::rules::hold::steps::{ProtectionStep, steps_to_place, steps_to_release};
use toezicht::rules::recording::key::Class;
use toezicht::rules::recording::protection::Protection;
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::recordings::hold::ReleaseReport;

use super::rules::Rule;
use super::state::{
    ActiveReconcile, Instant, Leader, N, Object, OpenHolds, Pass, Plan, Request, Set, Stage, State, Step,
    singleton,
};
use super::world::World;

type Next = (ActiveReconcile, Option<Request>);

impl World {
    pub fn place(&self, state: &State, leader: &Leader, active: ActiveReconcile, mut pass: Pass) -> Next {
        let request = match (pass.stage, state.object(pass.version)) {
            (Stage::Write { .. }, _) => pass.write(),
            (_, Some(object)) if self.covering(pass.version, object.uploaded_at) & active.plan.open != 0 => {
                let tag = self.held_tag(pass.version, object, active.plan.open, pass.at);
                let steps = tag.map_or(Vec::new(), |tag| {
                    steps_to_place(&protection(object), tag, object.hidden.is_some())
                });
                pass.writes(&self.write_order(steps), object.hidden, false);
                None
            }
            _ => {
                pass.next();
                None
            }
        };
        let next = match () {
            () if pass.version < N && request.is_none() && pass.stage == Stage::Read => {
                return self.place(state, leader, active, pass);
            }
            () if pass.version < N => active.to(Step::Place(pass)),
            () if pass.has_written => active.to(Step::Placed),
            () => {
                let is_placed = is_placed(0, false, active.is_followed);
                self.after_place(state, leader, ActiveReconcile { is_placed, ..active })
            }
        };
        (next, request)
    }

    fn write_order(&self, mut steps: Vec<ProtectionStep>) -> Vec<ProtectionStep> {
        if self.is_broken(Rule::HoldFirst) && steps.len() > 1 {
            steps.swap(0, 1);
        }
        steps
    }

    pub fn release(&self, state: &mut State, active: ActiveReconcile, mut pass: Pass) -> Next {
        let request = match (pass.stage, state.object(pass.version)) {
            (Stage::Write { .. }, _) => pass.write(),
            (Stage::Read, Some(object))
                if self.covering(pass.version, object.uploaded_at) & active.plan.closing != 0 =>
            {
                if let Some(by) = self.held_by(pass.version, object, self.open(state, active)) {
                    pass.is_undecided |=
                        by == HeldBy::Declared && !self.is_broken(Rule::ReleaseWaitsForLedger);
                    pass.next();
                } else {
                    let is_past_ceiling = self.is_due(pass.version, object, pass.at)
                        && !self.is_broken(Rule::ExpiredDeletedOnRelease);
                    let steps =
                        steps_to_release(&protection(object), RetentionTag::default_for(Class::Video));
                    pass.writes(&steps, None, is_past_ceiling);
                }
                None
            }
            (Stage::SecondRead, Some(object)) => {
                let is_read = !self.is_broken(Rule::ReadBeforeDelete);
                pass.has_written = true;
                if is_read && self.held_by(pass.version, object, self.open(state, active)).is_some() {
                    pass.next();
                } else {
                    pass.stage = Stage::Delete;
                }
                None
            }
            (Stage::Delete, Some(_)) => {
                let request = self.delete(state, singleton(pass.version));
                pass.next();
                Some(request)
            }
            _ => {
                pass.next();
                None
            }
        };
        let next = match () {
            () if pass.version < N && request.is_none() && pass.stage == Stage::Read => {
                return self.release(state, active, pass);
            }
            () if pass.version < N => Step::Release(pass),
            () if is_released(pass) => {
                self.check_release_claim(state, active.plan.closing, pass.at);
                Step::Close(active.plan.closing)
            }
            () => Step::Released,
        };
        (active.to(next), request)
    }

    /// Checks a verified release. The claim is false if a version that only this hold covered is still protected, or
    /// was past its ceiling at the start of the pass.
    pub fn check_release_claim(&self, state: &mut State, closing: Set, at: Instant) {
        let others = state.unreleased() & !closing;
        state.has_false_claim |= (0..N).any(|version| {
            state.object(version).is_some_and(|object| {
                let covering = self.covering(version, object.uploaded_at);
                let is_covered_only_by_closing = covering & closing != 0 && covering & others == 0;
                is_covered_only_by_closing
                    && (!object.is_left_to_lifecycle() || self.is_due(version, object, at))
            })
        });
    }

    /// Returns the versions past their ceiling that no open hold covers.
    pub fn due(&self, state: &State, active: ActiveReconcile) -> Set {
        let plan = Plan { closing: 0, ..active.plan };
        let open = self.open(state, ActiveReconcile { plan, ..active });
        let is_deletable = |version: &usize| {
            let object = state.object(*version);
            object.is_some_and(|object| {
                self.is_deletable(*version, object, open.ledger | open.declared, active.now)
            })
        };
        (0..N).filter(is_deletable).map(singleton).sum()
    }

    /// Reads the open holds again, without those being closed.
    fn open(&self, state: &State, active: ActiveReconcile) -> OpenHolds {
        if self.is_broken(Rule::SecondRead) {
            return OpenHolds { ledger: active.plan.open, declared: active.plan.open };
        }
        self.read_open(state.declared(), state.ledger, active.plan.closing, state.clock)
    }

    pub fn delete(&self, state: &State, versions: Set) -> Request {
        Request::Delete { versions, unlawful: self.unlawful(state, versions) }
    }
}

impl Pass {
    /// Advances to the next version, or ends the pass.
    fn next(&mut self) {
        self.version += 1;
        self.stage = Stage::Read;
    }

    /// Advances to the writes to this version, to its deletion, or to the next version.
    fn writes(&mut self, steps: &[ProtectionStep], hidden: Option<Instant>, is_past_ceiling: bool) {
        let mut left = [None; 3];
        left.iter_mut().zip(steps).for_each(|(left, write)| *left = Some(*write));
        match (steps.is_empty(), is_past_ceiling) {
            (false, _) => {
                self.stage = Stage::Write { steps: left, hidden, is_past_ceiling };
            }
            (true, true) => self.stage = Stage::SecondRead,
            (true, false) => self.next(),
        }
    }

    /// Sends the next write.
    fn write(&mut self) -> Option<Request> {
        let Stage::Write { steps, hidden, is_past_ceiling } = self.stage else {
            return None;
        };
        self.has_written = true;
        let [first, rest @ ..] = steps;
        let request = match (first?, hidden) {
            (ProtectionStep::Unhide, Some(since)) => Request::Unhide(self.version, since),
            (write, _) => Request::SetProtection(self.version, write),
        };
        let rest: Vec<ProtectionStep> = rest.into_iter().flatten().collect();
        self.writes(&rest, hidden, is_past_ceiling);
        Some(request)
    }
}

fn is_released(pass: Pass) -> bool {
    let released = ReleaseReport {
        // Writes of later passes count too, though the code then does not wait for another pass. The simulation
        // covers that.
        changed: pass.has_written.then(String::new).into_iter().collect(),
        waiting_for_ledger: pass.is_undecided.then(String::new).into_iter().collect(),
        ..ReleaseReport::default()
    };
    released.is_verified()
}

fn protection(object: Object) -> Protection {
    Protection { legal_hold: object.legal_hold, tag: Some(object.tag) }
}
