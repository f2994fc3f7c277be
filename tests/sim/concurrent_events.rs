//! Events at the worst moment: between a request of the operator and its effect. Independent random events would
//! hardly ever coincide with it.

use jiff::{SignedDuration, Timestamp};
use toezicht::rules::Window;
use toezicht::rules::recording::key::{Class, Key};

use super::api::{Incident, is_resolved, scope_of};
use super::lease::Fate;
use super::people_tasks::{self, Tampering};
use super::profile::Event;
use super::store::Actor;
use super::store_api::StoreRequest;
use super::world::World;

/// Maximum number of open holds.
const MAX_OPEN_HOLDS: usize = 5;

/// Returns a recording that a request concerns: its key, or one in the listed folder.
fn concerned_recording(world: &mut World, request: &StoreRequest) -> Option<Key> {
    let (exact, folder) = match request {
        StoreRequest::GetTags { key, .. }
        | StoreRequest::PutTags { key, .. }
        | StoreRequest::GetHold { key, .. }
        | StoreRequest::PutHold { key, .. }
        | StoreRequest::Head { key, .. } => (key.clone(), false),
        StoreRequest::List { parameters, .. } => (parameters.prefix.clone(), true),
        StoreRequest::DeleteMany(versions) => (versions.first()?.0.clone(), false),
        _ => ("video/".to_owned(), true),
    };
    let keys: Vec<Key> = world
        .store
        .versions()
        .filter(|(key, version)| {
            version.by == Actor::Recorder && (**key == exact || folder && key.starts_with(&exact))
        })
        .filter_map(|(key, _)| key.parse().ok())
        .collect();
    // Prefer the recording that is due next: most decisions depend on it.
    if world.rng.bool() {
        return keys.into_iter().min_by_key(Key::start);
    }
    world.rng.choice(keys)
}

impl World {
    /// Returns whether an operator crashes at this request, which must be a write.
    pub fn crashes_now(&mut self, actor: Actor, request: &StoreRequest) -> bool {
        let changes = matches!(
            request,
            StoreRequest::Put { .. }
                | StoreRequest::PutTags { .. }
                | StoreRequest::PutHold { .. }
                | StoreRequest::Delete { .. }
                | StoreRequest::DeleteMany(_)
        );
        // Crash most often between writes that belong together, and before a loss is reported.
        let odds = match request {
            StoreRequest::Put { key, .. }
                if key.starts_with("ledger/manifests/") && self.checks.has_unreported_loss() =>
            {
                60
            }
            StoreRequest::Put { key, .. } if key.starts_with("ledger/") => 600,
            _ => 1500,
        };
        matches!(actor, Actor::Operator(_))
            && changes
            && !self.is_calm
            && self.rng.u32(0..odds) < self.profile.event_rate
    }

    /// Resolves, in half of the crashes, the hold that the last request concerns.
    pub fn maybe_resolve_on_crash(&mut self, request: &StoreRequest) {
        if !self.is_calm && self.rng.bool() {
            let now = self.now();
            self.resolve_concerned(request, now);
        }
    }

    /// Draws an event during a request.
    pub fn maybe_event(&mut self, n: usize, request: &StoreRequest) {
        if self.is_calm || self.has_violations() || self.rng.u32(0..1000) >= self.profile.event_rate {
            return;
        }
        let now = self.now();
        match *self.rng.choice(self.profile.events.iter()).unwrap() {
            Event::Declared => self.declare_over(request, now),
            Event::DeclaredDuringOutage => {
                self.declare_over(request, now);
                self.api.is_unavailable = true;
                self.log_trace(|| "the API server becomes unavailable".to_owned());
            }
            Event::Widened => {
                if let Some(uid) = self.rng.choice(self.api.open(now)) {
                    people_tasks::widen(self, &uid, now);
                }
            }
            Event::Resolved => self.resolve_concerned(request, now),
            Event::Reopened => self.reopen_hold(now),
            Event::LostInRestore => self.lose_hold(now),
            Event::LostAndRecreated => {
                let known = super::checks::open_entries(&self.store).into_keys();
                let open: Vec<String> = known.filter(|uid| self.api.open(now).contains(uid)).collect();
                if let Some(uid) = self.rng.choice(open) {
                    people_tasks::lose_in_restore(self, &uid, true, now);
                }
            }
            Event::Ends => self.end_window(now),
            Event::ClockSteps => {
                let ahead = [7_200_000, -7_200_000, 840_000, 840_000, 864_000_000];
                let ahead = *self.rng.choice(&ahead).unwrap();
                self.ahead[n] = ahead;
                self.log_trace(|| format!("the clock of operator {n} steps to {ahead} ms ahead"));
            }
            Event::HoldCleared => self.tamper_with_concerned(request, Tampering::ClearHold),
            Event::Hidden => self.tamper_with_concerned(request, Tampering::Hides),
            Event::Destroyed => {
                self.tamper_with_concerned(request, Tampering::Destroy);
                if self.rng.bool() {
                    self.set_fate(n, Fate::Crash);
                }
            }
            Event::RecorderReachability => {
                if let Some(recorder) = self.recorders.all.values_mut().next() {
                    recorder.is_silent = !recorder.is_silent;
                }
            }
            Event::Stops => self.set_fate(n, Fate::Stops),
        }
        self.check_effects();
    }

    /// Declares a hold over the recording that the operator is working on.
    fn declare_over(&mut self, request: &StoreRequest, now: Timestamp) {
        // Limit ledger entries too: holds that only the ledger knows cannot be resolved.
        if self.api.open(now).len() >= MAX_OPEN_HOLDS
            || super::checks::open_entries(&self.store).len() >= 3 * MAX_OPEN_HOLDS
        {
            return;
        }
        let Some(key) = concerned_recording(self, request) else { return };
        let is_call = key.class() == Class::Calls;
        let incident = Incident {
            name: format!("h{}", self.rng.u32(0..1_000_000)),
            cameras: if is_call || self.rng.bool() { Vec::new() } else { vec![key.source().to_owned()] },
            calls: is_call || self.rng.bool(),
            window: Window::new(
                key.start() - SignedDuration::from_mins(1),
                (self.rng.u32(0..4) > 0).then(|| key.end() + SignedDuration::from_mins(1)),
            ),
        };
        let uid = self.api.declare(&incident, now);
        self.log_trace(|| format!("{uid} is declared meanwhile: {incident:?}"));
        let scope = scope_of(&self.api.holds[&uid]);
        self.checks.record_declaration(&uid, scope, &self.store, now);
    }

    /// Resolves a hold over the recording that the operator is working on.
    fn resolve_concerned(&mut self, request: &StoreRequest, now: Timestamp) {
        let key = concerned_recording(self, request);
        let open = self.api.open(now);
        let covers = |uid: &&String| {
            key.as_ref().is_none_or(|key| scope_of(&self.api.holds[*uid]).covers(&key.recording()))
        };
        if let Some(uid) = open.iter().find(covers) {
            self.log_trace(|| format!("{uid} is resolved meanwhile"));
            self.api.resolve(uid, now);
        }
    }

    /// Restores a backup from before a resolution.
    fn reopen_hold(&mut self, now: Timestamp) {
        let resolved = self.api.holds.iter().filter(|(_, hold)| is_resolved(hold, now));
        let resolved: Vec<String> = resolved.map(|(uid, _)| uid.clone()).collect();
        let Some(uid) = self.rng.choice(resolved) else {
            return;
        };
        self.api.change(&uid, |hold| {
            hold.spec.state = toezicht::api::HoldState::Open;
            hold.spec.resolution = None;
            // The backup's status is of that time too.
            let placement = hold.status.as_mut().and_then(|status| status.placement.as_mut());
            if let Some(placement) = placement {
                placement.release_time = None;
            }
        });
        self.log_trace(|| format!("{uid} is open again, from a backup"));
        let scope = scope_of(&self.api.holds[&uid]);
        self.checks.record_declaration(&uid, scope, &self.store, now);
    }

    /// Restores a backup without a hold, and may hide its ledger entry.
    fn lose_hold(&mut self, now: Timestamp) {
        let known = super::checks::open_entries(&self.store).into_keys();
        let known: Vec<String> = known.filter(|uid| self.api.holds.contains_key(uid)).collect();
        let Some(uid) = self.rng.choice(known) else { return };
        if is_resolved(&self.api.holds[&uid], now) {
            return;
        }
        if self.rng.bool() {
            let by = self.administrator();
            let _ = self.store.delete(by, &format!("ledger/holds/{uid}.json"), None);
        }
        people_tasks::lose_in_restore(self, &uid, false, now);
    }

    /// Ends the window of an ongoing hold now.
    fn end_window(&mut self, now: Timestamp) {
        let open = self.api.open(now);
        let ongoing = open.into_iter().find(|uid| self.api.holds[uid].spec.window.until.is_none());
        let Some(uid) = ongoing else { return };
        let until = now.max(self.api.holds[&uid].spec.window.from.0 + SignedDuration::from_secs(1));
        self.api.change(&uid, |hold| {
            hold.spec.window.until = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(until));
        });
        self.log_trace(|| format!("the window of {uid} ends at {until}"));
        let scope = scope_of(&self.api.holds[&uid]);
        self.checks.record_declaration(&uid, scope, &self.store, now);
    }

    fn set_fate(&mut self, n: usize, fate: Fate) {
        self.pending_fates[n].0 = fate;
        self.pending_fates[n].1.notify_one();
    }

    /// Tampers with a version that the operator has just read.
    fn tamper_with_concerned(&mut self, request: &StoreRequest, tampering: Tampering) {
        let Some(key) = concerned_recording(self, request) else { return };
        let key = key.to_string();
        let id = self.store.keys[&key].iter().find(|version| version.is_held());
        if let Some(id) = id.map(|version| version.id.clone()) {
            people_tasks::tamper(self, &key, &id, tampering);
        }
    }
}
