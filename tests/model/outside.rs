//! What happens around a look: the clock, people, lifecycle, the recorder, the Site controller, leaders that come and go.

use super::facts::{BEFORE, Beginning, DAYS_LATER, INSTANTS};
use super::state::{
    Declared, Entry, Follow, Hold, Late, Leader, Look, N, Object, Placement, Recorder, Set, Stage, State, Step, Unsure,
    Version,
};
use super::world::{Rule, World, told};
use toezicht::storage::tag::RetentionTag;

/// How often somebody may become the leader.
const TERMS: u8 = 2;
/// How often the recorder may give up an upload, or be killed.
const FAILURES: u8 = 1;

/// One step of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To the next instant. A leader that lives renews its lease.
    Tick,
    Declare(usize),
    Resolve(usize),
    /// The cluster is restored from a backup that does not have this hold.
    Lose(usize),
    /// The store's lifecycle takes its next step with this version.
    Lifecycle(usize),
    /// The recorder takes up its newest configuration.
    Reload,
    Upload,
    /// The upload arrives and is confirmed.
    Confirm,
    /// The recorder waits no longer for its upload, which may arrive all the same.
    GiveUp,
    /// The recorder is killed, and started anew with the same spool.
    Restart,
    /// An upload arrives that nobody waits for any more.
    Stray,
    /// The Site controller writes the recorders' configuration.
    Configure,
    /// The Site controller asks the recorder what it follows.
    Ask,
    /// The other operator becomes the leader.
    Lead,
    LetGo,
    /// The leader's next step. `again`: after a pass that wrote, there is another.
    Step { again: bool },
    /// The leader is stopped, for good or until it is too late: the request that it sends then arrives later, or never.
    StopSending,
    /// The leader is stopped between two steps.
    Stop,
    /// A leader that was stopped goes on where it was.
    Thaw,
    /// A request of a leader that was stopped arrives.
    Late(usize),
}

impl World {
    /// The first state.
    pub fn first(&self) -> State {
        let is_old = self.beginning == Beginning::Old;
        let hold = |is_placed: bool| Hold {
            declared: if is_placed { Declared::Open } else { Declared::NotYet },
            is_settled: is_placed,
            has_counted: is_placed,
            placement: if is_placed { Placement::Proved } else { Placement::Absent },
        };
        State {
            clock: 0,
            versions: [
                Version::Stored(Object {
                    legal_hold: is_old,
                    tag: if is_old { RetentionTag::Held } else { RetentionTag::Video },
                    hidden: None,
                    taken: BEFORE,
                }),
                Version::Absent,
            ],
            ledger: [if is_old { Entry::Open } else { Entry::Absent }, Entry::Absent],
            holds: [hold(is_old), hold(false)],
            config: is_old.into(),
            recorder: Recorder {
                follows: is_old.into(),
                is_confirmed: false,
                upload: None,
                unsure: None,
                stray: None,
                failures: FAILURES,
            },
            leader: Some(Leader::new(None)),
            terms: 1,
            stopped: None,
            late: [None; N],
            thawed: None,
            is_disturbed: false,
            is_lost: false,
            has_lied: false,
        }
    }

    /// All that may happen next; some of it changes nothing.
    pub fn may_happen(&self, state: &State, actions: &mut Vec<Action>) {
        if usize::from(state.clock) + 1 < INSTANTS.len() && !state.leader.is_some_and(|leader| self.is_armed(&leader)) {
            actions.push(Action::Tick);
        }
        let has_lost = state.holds.iter().any(|hold| hold.declared == Declared::Lost);
        for number in 0..N {
            match state.holds[number].declared {
                Declared::NotYet => actions.push(Action::Declare(number)),
                Declared::Open => {
                    actions.push(Action::Resolve(number));
                    if !has_lost {
                        actions.push(Action::Lose(number));
                    }
                }
                Declared::Resolved | Declared::Lost => {}
            }
            if self.is_lifecycles(state, number) {
                actions.push(Action::Lifecycle(number));
            }
            if state.late[number].is_some() {
                actions.push(Action::Late(number));
            }
        }
        self.recorder_may(state, actions);
        match &state.leader {
            Some(leader) => self.leader_may(state, leader, actions),
            None if state.terms < TERMS && state.stopped.is_none_or(|at| at < state.clock) => {
                actions.push(Action::Lead);
            }
            None => {}
        }
        if state.thawed.is_some() {
            actions.push(Action::Thaw);
        }
    }

    fn recorder_may(&self, state: &State, actions: &mut Vec<Action>) {
        let recorder = &state.recorder;
        if recorder.follows != state.config {
            actions.push(Action::Reload);
        }
        let may_fail = recorder.failures > 0 && recorder.stray.is_none();
        match recorder.upload {
            Some(_) => {
                actions.push(Action::Confirm);
                if may_fail {
                    actions.extend([Action::GiveUp, Action::Restart]);
                }
            }
            // What is over its ceiling is purged, never uploaded.
            None if !recorder.is_confirmed && usize::from(state.clock) + 1 < INSTANTS.len() => {
                actions.push(Action::Upload);
            }
            None => {}
        }
        if recorder.stray.is_some() {
            actions.push(Action::Stray);
        }
    }

    fn leader_may(&self, state: &State, leader: &Leader, actions: &mut Vec<Action>) {
        let (mut after, mut ahead) = (*state, *leader);
        let sends = self.step(&mut after, &mut ahead, false).is_some();
        actions.push(Action::Step { again: false });
        if let Look::Busy {
            step: Step::Placed { has_written: true } | Step::Released { has_written: true, .. },
            ..
        } = leader.look
        {
            actions.push(Action::Step { again: true });
        }
        if sends {
            actions.push(Action::StopSending);
        }
        actions.push(Action::Stop);
        if leader.look == Look::Idle {
            actions.push(Action::LetGo);
        }
        if leader.held.is_some_and(|held| held != state.config) {
            actions.push(Action::Configure);
        }
        actions.push(Action::Ask);
    }

    /// Between the second read and the request that follows no time passes: a request ends within its deadline, and a
    /// leader that stands still in between is stopped.
    fn is_armed(&self, leader: &Leader) -> bool {
        let Look::Busy { step, .. } = leader.look else {
            return false;
        };
        match step {
            Step::SweepDelete(_) => !self.is_broken(Rule::SecondRead),
            Step::Release(pass) => {
                let is_read = !self.is_broken(Rule::SecondRead) && !self.is_broken(Rule::ReadBeforeDelete);
                pass.stage == Stage::Delete && is_read
            }
            _ => false,
        }
    }

    /// What follows; `None`: nothing changes.
    pub fn follows(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Tick => self.tick(&mut state),
            Action::Declare(hold) => state.holds[hold].declared = Declared::Open,
            Action::Resolve(hold) => state.holds[hold].declared = Declared::Resolved,
            Action::Lose(hold) => state.holds[hold].declared = Declared::Lost,
            Action::Lifecycle(version) => self.lifecycle(&mut state, version),
            Action::Late(number) => self.arrives_late(&mut state, number),
            Action::Lead => {
                state.leader = Some(Leader::new(state.stopped.take()));
                state.terms += 1;
            }
            Action::LetGo => state.leader = None,
            Action::Thaw => {
                let mut leader = state.thawed.take()?;
                if let Some(request) = self.step(&mut state, &mut leader, false) {
                    self.arrives(&mut state, request);
                }
                state.thawed = (leader.look != Look::Idle).then_some(leader);
            }
            Action::Step { .. } | Action::StopSending | Action::Stop | Action::Configure | Action::Ask => {
                self.leads(&mut state, action)?;
            }
            _ => self.records(&mut state, action)?,
        }
        (state != *last).then_some(state)
    }

    fn tick(&self, state: &mut State) {
        state.clock += 1;
        for hold in &mut state.holds {
            hold.is_settled |= hold.declared == Declared::Open;
        }
        if state.clock >= DAYS_LATER {
            state.recorder.stray = None;
        }
        let now = *state;
        for late in &mut state.late {
            *late = late.filter(|late| self.may_arrive(*late, &now));
        }
    }

    fn leads(&self, state: &mut State, action: Action) -> Option<()> {
        let mut leader = state.leader?;
        match action {
            Action::Step { again } => {
                if let Some(request) = self.step(state, &mut leader, again) {
                    self.arrives(state, request);
                }
                state.leader = Some(leader);
            }
            Action::StopSending => {
                let request = self.step(state, &mut leader, false)?;
                let signed = state.clock;
                state.late[usize::from(state.terms) - 1] = Some(Late { request, signed });
                state.leader = None;
                state.stopped = (!self.is_broken(Rule::LetGoWhenDone)).then_some(signed);
            }
            Action::Stop => {
                let may_go_on = self.is_broken(Rule::Fence) && leader.look != Look::Idle;
                state.thawed = may_go_on.then_some(leader);
                state.leader = None;
                state.stopped = Some(state.clock);
            }
            Action::Configure => {
                state.config = leader.held?;
            }
            _ => {
                let recorder = &state.recorder;
                let upload = recorder.upload.map(|(_, of)| Some(of));
                let begun: Vec<Option<Set>> = upload.into_iter().chain(recorder.unsure.map(told)).collect();
                let begun: &[_] = if self.is_broken(Rule::UploadsAcknowledged) { &[] } else { &begun };
                leader.follow = if self.says(recorder.follows, begun, state.config) {
                    Follow::Holds(state.config)
                } else {
                    Follow::Unknown
                };
                state.leader = Some(leader);
            }
        }
        Some(())
    }

    fn records(&self, state: &mut State, action: Action) -> Option<()> {
        let clock = state.clock;
        let recorder = &mut state.recorder;
        match action {
            Action::Reload => recorder.follows = state.config,
            Action::Upload => recorder.upload = Some((self.put_tag(recorder.follows), recorder.follows)),
            Action::Confirm => {
                let (tag, _) = recorder.upload.take()?;
                (recorder.is_confirmed, recorder.unsure) = (true, None);
                put(&mut state.versions[1], tag, clock);
            }
            Action::GiveUp => {
                let (tag, of) = recorder.upload.take()?;
                recorder.stray = Some(tag);
                recorder.unsure = recorder.unsure.or(Some(Unsure::Of(of)));
                recorder.failures -= 1;
            }
            Action::Restart => {
                let (tag, _) = recorder.upload.take()?;
                recorder.stray = Some(tag);
                recorder.unsure = (!self.is_broken(Rule::SpoolRemembered)).then_some(Unsure::OfRecorderBefore);
                recorder.follows = state.config;
                recorder.failures -= 1;
            }
            _ => {
                let tag = recorder.stray.take()?;
                put(&mut state.versions[1], tag, clock);
            }
        }
        Some(())
    }
}

/// A put with `If-None-Match`: what is there already stays as it is.
fn put(version: &mut Version, tag: RetentionTag, taken: u8) {
    if *version == Version::Absent {
        *version = Version::Stored(Object {
            legal_hold: false,
            tag,
            hidden: None,
            taken,
        });
    }
}

impl Leader {
    fn new(took_over: Option<u8>) -> Self {
        Self {
            took_over,
            held: None,
            follow: Follow::Unknown,
            look: Look::Idle,
        }
    }
}
