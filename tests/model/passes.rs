//! The passes over the versions, each page and each version of it in its steps: place, release, sweep.

use toezicht::rules::{KeptBy, Marks, Write, is_placed, placing, releasing};
use toezicht::storage::hold::{Placed, Released};
use toezicht::storage::key::Class;
use toezicht::storage::tag::RetentionTag;

use super::look::Busy;
use super::state::{Instant, N, Object, OpenHolds, Pass, Request, Set, Stage, State, Step, each, one};
use super::world::{Rule, World};

type Next = (Step, Option<Request>);

impl World {
    pub fn place(&self, state: &State, busy: Busy, pass: Pass) -> Next {
        let done = |pass: Pass| Step::Placed {
            has_written: pass.has_written,
        };
        let version = pass.version;
        match (pass.stage, state.object(version)) {
            (Stage::List, Some(object)) if self.covering(version, object.taken) & busy.plan.open != 0 => {
                (Step::Place(pass.to(Stage::Read(object.hidden, OpenHolds::default()))), None)
            }
            (Stage::Read(hidden, _), Some(object)) => {
                let tag = self.held_tag(version, object, busy.plan.open, pass.at);
                let todo = tag.map_or(Vec::new(), |tag| placing(&marks(object), tag, hidden.is_some()));
                let todo = self.in_order(todo);
                (pass.writes(todo, hidden, false, Step::Place, done), None)
            }
            (Stage::Write { todo, hidden, .. }, _) => write(pass, todo, hidden, false, Step::Place, done),
            _ => (pass.next(Step::Place, done), None),
        }
    }

    fn in_order(&self, mut todo: Vec<Write>) -> Vec<Write> {
        if self.is_broken(Rule::HoldFirst) && todo.len() > 1 {
            todo.swap(0, 1);
        }
        todo
    }

    pub fn is_placed(&self, busy: Busy, has_written: bool) -> bool {
        let placed = Placed {
            protected: has_written.into(),
            ..Placed::default()
        };
        is_placed(&placed, self.is_of(busy.follow, busy.plan.open))
    }

    pub fn release(&self, state: &State, busy: Busy, pass: Pass) -> Next {
        let done = |pass: Pass| Step::Released {
            has_written: pass.has_written,
            is_undecided: pass.is_undecided,
            at: pass.at,
        };
        let (version, to) = (pass.version, |stage| (Step::Release(pass.to(stage)), None));
        match (pass.stage, state.object(version)) {
            (Stage::List, Some(object)) if self.covering(version, object.taken) & busy.plan.closing != 0 => {
                to(Stage::Renew(object.hidden))
            }
            (Stage::Renew(hidden), _) => to(Stage::Read(hidden, self.open(state, busy))),
            (Stage::Read(hidden, open), Some(object)) => match self.kept_by(version, object, open) {
                Some(by) => {
                    let is_undecided = by == KeptBy::Declared && !self.is_broken(Rule::KeptByLedger);
                    let pass = Pass {
                        is_undecided: pass.is_undecided || is_undecided,
                        ..pass
                    };
                    (pass.next(Step::Release, done), None)
                }
                None => {
                    let todo = releasing(&marks(object), RetentionTag::unheld(Class::Video));
                    let is_over = self.is_due(version, object, pass.at);
                    (pass.writes(todo, hidden, is_over, Step::Release, done), None)
                }
            },
            (Stage::Write { todo, hidden, is_over }, _) => {
                write(pass, todo, hidden, is_over, Step::Release, done)
            }
            (Stage::SecondRead, Some(object)) if !self.is_broken(Rule::ReadBeforeDelete) => {
                match self.kept_by(version, object, self.open(state, busy)) {
                    // It was taken its marks: not proved.
                    Some(_) => (Pass { has_written: true, ..pass }.next(Step::Release, done), None),
                    None => to(Stage::Delete),
                }
            }
            (Stage::SecondRead, Some(_)) => to(Stage::Delete),
            (Stage::Delete, Some(_)) => {
                let pass = Pass { has_written: true, ..pass };
                (pass.next(Step::Release, done), Some(self.delete(state, one(version))))
            }
            _ => (pass.next(Step::Release, done), None),
        }
    }

    pub fn is_released(&self, has_written: bool, is_undecided: bool) -> bool {
        let released = Released {
            released: has_written.into(),
            undecided: is_undecided.into(),
            ..Released::default()
        };
        released.is_proved()
    }

    /// When a release is proved, what was covered and is kept for nobody else has no mark left; what was over its ceiling
    /// when the pass began is gone.
    pub fn is_true_of_released(&self, state: &mut State, closing: Set, at: Instant) {
        let others = state.unreleased() & !closing;
        state.has_lied |= (0..N).any(|version| {
            state.object(version).is_some_and(|object| {
                let covering = self.covering(version, object.taken);
                let is_theirs = covering & closing != 0 && covering & others == 0;
                is_theirs && (!object.is_left_to_lifecycle() || self.is_due(version, object, at))
            })
        });
    }

    pub fn sweep(&self, state: &State, busy: Busy, step: Step) -> Next {
        let or_report = |set: Set, next: fn(Set) -> Step| if set == 0 { Step::Report } else { next(set) };
        match step {
            Step::SweepDelete(versions) => (Step::Report, Some(self.delete(state, versions))),
            Step::SweepRead(listed) => {
                let open = self.open(state, Busy { plan: super::state::Plan { closing: 0, ..busy.plan }, ..busy });
                let goes = |version: &usize| {
                    let object = state.object(*version);
                    object.is_some_and(|object| self.goes(*version, object, open.ledger | open.declared, busy.now))
                };
                (or_report(each(listed).filter(goes).map(one).sum(), Step::SweepDelete), None)
            }
            _ => {
                let is_due = |version: &usize| {
                    let object = state.object(*version);
                    object.is_some_and(|object| self.is_due(*version, object, busy.now))
                };
                (or_report((0..N).filter(is_due).map(one).sum(), Step::SweepRead), None)
            }
        }
    }

    /// What is held for others, read anew.
    fn open(&self, state: &State, busy: Busy) -> OpenHolds {
        if self.is_broken(Rule::SecondRead) {
            return OpenHolds {
                ledger: busy.plan.open,
                declared: busy.plan.open,
            };
        }
        self.read_open(state.declared(), state.ledger, busy.plan.closing, state.clock)
    }

    fn delete(&self, state: &State, versions: Set) -> Request {
        Request::Delete {
            versions,
            unlawful: self.unlawful(state, versions),
        }
    }
}

impl Pass {
    fn to(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }

    /// On to the next version, or the pass is over.
    fn next(self, step: fn(Self) -> Step, done: impl Fn(Pass) -> Step) -> Step {
        let version = self.version + 1;
        if version == N {
            done(self)
        } else {
            step(Self {
                version,
                ..self.to(Stage::List)
            })
        }
    }

    /// On to what is to be written to this version, to its deletion, or to the next.
    fn writes(
        self,
        todo: Vec<Write>,
        hidden: Option<Instant>,
        is_over: bool,
        step: fn(Self) -> Step,
        done: impl Fn(Pass) -> Step,
    ) -> Step {
        let mut left = [None; 3];
        left.iter_mut().zip(&todo).for_each(|(left, write)| *left = Some(*write));
        match (todo.is_empty(), is_over) {
            (false, _) => step(self.to(Stage::Write {
                todo: left,
                hidden,
                is_over,
            })),
            (true, true) => step(self.to(Stage::SecondRead)),
            (true, false) => self.next(step, done),
        }
    }
}

/// Sends the next of what is to be written.
fn write(
    pass: Pass,
    todo: [Option<Write>; 3],
    hidden: Option<Instant>,
    is_over: bool,
    step: fn(Pass) -> Step,
    done: impl Fn(Pass) -> Step,
) -> Next {
    let pass = Pass {
        has_written: true,
        ..pass
    };
    let [first, rest @ ..] = todo;
    let rest = rest.into_iter().flatten().collect();
    let request = match (first, hidden) {
        (Some(Write::Unhide), Some(since)) => Some(Request::Unhide(pass.version, since)),
        (first, _) => first.map(|write| Request::Mark(pass.version, write)),
    };
    (pass.writes(rest, hidden, is_over, step, done), request)
}

fn marks(object: Object) -> Marks {
    Marks {
        legal_hold: object.legal_hold,
        tag: Some(object.tag),
    }
}
