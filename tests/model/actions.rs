//! Actions around a reconcile: the clock, people, lifecycle, the recorder, the Site controller, and changes of the
//! leader.

use super::rules::Rule;
use super::state::{
    Declared, Hold, InDoubt, Instant, LateRequest, Leader, N, Object, Placement, ReconcileState, RecorderAck,
    Set, Stage, State, Step, Version,
};
use super::values::{DAYS_LATER, LAST, SAME_DAY};
use super::world::{World, holds_of_upload};
use toezicht::rules::recording::tag::RetentionTag;

/// One action of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Advances the clock to the next instant. A live leader renews its lease.
    Tick,
    Declare(usize),
    Resolve(usize),
    /// Restores the cluster from a backup without this hold.
    LoseInRestore(usize),
    /// Restores the cluster from a backup in which this hold is still open, while no operator runs and no late
    /// request is pending.
    RestoreAsOpen(usize),
    /// Runs the next step of the store's lifecycle on this version.
    Lifecycle(usize),
    /// The recorder applies its newest configuration.
    ReloadConfig,
    Upload,
    /// The upload arrives and the recorder gets the confirmation.
    ConfirmUpload,
    /// The recorder gives up its upload, which may still arrive.
    AbandonUpload,
    /// The recorder is killed and restarted with the same spool.
    Restart,
    /// An abandoned upload arrives.
    DeliverStrayUpload,
    /// The Site controller writes the recorders' configuration.
    Configure,
    /// The Site controller requests the recorder's acknowledgement.
    Ask,
    /// The other operator becomes the leader.
    Lead,
    ReleaseLease,
    /// Runs the leader's next step. `more` repeats a pass that wrote, or sweeps due versions.
    Step {
        more: bool,
    },
    /// The leader is stopped while it sends a request, which arrives later or never.
    StopWhileSending,
    /// The leader is stopped between two steps.
    Stop,
    /// A stopped leader continues where it was.
    ThawLeader,
    /// A late request of a stopped leader arrives.
    Late(usize),
}

impl World {
    /// Collects the actions that are enabled in a state. Some change nothing.
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
        if let ReconcileState::Running(active) = leader.reconcile
            && (matches!(active.step, Step::Placed | Step::Released)
                || active.step == Step::Sweep && self.due(state, active) != 0)
        {
            actions.push(Action::Step { more: true });
        }
        if state.terms < self.scope.terms {
            actions.extend([Action::StopWhileSending, Action::Stop]);
            let is_finished = leader.reconcile == ReconcileState::Idle;
            if self.may_release_lease(is_finished, leader.took_over_at, state.clock) {
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

    /// Returns whether a leader is between its second read and the next request. No time passes there: a request ends
    /// within its deadline, and a leader that stalls in between is stopped.
    fn is_past_second_read(&self, leader: &Leader) -> bool {
        let ReconcileState::Running(active) = leader.reconcile else {
            return false;
        };
        match active.step {
            Step::SweepDelete(_) => !self.is_broken(Rule::SecondRead),
            Step::Release(pass) => {
                let is_read = !self.is_broken(Rule::SecondRead) && !self.is_broken(Rule::ReadBeforeDelete);
                pass.stage == Stage::Delete && is_read
            }
            _ => false,
        }
    }

    /// Returns the next state, or `None` if nothing changes.
    pub fn apply(&self, last: &State, action: Action) -> Option<State> {
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
                    self.apply_request(&mut state, request);
                }
                state.thawed = (leader.reconcile != ReconcileState::Idle).then_some(leader);
            }
            Action::Step { .. }
            | Action::StopWhileSending
            | Action::Stop
            | Action::Configure
            | Action::Ask => {
                self.apply_leader_action(&mut state, action)?;
            }
            _ => self.apply_recorder_action(&mut state, action)?,
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
        // Merge states that differ only in the past, to reduce their number.
        state.stopped = state.stopped.map(|_| true);
        let now = *state;
        if let Some(leader) = &mut state.leader {
            self.forget(leader, now.clock);
        }
        for late in &mut state.late {
            *late = late.filter(|late| self.may_arrive(*late, &now));
        }
    }

    /// Clears the time of a takeover once the leader's next reconcile may release. A running reconcile uses the time
    /// at its start.
    pub fn forget(&self, leader: &mut Leader, now: Instant) {
        let is_waiting = self.now(now) < self.release_from(leader.took_over_at);
        leader.took_over_at =
            leader.took_over_at.filter(|_| is_waiting || leader.reconcile != ReconcileState::Idle);
    }

    fn apply_leader_action(&self, state: &mut State, action: Action) -> Option<()> {
        let mut leader = state.leader?;
        match action {
            Action::Step { more } => {
                if let Some(request) = self.step(state, &mut leader, more) {
                    self.apply_request(state, request);
                }
                state.leader = Some(leader);
            }
            Action::StopWhileSending => {
                let request = self.step(state, &mut leader, false)?;
                let signed = state.clock;
                state.late[usize::from(state.terms) - 1] = Some(LateRequest { request, signed });
                state.leader = None;
                state.stopped = (!self.is_broken(Rule::LeaseReleasedWhenIdle)).then_some(false);
            }
            Action::Stop => {
                let can_thaw = self.is_broken(Rule::Fence) && leader.reconcile != ReconcileState::Idle;
                state.thawed = can_thaw.then_some(leader);
                state.leader = None;
                state.stopped = Some(false);
            }
            Action::Configure => {
                state.config = leader.held?;
            }
            _ => {
                let recorder = &state.recorder;
                let upload = recorder.upload.map(|(_, holds)| Some(holds));
                let pending: Vec<Option<Set>> =
                    upload.into_iter().chain(recorder.in_doubt.map(holds_of_upload)).collect();
                let pending: &[_] = if self.is_broken(Rule::UploadsAcknowledged) { &[] } else { &pending };
                leader.ack = if self.acknowledges(recorder.applied, pending, state.config) {
                    RecorderAck::Holds(state.config)
                } else {
                    RecorderAck::Unknown
                };
                state.leader = Some(leader);
            }
        }
        Some(())
    }

    fn apply_recorder_action(&self, state: &mut State, action: Action) -> Option<()> {
        let clock = state.clock;
        let recorder = &mut state.recorder;
        match action {
            Action::ReloadConfig => recorder.applied = state.config,
            Action::Upload => recorder.upload = Some((self.put_tag(recorder.applied), recorder.applied)),
            Action::ConfirmUpload => {
                let (tag, _) = recorder.upload.take()?;
                (recorder.is_confirmed, recorder.in_doubt) = (true, None);
                put(&mut state.versions[1], tag, clock);
            }
            Action::AbandonUpload => {
                let (tag, holds) = recorder.upload.take()?;
                recorder.stray = Some(tag);
                recorder.in_doubt = recorder.in_doubt.or(Some(InDoubt::Of(holds)));
                recorder.failures -= 1;
            }
            Action::Restart => {
                let (tag, _) = recorder.upload.take()?;
                recorder.stray = Some(tag);
                recorder.in_doubt =
                    (!self.is_broken(Rule::SpoolRemembered)).then_some(InDoubt::BeforeRestart);
                recorder.applied = state.config;
                recorder.failures -= 1;
            }
            _ => {
                let tag = recorder.stray.take()?;
                put(&mut state.versions[1], tag, clock);
            }
        }
        // Merge states that differ only in uploads without effect, to reduce their number.
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
    if recorder.applied != state.config {
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
        // Segments past their ceiling are purged, not uploaded.
        None if !recorder.is_confirmed && state.clock < LAST => {
            actions.push(Action::Upload);
        }
        None => {}
    }
    if recorder.stray.is_some() {
        actions.push(Action::DeliverStrayUpload);
    }
}

/// Resolves a hold. Its status no longer claims `Placed`.
fn resolve(hold: &mut Hold) {
    (hold.declared, hold.is_settled) = (Declared::Resolved, false);
    if hold.placement == Placement::Proved {
        hold.placement = Placement::Placing;
    }
}

/// Restores a hold as open: a backup has the resource with its finalizer but without status.
fn reopen(hold: &mut Hold) {
    (hold.declared, hold.placement) = (Declared::Open, Placement::Absent);
}

/// Puts an object with `If-None-Match`, so that an existing version stays.
fn put(version: &mut Version, tag: RetentionTag, uploaded_at: u8) {
    // The lifecycle treats uploads before and after the first midnight alike.
    let uploaded_at = uploaded_at.max(SAME_DAY);
    if *version == Version::Absent {
        *version = Version::Stored(Object { legal_hold: false, tag, hidden: None, uploaded_at });
    }
}
