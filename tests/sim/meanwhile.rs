//! What happens at the worst moment: between a request of the operator and its effect. Between two requests chosen at
//! random such things would hardly ever meet.

use jiff::{SignedDuration, Timestamp};
use toezicht::rules::Window;
use toezicht::rules::recording::key::{Class, Key};

use super::api::{Incident, cover, is_resolved};
use super::ask::Ask;
use super::lease::Fate;
use super::people::{self, Tampering};
use super::store::Who;
use super::temper::Event;
use super::world::World;

/// Open holds, of which more would only be more of the same.
const MOST: usize = 5;

/// The recording that a request is about, or one of the folder that it lists.
fn about(world: &mut World, ask: &Ask) -> Option<Key> {
    let (exact, folder) = match ask {
        Ask::GetTags { key, .. }
        | Ask::PutTags { key, .. }
        | Ask::GetHold { key, .. }
        | Ask::PutHold { key, .. }
        | Ask::Head { key, .. } => (key.clone(), false),
        Ask::List { asked, .. } => (asked.prefix.clone(), true),
        Ask::DeleteMany(versions) => (versions.first()?.0.clone(), false),
        _ => ("video/".to_owned(), true),
    };
    let keys: Vec<Key> = world
        .store
        .versions()
        .filter(|(key, version)| {
            version.by == Who::Recorder && (**key == exact || folder && key.starts_with(&exact))
        })
        .filter_map(|(key, _)| key.parse().ok())
        .collect();
    // What is due next is what most depends on.
    if world.rng.bool() {
        return keys.into_iter().min_by_key(Key::start);
    }
    world.rng.choice(keys)
}

impl World {
    /// Whether an operator dies at this request. Most often at one that changes something.
    pub fn crashes_now(&mut self, who: Who, ask: &Ask) -> bool {
        let changes = matches!(
            ask,
            Ask::Put { .. }
                | Ask::PutTags { .. }
                | Ask::PutHold { .. }
                | Ask::Delete { .. }
                | Ask::DeleteMany(_)
        );
        // Between the writes that belong together, most of all; and before anybody was told of a loss.
        let of = match ask {
            Ask::Put { key, .. } if key.starts_with("ledger/manifests/") && self.checks.owes() => 60,
            Ask::Put { key, .. } if key.starts_with("ledger/") => 600,
            _ => 1500,
        };
        matches!(who, Who::Operator(_))
            && changes
            && !self.is_calm
            && self.rng.u32(0..of) < self.temper.keenness
    }

    /// An operator dies at a request: what that was for is often over by when it arrives.
    pub fn maybe_resolve_on_crash(&mut self, ask: &Ask) {
        if !self.is_calm && self.rng.bool() {
            let now = self.now();
            self.resolve_concerned(ask, now);
        }
    }

    /// Maybe something happens while a request is under way.
    pub fn meanwhile(&mut self, n: usize, ask: &Ask) {
        if self.is_calm || self.is_over() || self.rng.u32(0..1000) >= self.temper.keenness {
            return;
        }
        let now = self.now();
        match *self.rng.choice(self.temper.events.iter()).unwrap() {
            Event::Declared => self.declare_over(ask, now),
            Event::DeclaredDuringOutage => {
                self.declare_over(ask, now);
                self.api.is_away = true;
                self.say(|| "the API server goes away".to_owned());
            }
            Event::Widened => {
                if let Some(uid) = self.rng.choice(self.api.open(now)) {
                    people::widen(self, &uid, now);
                }
            }
            Event::Resolved => self.resolve_concerned(ask, now),
            Event::Reopened => self.reopened(now),
            Event::LostInRestore => self.forgotten(now),
            Event::LostAndRecreated => {
                let known = super::checks::ledger(&self.store).into_keys();
                let open: Vec<String> = known.filter(|uid| self.api.open(now).contains(uid)).collect();
                if let Some(uid) = self.rng.choice(open) {
                    people::lost(self, &uid, true, now);
                }
            }
            Event::Ends => self.end_window(now),
            Event::ClockSteps => {
                let ahead = [7_200_000, -7_200_000, 840_000, 840_000, 864_000_000];
                let ahead = *self.rng.choice(&ahead).unwrap();
                self.ahead[n] = ahead;
                self.say(|| format!("the clock of operator {n} steps to {ahead} ms ahead"));
            }
            Event::HoldCleared => self.betrayed(ask, Tampering::ClearHold),
            Event::Hidden => self.betrayed(ask, Tampering::Hides),
            Event::Destroyed => {
                self.betrayed(ask, Tampering::Destroy);
                if self.rng.bool() {
                    self.befall(n, Fate::Crash);
                }
            }
            Event::RecorderReachability => {
                if let Some(recorder) = self.recorders.all.values_mut().next() {
                    recorder.is_silent = !recorder.is_silent;
                }
            }
            Event::Stops => self.befall(n, Fate::Stops),
        }
        self.see();
    }

    /// An incident that covers just what the operator is busy with.
    fn declare_over(&mut self, ask: &Ask, now: Timestamp) {
        // Of those that only the ledger knows, nobody can resolve any.
        if self.api.open(now).len() >= MOST || super::checks::ledger(&self.store).len() >= 3 * MOST {
            return;
        }
        let Some(key) = about(self, ask) else { return };
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
        self.say(|| format!("{uid} is declared meanwhile: {incident:?}"));
        let cover = cover(&self.api.holds[&uid]);
        self.checks.record_declaration(&uid, cover, &self.store, now);
    }

    /// Whatever the operator is busy with is not needed any more.
    fn resolve_concerned(&mut self, ask: &Ask, now: Timestamp) {
        let key = about(self, ask);
        let open = self.api.open(now);
        let covers = |uid: &&String| {
            key.as_ref().is_none_or(|key| cover(&self.api.holds[*uid]).covers(&key.recording()))
        };
        if let Some(uid) = open.iter().find(covers) {
            self.say(|| format!("{uid} is resolved meanwhile"));
            self.api.resolve(uid, now);
        }
    }

    /// A backup of before a resolution is restored.
    fn reopened(&mut self, now: Timestamp) {
        let resolved = self.api.holds.iter().filter(|(_, hold)| is_resolved(hold, now));
        let resolved: Vec<String> = resolved.map(|(uid, _)| uid.clone()).collect();
        let Some(uid) = self.rng.choice(resolved) else {
            return;
        };
        self.api.change(&uid, |hold| {
            hold.spec.state = toezicht::api::HoldState::Open;
            hold.spec.resolution = None;
            // Its status is of that time, too.
            let placement = hold.status.as_mut().and_then(|status| status.placement.as_mut());
            if let Some(placement) = placement {
                placement.release_time = None;
            }
        });
        self.say(|| format!("{uid} is open again, out of a backup"));
        let cover = cover(&self.api.holds[&uid]);
        self.checks.record_declaration(&uid, cover, &self.store, now);
    }

    /// Somebody hides an entry of the ledger, and a backup of before its hold is restored.
    fn forgotten(&mut self, now: Timestamp) {
        let known = super::checks::ledger(&self.store).into_keys();
        let known: Vec<String> = known.filter(|uid| self.api.holds.contains_key(uid)).collect();
        let Some(uid) = self.rng.choice(known) else { return };
        if is_resolved(&self.api.holds[&uid], now) {
            return;
        }
        if self.rng.bool() {
            let by = self.administrator();
            let _ = self.store.delete(by, &format!("ledger/holds/{uid}.json"), None);
        }
        people::lost(self, &uid, false, now);
    }

    /// The window of what goes on ends now.
    fn end_window(&mut self, now: Timestamp) {
        let open = self.api.open(now);
        let ongoing = open.into_iter().find(|uid| self.api.holds[uid].spec.window.until.is_none());
        let Some(uid) = ongoing else { return };
        let until = now.max(self.api.holds[&uid].spec.window.from.0 + SignedDuration::from_secs(1));
        self.api.change(&uid, |hold| {
            hold.spec.window.until = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(until));
        });
        self.say(|| format!("the window of {uid} ends at {until}"));
        let cover = cover(&self.api.holds[&uid]);
        self.checks.record_declaration(&uid, cover, &self.store, now);
    }

    fn befall(&mut self, n: usize, fate: Fate) {
        self.befalls[n].0 = fate;
        self.befalls[n].1.notify_one();
    }

    /// Somebody does harm to what the operator has just looked at.
    fn betrayed(&mut self, ask: &Ask, harm: Tampering) {
        let Some(key) = about(self, ask) else { return };
        let key = key.to_string();
        let id = self.store.keys[&key].iter().find(|version| version.is_held());
        if let Some(id) = id.map(|version| version.id.clone()) {
            people::harm(self, &key, &id, harm);
        }
    }
}
