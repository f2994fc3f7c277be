//! The passes over the versions, each page and each version of it in its steps: place, release, sweep.

use toezicht::rules::hold::expiry::HeldBy;
use toezicht::rules::hold::proof::is_placed;
use toezicht::rules::hold::steps::{ProtectionStep, steps_to_place, steps_to_release};
use toezicht::rules::recording::key::Class;
use toezicht::rules::recording::protection::Protection;
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::recordings::hold::ReleaseReport;

use super::broken::Rule;
use super::state::{
    Busy, Instant, Leader, N, Object, OpenHolds, Pass, Plan, Request, Set, Stage, State, Step, one,
};
use super::world::World;

type Next = (Busy, Option<Request>);

impl World {
    pub fn place(&self, state: &State, leader: &Leader, busy: Busy, mut pass: Pass) -> Next {
        let request = match (pass.stage, state.object(pass.version)) {
            (Stage::Write { .. }, _) => pass.write(),
            (_, Some(object)) if self.covering(pass.version, object.taken) & busy.plan.open != 0 => {
                let tag = self.held_tag(pass.version, object, busy.plan.open, pass.at);
                let todo = tag
                    .map_or(Vec::new(), |tag| steps_to_place(&marks(object), tag, object.hidden.is_some()));
                pass.writes(&self.write_order(todo), object.hidden, false);
                None
            }
            _ => {
                pass.next();
                None
            }
        };
        let next = match () {
            () if pass.version < N && request.is_none() && pass.stage == Stage::Read => {
                return self.place(state, leader, busy, pass);
            }
            () if pass.version < N => busy.to(Step::Place(pass)),
            () if pass.has_written => busy.to(Step::Placed),
            () => {
                let is_placed = is_placed(0, false, busy.is_followed);
                self.after_place(state, leader, Busy { is_placed, ..busy })
            }
        };
        (next, request)
    }

    fn write_order(&self, mut todo: Vec<ProtectionStep>) -> Vec<ProtectionStep> {
        if self.is_broken(Rule::HoldFirst) && todo.len() > 1 {
            todo.swap(0, 1);
        }
        todo
    }

    pub fn release(&self, state: &mut State, busy: Busy, mut pass: Pass) -> Next {
        let request = match (pass.stage, state.object(pass.version)) {
            (Stage::Write { .. }, _) => pass.write(),
            (Stage::Read, Some(object))
                if self.covering(pass.version, object.taken) & busy.plan.closing != 0 =>
            {
                if let Some(by) = self.kept_by(pass.version, object, self.open(state, busy)) {
                    pass.is_undecided |=
                        by == HeldBy::Declared && !self.is_broken(Rule::ReleaseWaitsForLedger);
                    pass.next();
                } else {
                    let is_over = self.is_due(pass.version, object, pass.at)
                        && !self.is_broken(Rule::ExpiredDeletedOnRelease);
                    let todo = steps_to_release(&marks(object), RetentionTag::default_for(Class::Video));
                    pass.writes(&todo, None, is_over);
                }
                None
            }
            (Stage::SecondRead, Some(object)) => {
                let is_read = !self.is_broken(Rule::ReadBeforeDelete);
                pass.has_written = true;
                if is_read && self.kept_by(pass.version, object, self.open(state, busy)).is_some() {
                    pass.next();
                } else {
                    pass.stage = Stage::Delete;
                }
                None
            }
            (Stage::Delete, Some(_)) => {
                let request = self.delete(state, one(pass.version));
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
                return self.release(state, busy, pass);
            }
            () if pass.version < N => Step::Release(pass),
            () if is_released(pass) => {
                self.check_release_claim(state, busy.plan.closing, pass.at);
                Step::Close(busy.plan.closing)
            }
            () => Step::Released,
        };
        (busy.to(next), request)
    }

    /// When a release is proved, what was covered and is kept for nobody else has no mark left; what was over its ceiling
    /// when the pass began is gone.
    pub fn check_release_claim(&self, state: &mut State, closing: Set, at: Instant) {
        let others = state.unreleased() & !closing;
        state.has_lied |= (0..N).any(|version| {
            state.object(version).is_some_and(|object| {
                let covering = self.covering(version, object.taken);
                let is_theirs = covering & closing != 0 && covering & others == 0;
                is_theirs && (!object.is_left_to_lifecycle() || self.is_due(version, object, at))
            })
        });
    }

    /// What is over its ceiling, and no hold covers: the open holds are read for it.
    pub fn due(&self, state: &State, busy: Busy) -> Set {
        let plan = Plan { closing: 0, ..busy.plan };
        let open = self.open(state, Busy { plan, ..busy });
        let goes = |version: &usize| {
            let object = state.object(*version);
            object.is_some_and(|object| self.goes(*version, object, open.ledger | open.declared, busy.now))
        };
        (0..N).filter(goes).map(one).sum()
    }

    /// What is held for others, read anew.
    fn open(&self, state: &State, busy: Busy) -> OpenHolds {
        if self.is_broken(Rule::SecondRead) {
            return OpenHolds { ledger: busy.plan.open, declared: busy.plan.open };
        }
        self.read_open(state.declared(), state.ledger, busy.plan.closing, state.clock)
    }

    pub fn delete(&self, state: &State, versions: Set) -> Request {
        Request::Delete { versions, unlawful: self.unlawful(state, versions) }
    }
}

impl Pass {
    /// On to the next version, or the pass is over.
    fn next(&mut self) {
        self.version += 1;
        self.stage = Stage::Read;
    }

    /// On to what is to be written to this version, to its deletion, or to the next.
    fn writes(&mut self, todo: &[ProtectionStep], hidden: Option<Instant>, is_over: bool) {
        let mut left = [None; 3];
        left.iter_mut().zip(todo).for_each(|(left, write)| *left = Some(*write));
        match (todo.is_empty(), is_over) {
            (false, _) => {
                self.stage = Stage::Write { todo: left, hidden, is_over };
            }
            (true, true) => self.stage = Stage::SecondRead,
            (true, false) => self.next(),
        }
    }

    /// Sends the next of what is to be written.
    fn write(&mut self) -> Option<Request> {
        let Stage::Write { todo, hidden, is_over } = self.stage else {
            return None;
        };
        self.has_written = true;
        let [first, rest @ ..] = todo;
        let request = match (first?, hidden) {
            (ProtectionStep::Unhide, Some(since)) => Request::Unhide(self.version, since),
            (write, _) => Request::Mark(self.version, write),
        };
        let rest: Vec<ProtectionStep> = rest.into_iter().flatten().collect();
        self.writes(&rest, hidden, is_over);
        Some(request)
    }
}

fn is_released(pass: Pass) -> bool {
    let released = ReleaseReport {
        // What came after the first pass, too, though the code does not wait for another then: the simulation has that.
        changed: pass.has_written.then(String::new).into_iter().collect(),
        waiting_for_ledger: pass.is_undecided.then(String::new).into_iter().collect(),
        ..ReleaseReport::default()
    };
    released.is_verified()
}

fn marks(object: Object) -> Protection {
    Protection { legal_hold: object.legal_hold, tag: Some(object.tag) }
}
