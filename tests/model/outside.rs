//! What happens around a look: the clock, people, lifecycle, the recorder, the Site controller, leaders that come and go.

use super::broken::Rule;
use super::facts::{DAYS_LATER, LAST, SAME_DAY};
use super::state::{
    Declared, Follow, Hold, Instant, Late, Leader, Look, N, Object, Placement, Set, Stage, State, Step,
    Unsure, Version,
};
use super::world::{World, told};
use toezicht::rules::recording::tag::RetentionTag;

/// One step of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To the next instant. A leader that lives renews its lease.
    Tick,
    Declare(usize),
    Resolve(usize),
    /// The cluster is restored from a backup that does not have this hold.
    LoseInRestore(usize),
    /// While no operator runs, nor a request of one may arrive, the cluster is restored from a backup in which this hold is
    /// still open.
    RestoreAsOpen(usize),
    /// The store's lifecycle takes its next step with this version.
    Lifecycle(usize),
    /// The recorder takes up its newest configuration.
    ReloadConfig,
    Upload,
    /// The upload arrives and is confirmed.
    ConfirmUpload,
    /// The recorder waits no longer for its upload, which may arrive all the same.
    AbandonUpload,
    /// The recorder is killed, and started anew with the same spool.
    Restart,
    /// An upload arrives that nobody waits for any more.
    DeliverStrayUpload,
    /// The Site controller writes the recorders' configuration.
    Configure,
    /// The Site controller asks the recorder what it follows.
    Ask,
    /// The other operator becomes the leader.
    Lead,
    ReleaseLease,
    /// The leader's next step. `more`: after a pass that wrote, there is another; what is due is swept.
    Step {
        more: bool,
    },
    /// The leader is stopped, for good or until it is too late: the request that it sends then arrives later, or never.
    StopWhileSending,
    /// The leader is stopped between two steps.
    Stop,
    /// A leader that was stopped goes on where it was.
    ThawLeader,
    /// A request of a leader that was stopped arrives.
    Late(usize),
}

impl World {
    /// All that may happen next; some of it changes nothing.
    pub fn enabled_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.next_instant(state).is_some()
            && !state.leader.is_some_and(|leader| self.is_past_second_read(&leader))
        {
            actions.push(Action::Tick);
        }
        for number in 0..N {
            let may_be_restored = self.scope.has_backups && number == 1;
            match state.holds[number].declared {
                Declared::NotYet => actions.push(Action::Declare(number)),
                Declared::Open => {
                    actions.push(Action::Resolve(number));
                    actions.extend(may_be_restored.then_some(Action::LoseInRestore(number)));
                }
                Declared::Resolved if state.leader.is_none() && state.late == [None; N] => {
                    actions.extend(may_be_restored.then_some(Action::RestoreAsOpen(number)));
                }
                Declared::Resolved | Declared::Lost => {}
            }
            if self.is_lifecycle_enabled(state, number) {
                actions.push(Action::Lifecycle(number));
            }
            if state.late[number].is_some() {
                actions.push(Action::Late(number));
            }
        }
        enabled_recorder_actions(state, actions);
        match &state.leader {
            Some(leader) => self.enabled_leader_actions(state, leader, actions),
            None if state.terms < self.scope.terms && state.stopped != Some(false) => {
                actions.push(Action::Lead);
            }
            None => {}
        }
        if state.thawed.is_some() {
            actions.push(Action::ThawLeader);
        }
    }

    fn enabled_leader_actions(&self, state: &State, leader: &Leader, actions: &mut Vec<Action>) {
        actions.push(Action::Step { more: false });
        if let Look::Busy(busy) = leader.look
            && (matches!(busy.step, Step::Placed | Step::Released)
                || busy.step == Step::Sweep && self.due(state, busy) != 0)
        {
            actions.push(Action::Step { more: true });
        }
        if state.terms < self.scope.terms {
            actions.extend([Action::StopWhileSending, Action::Stop]);
            let is_finished = leader.look == Look::Idle;
            if self.may_let_go(is_finished, leader.took_over, state.clock) {
                actions.push(Action::ReleaseLease);
            }
        }
        if leader.held.is_some_and(|held| held != state.config) {
            actions.push(Action::Configure);
        }
        if self.scope.has_recorder {
            actions.push(Action::Ask);
        }
    }

    fn next_instant(&self, state: &State) -> Option<Instant> {
        self.scope.clock.iter().copied().find(|at| *at > state.clock)
    }

    /// Between the second read and the request that follows no time passes: a request ends within its deadline, and a
    /// leader that stands still in between is stopped.
    fn is_past_second_read(&self, leader: &Leader) -> bool {
        let Look::Busy(busy) = leader.look else {
            return false;
        };
        match busy.step {
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
            Action::Resolve(hold) => resolve(&mut state.holds[hold]),
            Action::LoseInRestore(hold) => state.holds[hold].declared = Declared::Lost,
            Action::RestoreAsOpen(hold) => reopen(&mut state.holds[hold]),
            Action::Lifecycle(version) => self.lifecycle(&mut state, version, last.clock),
            Action::Late(number) => self.deliver_late_request(&mut state, number),
            Action::Lead => {
                state.leader = Some(Leader::new(state.stopped.take().map(|_| state.clock)));
                state.terms += 1;
            }
            Action::ReleaseLease => state.leader = None,
            Action::ThawLeader => {
                let mut leader = state.thawed.take()?;
                if let Some(request) = self.step(&mut state, &mut leader, false) {
                    self.arrives(&mut state, request);
                }
                state.thawed = (leader.look != Look::Idle).then_some(leader);
            }
            Action::Step { .. }
            | Action::StopWhileSending
            | Action::Stop
            | Action::Configure
            | Action::Ask => {
                self.leads(&mut state, action)?;
            }
            _ => self.records(&mut state, action)?,
        }
        (state != *last).then_some(state)
    }

    fn tick(&self, state: &mut State) {
        let next = self.next_instant(state).unwrap_or(state.clock);
        (0..N).for_each(|version| self.run_overdue_lifecycle(state, version, next));
        state.clock = next;
        for hold in &mut state.holds {
            hold.is_settled |= hold.declared == Declared::Open;
        }
        if state.clock >= DAYS_LATER {
            state.recorder.stray = None;
        }
        // What is past is all the same: fewer states.
        state.stopped = state.stopped.map(|_| true);
        let now = *state;
        if let Some(leader) = &mut state.leader {
            self.forget(leader, now.clock);
        }
        for late in &mut state.late {
            *late = late.filter(|late| self.may_arrive(*late, &now));
        }
    }

    /// Forgets whom a leader took over from, once its next look may release. One under way goes by when it began.
    pub fn forget(&self, leader: &mut Leader, now: Instant) {
        let is_waiting = self.now(now) < self.release_from(leader.took_over);
        leader.took_over = leader.took_over.filter(|_| is_waiting || leader.look != Look::Idle);
    }

    fn leads(&self, state: &mut State, action: Action) -> Option<()> {
        let mut leader = state.leader?;
        match action {
            Action::Step { more } => {
                if let Some(request) = self.step(state, &mut leader, more) {
                    self.arrives(state, request);
                }
                state.leader = Some(leader);
            }
            Action::StopWhileSending => {
                let request = self.step(state, &mut leader, false)?;
                let signed = state.clock;
                state.late[usize::from(state.terms) - 1] = Some(Late { request, signed });
                state.leader = None;
                state.stopped = (!self.is_broken(Rule::LeaseReleasedWhenIdle)).then_some(false);
            }
            Action::Stop => {
                let may_go_on = self.is_broken(Rule::Fence) && leader.look != Look::Idle;
                state.thawed = may_go_on.then_some(leader);
                state.leader = None;
                state.stopped = Some(false);
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
            Action::ReloadConfig => recorder.follows = state.config,
            Action::Upload => recorder.upload = Some((self.put_tag(recorder.follows), recorder.follows)),
            Action::ConfirmUpload => {
                let (tag, _) = recorder.upload.take()?;
                (recorder.is_confirmed, recorder.unsure) = (true, None);
                put(&mut state.versions[1], tag, clock);
            }
            Action::AbandonUpload => {
                let (tag, of) = recorder.upload.take()?;
                recorder.stray = Some(tag);
                recorder.unsure = recorder.unsure.or(Some(Unsure::Of(of)));
                recorder.failures -= 1;
            }
            Action::Restart => {
                let (tag, _) = recorder.upload.take()?;
                recorder.stray = Some(tag);
                recorder.unsure = (!self.is_broken(Rule::SpoolRemembered)).then_some(Unsure::BeforeRestart);
                recorder.follows = state.config;
                recorder.failures -= 1;
            }
            _ => {
                let tag = recorder.stray.take()?;
                put(&mut state.versions[1], tag, clock);
            }
        }
        // What the store takes no more, and what cannot fail any more, is all the same: fewer states.
        let recorder = &mut state.recorder;
        if state.versions[1] != Version::Absent {
            recorder.stray = None;
        }
        if recorder.is_confirmed {
            recorder.failures = 0;
        }
        Some(())
    }
}

fn enabled_recorder_actions(state: &State, actions: &mut Vec<Action>) {
    let recorder = &state.recorder;
    if recorder.follows != state.config {
        actions.push(Action::ReloadConfig);
    }
    let may_fail = recorder.failures > 0 && recorder.stray.is_none();
    match recorder.upload {
        Some(_) => {
            actions.push(Action::ConfirmUpload);
            if may_fail {
                actions.extend([Action::AbandonUpload, Action::Restart]);
            }
        }
        // What is over its ceiling is purged, never uploaded.
        None if !recorder.is_confirmed && state.clock < LAST => {
            actions.push(Action::Upload);
        }
        None => {}
    }
    if recorder.stray.is_some() {
        actions.push(Action::DeliverStrayUpload);
    }
}

/// Its status says that it is not placed any more; what else it said is all the same by now.
fn resolve(hold: &mut Hold) {
    (hold.declared, hold.is_settled) = (Declared::Resolved, false);
    if hold.placement == Placement::Proved {
        hold.placement = Placement::Placing;
    }
}

/// A backup has the resource with its finalizer, and no status.
fn reopen(hold: &mut Hold) {
    (hold.declared, hold.placement) = (Declared::Open, Placement::Absent);
}

/// A put with `If-None-Match`: what is there already stays as it is.
fn put(version: &mut Version, tag: RetentionTag, taken: u8) {
    // To lifecycle, what came before the first midnight is as what came after it.
    let taken = taken.max(SAME_DAY);
    if *version == Version::Absent {
        *version = Version::Stored(Object { legal_hold: false, tag, hidden: None, taken });
    }
}
