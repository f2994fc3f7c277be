//! What must never be, looked at after every request that the store has served and at every claim: by what is in the
//! store and what people declared, not by what the operator believes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use toezicht::api::IncidentHold;
use toezicht::api::condition::{ConditionFinding, ConditionType, Reason};
use toezicht::rules::Window;
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::Key;

use super::api::{Api, is_resolved};
use super::store::{Effect, Store, Version, What, Who};

/// The ceiling of all simulations.
pub const CEILING: SignedDuration = SignedDuration::from_hours(5 * 24);
/// What is over its ceiling within this is deleted already, and clocks differ.
const AHEAD: SignedDuration = SignedDuration::from_mins(125);
/// A request that is younger was not given up by whoever sent it.
const MAX_REQUEST_AGE: SignedDuration = SignedDuration::from_secs(10);
/// Clocks of operators that differ by more delete nothing.
const SKEW: SignedDuration = SignedDuration::from_secs(90);

type Id = (String, String);

/// See the module.
#[derive(Default)]
pub struct Checks {
    /// What was broken.
    pub broken: Vec<String>,
    /// How old what is readable must be.
    pub embargo: Option<SignedDuration>,
    /// What was declared, and since when: by UID.
    declared: BTreeMap<String, Vec<(Timestamp, HoldScope)>>,
    /// When the store truly had each.
    taken: BTreeMap<Id, Timestamp>,
    /// When somebody other than the operator of the time last took something off a version.
    disturbed: BTreeMap<Id, Timestamp>,
    /// What was there when `Placed` was said, by UID.
    proved: BTreeMap<String, BTreeSet<Id>>,
    /// What `Placed` is said of now, as it was when it was said: by UID.
    claimed: BTreeMap<String, HoldScope>,
    /// Of what is lost, what nobody was told yet: by UID.
    owed: BTreeMap<String, Vec<Id>>,
    /// When somebody last changed the ledger who is not the operator.
    pub ledger_disturbed: Option<Timestamp>,
    /// How often each claim was made.
    pub claims: BTreeMap<&'static str, u64>,
}

/// The version is one that an honest recorder made.
fn honest(key: &str, version: &Version) -> Option<Key> {
    (version.by == Who::Recorder && !version.is_marker).then(|| key.parse().ok())?
}

/// From when its ceiling counts: when it began, if the store took it between its end and its ceiling.
fn counts_from(key: &Key, version: &Version) -> Timestamp {
    let about = SignedDuration::from_secs(60);
    let is_plausible = key.end().duration_since(version.taken) <= about
        && version.taken.duration_since(key.start()) <= CEILING + about;
    if is_plausible { key.start() } else { version.taken }
}

/// What the ledger has open, by UID.
pub fn ledger(store: &Store) -> BTreeMap<String, LedgerEntry> {
    let entries = store.keys.range("ledger/holds/".to_owned()..);
    let entries = entries.take_while(|(key, _)| key.starts_with("ledger/holds/"));
    entries
        .filter_map(|(_, versions)| versions.iter().find(|version| !version.is_marker))
        .filter_map(|version| serde_json::from_slice::<LedgerEntry>(&version.body).ok())
        .filter(LedgerEntry::is_open)
        .map(|entry| (entry.uid.clone(), entry))
        .collect()
}

impl Checks {
    /// Somebody declared, or changed, a hold.
    pub fn record_declaration(&mut self, uid: &str, cover: HoldScope, store: &Store, now: Timestamp) {
        let covers = self.declared.entry(uid.to_owned()).or_default();
        if !ledger(store).contains_key(uid) {
            // Nobody has seen what it was before, nor said anything of it.
            covers.clear();
        }
        if let Some(until) = cover.window.until {
            // What went on ends, at the earliest now: later recordings are no one's to keep.
            for (_, before) in covers.iter_mut().filter(|(_, it)| it.window.until.is_none()) {
                before.window = Window::new(before.window.from, Some(until.max(now)));
            }
        }
        covers.push((now, cover));
    }

    /// Whether there is a loss of which nobody was told yet.
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    fn fail(&mut self, what: String) {
        self.broken.push(what);
    }

    /// Which open hold covers a recording, of those that were declared by `at`.
    fn covering(&self, key: &Key, store: &Store, api: &Api, at: Timestamp, now: Timestamp) -> Option<String> {
        let is_declared = |uid: &str| {
            let covers = self.declared.get(uid).into_iter().flatten();
            covers.clone().any(|(since, cover)| *since <= at && cover.covers(&key.recording()))
        };
        let open = api.holds.iter().filter(|(_, hold)| !is_resolved(hold, now));
        if let Some((uid, _)) = open.clone().find(|(uid, _)| is_declared(uid)) {
            return Some(uid.clone());
        }
        // Those that only the ledger knows.
        let orphans = ledger(store).into_values().filter(|entry| !api.holds.contains_key(&entry.uid));
        // An entry says since when by the clock of an operator, which may be wrong.
        let since = |entry: &LedgerEntry| {
            let declared = self.declared.get(&entry.uid).and_then(|covers| covers.first());
            declared.map_or(entry.accepted_at, |(since, _)| *since)
        };
        let mut orphans = orphans.filter(|entry| since(entry) <= at && entry.scope.covers(&key.recording()));
        orphans.next().map(|entry| entry.uid)
    }

    /// Something happened in the store.
    pub fn see(&mut self, effect: &Effect, store: &Store, api: &Api, now: Timestamp) {
        let id = (effect.key.clone(), effect.id.clone());
        match &effect.what {
            What::Put => {
                self.taken.insert(id, now);
                self.check_put(effect, store, api, now);
            }
            What::MarkerAdded => drop(self.taken.insert(id, now)),
            What::Removed => self.check_removal(effect, id, store, api, now),
            What::Hold(_) | What::Tag(_) => {
                let is_prompt = now.duration_since(effect.sent) < MAX_REQUEST_AGE;
                if !is_prompt || !matches!(effect.who, Who::Operator(_)) {
                    self.disturbed.insert(id, now);
                } else {
                    self.check_protection_change(effect, store, now);
                }
            }
        }
    }

    /// Whatever a recorder uploads while `Placed` is said is kept from lifecycle by its tag.
    fn check_put(&mut self, effect: &Effect, store: &Store, api: &Api, now: Timestamp) {
        let version = store.find(&effect.key, &effect.id);
        let Some((version, key)) = version.and_then(|it| Some((it, honest(&effect.key, it)?))) else {
            return;
        };
        if version.tag() == Some("sealed") || is_late_duplicate(store, &effect.key, &effect.id) {
            return;
        }
        let is_open = |uid: &String| api.holds.get(uid).is_none_or(|hold| !is_resolved(hold, now));
        let mut claimed = self.claimed.iter().filter(|(uid, _)| is_open(uid));
        if let Some((uid, _)) = claimed.find(|(_, cover)| cover.covers(&key.recording())) {
            self.fail(format!(
                "{:?} comes with {:?}, after Placed was said of {uid}",
                effect.key, version.tags
            ));
        }
    }

    fn check_removal(&mut self, effect: &Effect, id: Id, store: &Store, api: &Api, now: Timestamp) {
        let Some(was) = &effect.was else { return };
        let Some(key) = honest(&effect.key, was) else {
            return;
        };
        let covering = self.covering(&key, store, api, effect.sent, now);
        let proved = |uid: &String| self.proved.get(uid).is_some_and(|proved| proved.contains(&id));
        match effect.who {
            Who::Operator(_) => {
                if let Some(uid) = covering {
                    return self.fail(format!("{id:?} is deleted, and {uid} covers it"));
                }
                let taken = self.taken.get(&id).copied().unwrap_or(now);
                if key.start().min(taken) + CEILING > now + AHEAD {
                    self.fail(format!("{id:?} is deleted long before its ceiling"));
                }
            }
            Who::Lifecycle => {
                if let Some(uid) = covering.filter(proved) {
                    self.fail(format!("{id:?} is expired, though it was placed for {uid}"));
                }
            }
            Who::Admin => {
                let open = api.open(now);
                for uid in open.into_iter().filter(proved) {
                    self.owed.entry(uid).or_default().push(id.clone());
                }
            }
            _ => self.fail(format!("{:?} deleted {id:?}", effect.who)),
        }
    }

    fn check_protection_change(&mut self, effect: &Effect, store: &Store, now: Timestamp) {
        let Some(version) = store.find(&effect.key, &effect.id) else {
            return;
        };
        let Some(key) = honest(&effect.key, version) else {
            return;
        };
        if version.tag() == Some("held") && !version.is_held() {
            let at = self.disturbed.get(&(effect.key.clone(), effect.id.clone()));
            if at.is_none_or(|at| now.duration_since(*at) > SignedDuration::from_mins(1)) {
                self.fail(format!(
                    "{:?} can be read as held, and is not protected: {:?}",
                    effect.key, effect.what
                ));
            }
        }
        match &effect.what {
            What::Hold(true) => {
                let is_explained = ledger(store).values().any(|entry| entry.scope.covers(&key.recording()));
                let is_calm = self
                    .ledger_disturbed
                    .is_none_or(|at| now.duration_since(at) > SignedDuration::from_hours(1));
                let is_plausible = counts_from(&key, version) == key.start();
                if !is_explained && is_calm && is_plausible {
                    self.fail(format!("{:?} is held before the ledger says why", effect.key));
                }
            }
            What::Tag(Some(tag)) if tag == "held" => {
                // Of a recorder whose clock is ahead, the key says more than there can be. The store's own clock counts as little.
                let id = (effect.key.clone(), effect.id.clone());
                let taken = self.taken.get(&id).copied().unwrap_or(now);
                let opens = self.embargo.map(|embargo| key.end().min(taken + SKEW) + embargo);
                if opens.is_some_and(|opens| opens > now + SKEW) {
                    self.fail(format!("{:?} can be read before its embargo has passed", effect.key));
                }
            }
            _ => (),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.claims.entry(what).or_default() += 1;
    }

    /// `Placed=True` is said of a hold, by a look that began at `began`.
    pub fn placed(&mut self, uid: &str, hold: &IncidentHold, store: &Store, began: Timestamp) {
        self.count("Placed");
        let cover = super::api::cover(hold);
        self.claimed.insert(uid.to_owned(), cover.clone());
        let mut proved = BTreeSet::new();
        for (key, version) in store.versions() {
            let Some(parsed) = honest(key, version) else {
                continue;
            };
            if !cover.covers(&parsed.recording()) {
                continue;
            }
            let id = (key.clone(), version.id.clone());
            let taken = self.taken.get(&id).copied().unwrap_or(began);
            let is_disturbed = self.disturbed.get(&id).is_some_and(|at| *at >= began);
            if is_disturbed || is_late_duplicate(store, key, &id.1) {
                continue;
            }
            if taken >= began {
                if !version.is_held() && version.tag() != Some("sealed") {
                    self.fail(format!("Placed of {uid}: {key:?} came meanwhile, tagged {:?}", version.tags));
                }
                continue;
            }
            let is_tagged = matches!(version.tag(), Some("held" | "sealed"));
            // What was hidden since is the next look's.
            let is_before = |marker: &Version| self.taken[&(key.clone(), marker.id.clone())] < began;
            let first = store.keys[key].first();
            let is_hidden = first.is_some_and(|first| first.is_marker && is_before(first));
            if !version.is_held() || !is_tagged || is_hidden {
                self.fail(format!(
                    "Placed of {uid}: {key:?} {} has legal hold {:?}, tags {:?}, hidden {is_hidden}",
                    version.id, version.legal_hold, version.tags
                ));
            }
            proved.insert(id);
        }
        self.proved.insert(uid.to_owned(), proved);
    }

    /// It is not said any more.
    pub fn withdraw_placed(&mut self, uid: &str) {
        self.claimed.remove(uid);
    }

    /// `Released=True` is said of a hold, by a look that began at `began`. One that never counted says nothing of ceilings.
    pub fn released(
        &mut self,
        uid: &str,
        has_counted: bool,
        store: &Store,
        api: &Api,
        began: Timestamp,
        now: Timestamp,
    ) {
        self.count("Released");
        self.proved.remove(uid);
        self.owed.remove(uid);
        let Some(covers) = self.declared.get(uid).cloned() else {
            return;
        };
        let mut wrong = Vec::new();
        for (key, version) in store.versions() {
            let Some(parsed) = honest(key, version) else {
                continue;
            };
            if !covers.iter().any(|(_, cover)| cover.covers(&parsed.recording())) {
                continue;
            }
            let id = (key.clone(), version.id.clone());
            let is_new = self.taken.get(&id).is_some_and(|taken| *taken >= began);
            let is_disturbed = self.disturbed.get(&id).is_some_and(|at| *at >= began);
            let is_kept = self.covering(&parsed, store, api, now, now).is_some()
                // Another that is resolved, and not released yet.
                || ledger(store).values().any(|entry| entry.uid != uid && entry.scope.covers(&parsed.recording()));
            if is_new || is_disturbed || is_kept || is_late_duplicate(store, key, &id.1) {
                continue;
            }
            // One whose key cannot be true is kept for holds over the time in which it came, too.
            let is_marked = is_marked(version) && counts_from(&parsed, version) == parsed.start();
            let is_over = has_counted && parsed.start() + CEILING < began - SKEW;
            if is_marked || is_over {
                wrong.push(format!(
                    "Released of {uid}: {key:?} has legal hold {:?}, tags {:?}, over its ceiling {is_over}",
                    version.legal_hold, version.tags
                ));
            }
        }
        self.broken.extend(wrong);
    }

    /// `Compliant` is said, by an audit of everything that began at `began`.
    pub fn compliant(&mut self, store: &Store, api: &Api, began: Timestamp, now: Timestamp) {
        self.count("Compliant");
        let mut wrong = Vec::new();
        for (key, version) in store.versions() {
            let Some(parsed) = honest(key, version) else {
                continue;
            };
            let is_new =
                self.taken.get(&(key.clone(), version.id.clone())).is_some_and(|taken| *taken >= began);
            let is_over = counts_from(&parsed, version) + CEILING < began - SKEW;
            // What was resolved while it was made was open when it began.
            let is_kept = self.covering(&parsed, store, api, now, began).is_some();
            let moved = version.modified.duration_since(version.taken) > SKEW;
            // Of what was held once, such stores do not tell any more how old it is.
            if is_over && !is_new && !is_kept && !moved {
                wrong.push(format!("Compliant: {key:?} is over its ceiling, and nothing open covers it"));
            }
        }
        self.broken.extend(wrong);
    }

    /// Somebody was told that held versions of these holds are gone.
    pub fn told(&mut self, uid: &str) {
        self.count("HeldVersionsLost");
        self.owed.remove(uid);
    }

    /// When all has been calm for long.
    pub fn settled(&mut self, store: &Store, api: &Api, now: Timestamp) {
        for (uid, lost) in std::mem::take(&mut self.owed) {
            self.fail(format!("nobody was told that {uid} lost {lost:?}"));
        }
        let (mut wrong, entries) = (unsettled(store, api, now), ledger(store));
        let is_old = |key: &str, version: &Version| {
            let taken = self.taken[&(key.to_owned(), version.id.clone())];
            taken < now - SignedDuration::from_hours(1)
        };
        for (key, version) in store.versions() {
            let Some(parsed) = honest(key, version) else {
                continue;
            };
            let covering = self.covering(&parsed, store, api, now, now);
            let is_hidden = store.keys[key].first().is_some_and(|first| first.is_marker);
            match covering {
                Some(uid) if !version.is_held() && is_old(key, version) => {
                    wrong.push(format!("{key:?} is not protected, though {uid} covers it"));
                }
                Some(uid) if is_hidden && is_old(key, version) => {
                    wrong.push(format!("{key:?} is hidden, though {uid} covers it"));
                }
                // One whose key cannot be true is kept for holds over the time in which it came, too.
                // An entry never covers less than it did: what somebody changed his mind about explains a mark, too.
                None if is_marked(version)
                    && !entries.values().any(|entry| entry.scope.covers(&parsed.recording()))
                    && counts_from(&parsed, version) == parsed.start()
                    && self.ledger_disturbed.is_none()
                    && is_old(key, version)
                    && (version.is_held() || retagged_by(&parsed, version) < now)
                    && !is_late_duplicate(store, key, &version.id) =>
                {
                    wrong.push(format!(
                        "{key:?} has legal hold {:?}, tags {:?}, and nothing explains it",
                        version.legal_hold, version.tags
                    ));
                }
                None if counts_from(&parsed, version) + CEILING < now - SignedDuration::from_hours(26) => {
                    wrong.push(format!("{key:?} {} outlived its ceiling: {version:?}", version.id));
                }
                _ => (),
            }
        }
        self.broken.extend(wrong);
    }
}

/// When the sweep has put back a tag that nothing explains and that no legal hold goes with: once the day is over, of what came
/// within it; of what came later, nobody can say on which day of four weeks.
fn retagged_by(key: &Key, version: &Version) -> Timestamp {
    let day = key.start().to_zoned(jiff::tz::TimeZone::UTC).date();
    let over = day.tomorrow().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    if version.taken < over { over + SignedDuration::from_hours(3) } else { Timestamp::MAX }
}

fn is_marked(version: &Version) -> bool {
    version.is_held() || matches!(version.tag(), Some("held" | "sealed"))
}

/// What did not come to rest: holds of which nobody says that they are released, or placed; and entries of the ledger that
/// nobody will ever close.
fn unsettled(store: &Store, api: &Api, now: Timestamp) -> Vec<String> {
    let mut wrong = Vec::new();
    for (uid, hold) in &api.holds {
        let is_resolved = is_resolved(hold, now);
        let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
        let accepted = ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, String::new());
        let finding = if is_resolved {
            toezicht::controllers::hold::status::released(hold, placement, true)
        } else {
            Some(toezicht::controllers::hold::status::placed(hold, &accepted, placement, now))
        };
        if !finding.as_ref().is_some_and(ConditionFinding::is_true) {
            wrong.push(format!("{uid}, resolved {is_resolved}, never settles: {finding:?}"));
        }
    }
    for (uid, entry) in ledger(store) {
        let is_succeeded = |hold: &IncidentHold| {
            hold.metadata.name.as_ref() == Some(&entry.name) && hold.spec.reference == entry.reference
        };
        if !api.holds.contains_key(&uid) && api.holds.values().any(is_succeeded) {
            wrong.push(format!("{uid} stays open, though it was made anew"));
        }
    }
    wrong
}

/// A put that was given up may land after its repeat, where the store ignores the condition.
fn is_late_duplicate(store: &Store, key: &str, id: &str) -> bool {
    let real = store.keys[key].iter().filter(|version| !version.is_marker);
    store.kind.ignores_condition && real.clone().count() > 1 && real.clone().any(|version| version.id != id)
}
