//! One look of the retention controller, a request at a time: what is declared and what the ledger has, the plan, the
//! ledger, place, release, sweep, report. Whatever it has read may be of the past when it is acted upon.

use toezicht::rules::hold::proof::may_release;

use super::broken::Rule;
use super::state::{
    Busy, Declared, Entry, Follow, Leader, Look, Pass, Placement, Plan, Request, Set, Stage, State, Step,
    each, one,
};
use super::world::World;

impl World {
    /// Takes the next step, and gives the request that it sends. `more`: after a pass that wrote, there is another; what
    /// is due is swept.
    pub fn step(&self, state: &mut State, leader: &mut Leader, more: bool) -> Option<Request> {
        let (busy, request) = match leader.look {
            Look::Idle => (self.begin(state, leader), None),
            Look::Busy(busy) => self.go_on(state, leader, busy, more),
        };
        leader.look = match busy.step {
            Step::Ledger(0) => Look::Busy(self.is_held(state, leader, busy).normalized()),
            Step::Done => Look::Idle,
            _ => Look::Busy(busy.normalized()),
        };
        self.forget(leader, state.clock);
        request
    }

    /// What is declared, then what the ledger has.
    fn begin(&self, state: &State, leader: &Leader) -> Busy {
        let plan = self.plan(state.declared(), state.ledger, state.clock);
        Busy {
            now: state.clock,
            plan: Plan { write: 0, ..plan },
            is_followed: self.is_broken(Rule::AckIsRequestedAgain) && self.is_of(leader.follow, plan.open),
            is_placed: false,
            released: 0,
            step: Step::Ledger(plan.write),
        }
    }

    fn go_on(&self, state: &mut State, leader: &Leader, busy: Busy, more: bool) -> (Busy, Option<Request>) {
        match busy.step {
            Step::Ledger(left) => first(busy, left, Entry::Open, Step::Ledger),
            Step::Place(pass) => self.place(state, leader, busy, pass),
            Step::Placed if more => (busy.to(Step::Place(Pass::new(state.clock))), None),
            Step::Placed => (self.after_place(state, leader, busy), None),
            Step::Release(pass) => self.release(state, busy, pass),
            Step::Released if more => (busy.to(Step::Release(Pass::new(state.clock))), None),
            Step::Released => (busy.to(Step::Sweep), None),
            Step::Close(0) => {
                let released = busy.plan.closing;
                (Busy { released, ..busy }.to(Step::Sweep), None)
            }
            Step::Close(left) => first(busy, left, Entry::Closed, Step::Close),
            Step::Sweep if more => (busy.to(Step::SweepDelete(self.due(state, busy))), None),
            Step::SweepDelete(versions) => (busy.to(Step::Report), Some(self.delete(state, versions))),
            Step::Sweep | Step::Report | Step::Done => {
                report(state, busy);
                (busy.to(Step::Done), None)
            }
        }
    }

    /// The ledger has all: resources get their finalizer, recorders are told, and what they follow is asked anew.
    fn is_held(&self, state: &mut State, leader: &mut Leader, mut busy: Busy) -> Busy {
        for hold in each(busy.plan.open) {
            let hold = &mut state.holds[hold];
            hold.has_counted |= matches!(hold.declared, Declared::Open | Declared::Resolved);
        }
        let is_changed = leader.held.replace(busy.plan.open) != Some(busy.plan.open);
        if !self.is_broken(Rule::AckIsRequestedAgain) {
            if is_changed {
                leader.follow = Follow::Unknown;
            }
            busy.is_followed = self.is_of(leader.follow, busy.plan.open);
        }
        if !self.scope.has_recorder {
            // Nobody is told.
            leader.held = None;
        }
        if busy.plan.open == 0 {
            self.after_place(state, leader, busy)
        } else {
            busy.to(Step::Place(Pass::new(state.clock)))
        }
    }

    pub fn after_place(&self, state: &State, leader: &Leader, busy: Busy) -> Busy {
        if busy.plan.closing == 0 {
            return busy.to(Step::Sweep);
        }
        let next = match may_release(
            self.release_from(leader.took_over),
            busy.is_followed,
            // The model's recorders are not silent for a day.
            self.now(busy.now),
            self.now(busy.now),
        ) {
            Ok(()) if self.is_broken(Rule::Listing) => Step::Close(busy.plan.closing),
            Ok(()) => Step::Release(Pass::new(state.clock)),
            Err(_) => Step::Sweep,
        };
        busy.to(next)
    }
}

impl Busy {
    pub fn to(self, step: Step) -> Self {
        Self { step, ..self }
    }

    /// What no later step asks for is all the same: fewer states.
    fn normalized(self) -> Self {
        match self.step {
            Step::Ledger(_) | Step::Place(_) | Step::Placed => self,
            Step::Release(_) | Step::Released | Step::Close(_) | Step::Sweep => {
                Self { is_followed: false, ..self }
            }
            Step::SweepDelete(_) | Step::Report | Step::Done => Self { is_followed: false, now: 0, ..self },
        }
    }
}

impl Pass {
    pub fn new(at: u8) -> Self {
        Self { at, version: 0, stage: Stage::Read, has_written: false, is_undecided: false }
    }
}

/// The first of these entries is written.
fn first(busy: Busy, left: Set, entry: Entry, next: fn(Set) -> Step) -> (Busy, Option<Request>) {
    let hold = each(left).next().unwrap_or_default();
    (busy.to(next(left & !one(hold))), Some(Request::Ledger(hold, entry)))
}

/// What came of it, in the statuses of those that have one.
fn report(state: &mut State, busy: Busy) {
    for (number, hold) in state.holds.iter_mut().enumerate() {
        let is_in = |set: Set| set & one(number) != 0;
        if matches!(hold.declared, Declared::NotYet | Declared::Lost) {
            continue;
        }
        hold.placement = if is_in(busy.plan.open) {
            let is_proved = busy.is_placed && hold.declared == Declared::Open;
            if is_proved { Placement::Proved } else { Placement::Placing }
        } else if is_in(busy.plan.closed | busy.released) {
            Placement::Released
        } else if is_in(busy.plan.closing) {
            Placement::Placing
        } else {
            hold.placement
        };
    }
}
