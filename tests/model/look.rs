//! One look of the retention controller, a request at a time: what is declared, the ledger, the plan, place, release, sweep,
//! report. Whatever it has read may be of the past when it is acted upon.

use toezicht::rules::may_release;

use super::state::{Follow, Leader, Look, Pass, Placement, Plan, Request, Stage, State, Step, each, one};
use super::state::{Declared, Entry};
use super::world::{Rule, World};

/// A look under way.
#[derive(Clone, Copy)]
pub struct Busy {
    pub now: u8,
    pub plan: Plan,
    pub follow: Follow,
    pub is_placed: bool,
    pub released: u8,
}

impl Busy {
    pub fn at(self, step: Step) -> Look {
        let Self {
            now,
            plan,
            follow,
            is_placed,
            released,
        } = self;
        Look::Busy {
            now,
            plan,
            follow,
            is_placed,
            released,
            step,
        }
    }
}

impl World {
    /// Takes the next step, and gives the request that it sends. `again`: after a pass that wrote, there is another.
    pub fn step(&self, state: &mut State, leader: &mut Leader, again: bool) -> Option<Request> {
        match leader.look {
            Look::Idle => {
                leader.look = Look::Declared {
                    holds: state.declared(),
                    now: state.clock,
                    follow: if self.is_broken(Rule::FollowIsAskedAnew) {
                        leader.follow
                    } else {
                        Follow::Unknown
                    },
                };
                None
            }
            Look::Declared { holds, now, follow } => {
                let plan = self.plan(holds, state.ledger, now);
                let busy = Busy {
                    now,
                    plan,
                    follow,
                    is_placed: false,
                    released: 0,
                };
                leader.look = busy.at(Step::Ledger(plan.write));
                None
            }
            Look::Busy {
                now,
                plan,
                follow,
                is_placed,
                released,
                step,
            } => {
                let busy = Busy {
                    now,
                    plan,
                    follow,
                    is_placed,
                    released,
                };
                self.busy(state, leader, busy, step, again)
            }
        }
    }

    fn busy(
        &self,
        state: &mut State,
        leader: &mut Leader,
        mut busy: Busy,
        step: Step,
        again: bool,
    ) -> Option<Request> {
        let (next, request) = match step {
            Step::Ledger(0) => {
                self.is_held(state, leader, &mut busy);
                if busy.plan.open == 0 {
                    (self.after_place(state, leader, busy), None)
                } else {
                    (Step::Place(Pass::new(state.clock)), None)
                }
            }
            Step::Ledger(left) => first(left, Entry::Open, Step::Ledger),
            Step::Place(pass) => self.place(state, busy, pass),
            Step::Placed { has_written } if has_written && again => (Step::Place(Pass::new(state.clock)), None),
            Step::Placed { has_written } => {
                busy.is_placed = self.is_placed(busy, has_written);
                (self.after_place(state, leader, busy), None)
            }
            Step::Release(pass) => self.release(state, busy, pass),
            Step::Released { has_written, .. } if has_written && again => {
                (Step::Release(Pass::new(state.clock)), None)
            }
            Step::Released {
                has_written,
                is_undecided,
                at,
            } => {
                if self.is_released(has_written, is_undecided) {
                    self.is_true_of_released(state, busy.plan.closing, at);
                    (Step::Close(busy.plan.closing), None)
                } else {
                    (Step::Sweep, None)
                }
            }
            Step::Close(0) => {
                busy.released = busy.plan.closing;
                (Step::Sweep, None)
            }
            Step::Close(left) => first(left, Entry::Closed, Step::Close),
            Step::Sweep | Step::SweepRead(_) | Step::SweepDelete(_) => self.sweep(state, busy, step),
            Step::Report => {
                report(state, busy);
                leader.look = Look::Idle;
                return None;
            }
        };
        leader.look = busy.at(next);
        request
    }

    /// The ledger has all: resources get their finalizer, recorders are told, and what they followed until then is known.
    fn is_held(&self, state: &mut State, leader: &mut Leader, busy: &mut Busy) {
        for hold in each(busy.plan.open) {
            let hold = &mut state.holds[hold];
            hold.has_counted |= matches!(hold.declared, Declared::Open | Declared::Resolved);
        }
        let is_changed = leader.held.replace(busy.plan.open) != Some(busy.plan.open);
        if !self.is_broken(Rule::FollowIsAskedAnew) {
            if is_changed {
                leader.follow = Follow::Unknown;
            }
            busy.follow = leader.follow;
        }
    }

    fn after_place(&self, state: &State, leader: &Leader, busy: Busy) -> Step {
        if busy.plan.closing == 0 {
            return Step::Sweep;
        }
        let follow = self.is_of(busy.follow, busy.plan.open);
        match may_release(self.release_from(leader.took_over), follow, self.now(busy.now)) {
            Ok(()) if self.is_broken(Rule::Listing) => Step::Close(busy.plan.closing),
            Ok(()) => Step::Release(Pass::new(state.clock)),
            Err(_) => Step::Sweep,
        }
    }
}

impl Pass {
    pub fn new(at: u8) -> Self {
        Self {
            at,
            version: 0,
            stage: Stage::List,
            has_written: false,
            is_undecided: false,
        }
    }
}

/// The first of these entries is written.
fn first(left: u8, entry: Entry, next: fn(u8) -> Step) -> (Step, Option<Request>) {
    let hold = left.trailing_zeros() as usize;
    (next(left & !one(hold)), Some(Request::Ledger(hold, entry)))
}

/// What came of it, in the statuses of those that have one.
fn report(state: &mut State, busy: Busy) {
    for (number, hold) in state.holds.iter_mut().enumerate() {
        let is_in = |set: u8| set & one(number) != 0;
        if matches!(hold.declared, Declared::NotYet | Declared::Lost) {
            continue;
        }
        hold.placement = if is_in(busy.plan.open) {
            if busy.is_placed { Placement::Proved } else { Placement::Placing }
        } else if is_in(busy.plan.closed | busy.released) {
            Placement::Released
        } else if is_in(busy.plan.closing) && matches!(hold.placement, Placement::Absent | Placement::Released) {
            Placement::Placing
        } else {
            hold.placement
        };
    }
}
