//! One reconcile of the retention controller, a request at a time: read holds and ledger, plan, write the ledger,
//! place, release, sweep, report. Anything it has read may be outdated when it acts on it.

use toezicht::rules::hold::proof::may_release;

use super::rules::Rule;
use super::state::{
    ActiveReconcile, Declared, Entry, Leader, Pass, Placement, Plan, ReconcileState, RecorderAck, Request,
    Set, Stage, State, Step, members, singleton,
};
use super::world::World;

impl World {
    /// Takes the next step and returns the request that it sends. `more` repeats a pass that wrote, or sweeps due
    /// versions.
    pub fn step(&self, state: &mut State, leader: &mut Leader, more: bool) -> Option<Request> {
        let (active, request) = match leader.reconcile {
            ReconcileState::Idle => (self.begin(state, leader), None),
            ReconcileState::Running(active) => self.advance(state, leader, active, more),
        };
        leader.reconcile = match active.step {
            Step::Ledger(0) => ReconcileState::Running(self.after_ledger(state, leader, active).normalized()),
            Step::Done => ReconcileState::Idle,
            _ => ReconcileState::Running(active.normalized()),
        };
        self.forget(leader, state.clock);
        request
    }

    /// Reads the declared holds, then the ledger.
    fn begin(&self, state: &State, leader: &Leader) -> ActiveReconcile {
        let plan = self.plan(state.declared(), state.ledger, state.clock);
        ActiveReconcile {
            now: state.clock,
            plan: Plan { write: 0, ..plan },
            is_followed: self.is_broken(Rule::AckIsRequestedAgain) && self.has_acknowledged(leader.ack, plan),
            is_placed: false,
            released: 0,
            step: Step::Ledger(plan.write),
        }
    }

    fn advance(
        &self,
        state: &mut State,
        leader: &Leader,
        active: ActiveReconcile,
        more: bool,
    ) -> (ActiveReconcile, Option<Request>) {
        match active.step {
            Step::Ledger(left) => write_first_entry(active, left, Entry::Open, Step::Ledger),
            Step::Place(pass) => self.place(state, leader, active, pass),
            Step::Placed if more => (active.to(Step::Place(Pass::new(state.clock))), None),
            Step::Placed => (self.after_place(state, leader, active), None),
            Step::Release(pass) => self.release(state, active, pass),
            Step::Released if more => (active.to(Step::Release(Pass::new(state.clock))), None),
            Step::Released => (active.to(Step::Sweep), None),
            Step::Close(0) => {
                let released = active.plan.closing;
                (ActiveReconcile { released, ..active }.to(Step::Sweep), None)
            }
            Step::Close(left) => write_first_entry(active, left, Entry::Closed, Step::Close),
            Step::Sweep if more => (active.to(Step::SweepDelete(self.due(state, active))), None),
            Step::SweepDelete(versions) => (active.to(Step::Report), Some(self.delete(state, versions))),
            Step::Sweep | Step::Report | Step::Done => {
                report(state, active);
                (active.to(Step::Done), None)
            }
        }
    }

    /// Sets finalizers, updates the recorders' configuration, and invalidates their acknowledgement if it changed.
    /// Runs once the ledger has all entries.
    fn after_ledger(
        &self,
        state: &mut State,
        leader: &mut Leader,
        mut active: ActiveReconcile,
    ) -> ActiveReconcile {
        for hold in members(active.plan.open) {
            let hold = &mut state.holds[hold];
            hold.has_finalizer |= matches!(hold.declared, Declared::Open | Declared::Resolved);
        }
        let is_changed = leader.held.replace(active.plan.open) != Some(active.plan.open);
        if !self.is_broken(Rule::AckIsRequestedAgain) {
            if is_changed {
                leader.ack = RecorderAck::Unknown;
            }
            active.is_followed = self.has_acknowledged(leader.ack, active.plan);
        }
        if !self.scope.has_recorder {
            // There is no recorder to configure.
            leader.held = None;
        }
        if active.plan.open == 0 {
            self.after_place(state, leader, active)
        } else {
            active.to(Step::Place(Pass::new(state.clock)))
        }
    }

    pub fn after_place(&self, state: &State, leader: &Leader, active: ActiveReconcile) -> ActiveReconcile {
        if active.plan.closing == 0 {
            return active.to(Step::Sweep);
        }
        let next = match may_release(
            self.release_from(leader.took_over_at),
            active.is_followed,
            // The model's recorders are never silent for a day.
            self.now(active.now),
            self.now(active.now),
        ) {
            Ok(()) if self.is_broken(Rule::Listing) => Step::Close(active.plan.closing),
            Ok(()) => Step::Release(Pass::new(state.clock)),
            Err(_) => Step::Sweep,
        };
        active.to(next)
    }
}

impl ActiveReconcile {
    pub fn to(self, step: Step) -> Self {
        Self { step, ..self }
    }

    /// Clears fields that no later step reads, to reduce the number of states.
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

/// Writes the first of these entries.
fn write_first_entry(
    active: ActiveReconcile,
    left: Set,
    entry: Entry,
    next: fn(Set) -> Step,
) -> (ActiveReconcile, Option<Request>) {
    let hold = members(left).next().unwrap_or_default();
    (active.to(next(left & !singleton(hold))), Some(Request::Ledger(hold, entry)))
}

/// Writes the outcome into the statuses of the holds.
fn report(state: &mut State, active: ActiveReconcile) {
    for (number, hold) in state.holds.iter_mut().enumerate() {
        let is_in = |set: Set| set & singleton(number) != 0;
        if matches!(hold.declared, Declared::NotYet | Declared::Lost) {
            continue;
        }
        hold.placement = if is_in(active.plan.open) {
            let is_proved = active.is_placed && hold.declared == Declared::Open;
            if is_proved { Placement::Proved } else { Placement::Placing }
        } else if is_in(active.plan.closed | active.released) {
            Placement::Released
        } else if is_in(active.plan.closing) {
            Placement::Placing
        } else {
            hold.placement
        };
    }
}
