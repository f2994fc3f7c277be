//! The invariants, checked after every served request and at every claim, against the store and the declared holds
//! and not against the operator's own view.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use toezicht::api::IncidentHold;
use toezicht::api::condition::{ConditionFinding, ConditionType, Reason};
use toezicht::rules::Window;
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::Key;

use super::api::{Api, is_resolved};
use super::store::{Actor, Change, Effect, Store, Version};

/// The ceiling of all simulations.
pub const CEILING: SignedDuration = SignedDuration::from_hours(5 * 24);
/// Tolerance before the ceiling: the sweep deletes a little early, and clocks differ.
const AHEAD: SignedDuration = SignedDuration::from_mins(125);
/// Age below which the sender of a request has not given it up yet.
const MAX_REQUEST_AGE: SignedDuration = SignedDuration::from_secs(10);
/// Clock skew above which operators delete nothing.
const SKEW: SignedDuration = SignedDuration::from_secs(90);

type Id = (String, String);

/// State of the invariant checks.
#[derive(Default)]
pub struct Checks {
    /// Violations found so far.
    pub violations: Vec<String>,
    /// Minimum age of readable recordings.
    pub embargo: Option<SignedDuration>,
    /// Declared scopes with their start, by UID.
    declared: BTreeMap<String, Vec<(Timestamp, HoldScope)>>,
    /// True upload time of each version.
    uploaded_at: BTreeMap<Id, Timestamp>,
    /// Last time that anyone but the current operator changed a version's protection.
    disturbed: BTreeMap<Id, Timestamp>,
    /// Versions that existed when `Placed` was claimed, by UID.
    verified: BTreeMap<String, BTreeSet<Id>>,
    /// Scopes whose `Placed` is claimed now, as of the claim, by UID.
    claimed: BTreeMap<String, HoldScope>,
    /// Lost versions that no status has reported yet, by UID.
    unreported_losses: BTreeMap<String, Vec<Id>>,
    /// Last time that anyone but the operator changed the ledger.
    pub ledger_disturbed: Option<Timestamp>,
    /// Number of claims of each kind.
    pub claims: BTreeMap<&'static str, u64>,
}

/// Returns the key if an honest recorder uploaded the version.
fn honest_key(key: &str, version: &Version) -> Option<Key> {
    (version.by == Actor::Recorder && !version.is_marker).then(|| key.parse().ok())?
}

/// Returns the start of a recording's retention: its own start if it was uploaded between its end and its ceiling,
/// otherwise the upload time.
fn retention_start(key: &Key, version: &Version) -> Timestamp {
    let about = SignedDuration::from_secs(60);
    let is_plausible = key.end().duration_since(version.uploaded_at) <= about
        && version.uploaded_at.duration_since(key.start()) <= CEILING + about;
    if is_plausible { key.start() } else { version.uploaded_at }
}

/// Returns the ledger's open entries by UID.
pub fn open_entries(store: &Store) -> BTreeMap<String, LedgerEntry> {
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
    /// Records the declaration or change of a hold.
    pub fn record_declaration(&mut self, uid: &str, scope: HoldScope, store: &Store, now: Timestamp) {
        let scopes = self.declared.entry(uid.to_owned()).or_default();
        if !open_entries(store).contains_key(uid) {
            // No operator has read the earlier scope, and nothing was claimed of it.
            scopes.clear();
        }
        if let Some(until) = scope.window.until {
            // An ongoing window ends now at the earliest: no hold covers later recordings.
            for (_, before) in scopes.iter_mut().filter(|(_, scope)| scope.window.until.is_none()) {
                before.window = Window::new(before.window.from, Some(until.max(now)));
            }
        }
        scopes.push((now, scope));
    }

    /// Returns whether a loss is not reported yet.
    pub fn has_unreported_loss(&self) -> bool {
        !self.unreported_losses.is_empty()
    }

    fn fail(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// Returns an open hold, declared by `at`, that covers a recording.
    fn covering(&self, key: &Key, store: &Store, api: &Api, at: Timestamp, now: Timestamp) -> Option<String> {
        let is_declared = |uid: &str| {
            let scopes = self.declared.get(uid).into_iter().flatten();
            scopes.clone().any(|(since, scope)| *since <= at && scope.covers(&key.recording()))
        };
        let open = api.holds.iter().filter(|(_, hold)| !is_resolved(hold, now));
        if let Some((uid, _)) = open.clone().find(|(uid, _)| is_declared(uid)) {
            return Some(uid.clone());
        }
        // Holds that only the ledger knows.
        let orphans = open_entries(store).into_values().filter(|entry| !api.holds.contains_key(&entry.uid));
        // An entry's acceptance time is by an operator's clock, which may be wrong.
        let since = |entry: &LedgerEntry| {
            let declared = self.declared.get(&entry.uid).and_then(|scopes| scopes.first());
            declared.map_or(entry.accepted_at, |(since, _)| *since)
        };
        let mut orphans = orphans.filter(|entry| since(entry) <= at && entry.scope.covers(&key.recording()));
        orphans.next().map(|entry| entry.uid)
    }

    /// Checks an effect in the store.
    pub fn check_effect(&mut self, effect: &Effect, store: &Store, api: &Api, now: Timestamp) {
        let id = (effect.key.clone(), effect.id.clone());
        match &effect.change {
            Change::Put => {
                self.uploaded_at.insert(id, now);
                self.check_put(effect, store, api, now);
            }
            Change::MarkerAdded => drop(self.uploaded_at.insert(id, now)),
            Change::Removed => self.check_removal(effect, id, store, api, now),
            Change::Hold(_) | Change::Tag(_) => {
                let is_prompt = now.duration_since(effect.sent) < MAX_REQUEST_AGE;
                if !is_prompt || !matches!(effect.actor, Actor::Operator(_)) {
                    self.disturbed.insert(id, now);
                } else {
                    self.check_protection_change(effect, store, now);
                }
            }
        }
    }

    /// Checks that an upload under a hold with `Placed` has a tag that protects it from the lifecycle.
    fn check_put(&mut self, effect: &Effect, store: &Store, api: &Api, now: Timestamp) {
        let version = store.find(&effect.key, &effect.id);
        let Some((version, key)) =
            version.and_then(|version| Some((version, honest_key(&effect.key, version)?)))
        else {
            return;
        };
        if version.tag() == Some("sealed") || is_late_duplicate(store, &effect.key, &effect.id) {
            return;
        }
        let is_open = |uid: &String| api.holds.get(uid).is_none_or(|hold| !is_resolved(hold, now));
        let mut claimed = self.claimed.iter().filter(|(uid, _)| is_open(uid));
        if let Some((uid, _)) = claimed.find(|(_, scope)| scope.covers(&key.recording())) {
            self.fail(format!(
                "{:?} was uploaded with {:?}, after Placed was claimed of {uid}",
                effect.key, version.tags
            ));
        }
    }

    fn check_removal(&mut self, effect: &Effect, id: Id, store: &Store, api: &Api, now: Timestamp) {
        let Some(removed) = &effect.removed else { return };
        let Some(key) = honest_key(&effect.key, removed) else {
            return;
        };
        let covering = self.covering(&key, store, api, effect.sent, now);
        let verified = |uid: &String| self.verified.get(uid).is_some_and(|verified| verified.contains(&id));
        match effect.actor {
            Actor::Operator(_) => {
                if let Some(uid) = covering {
                    return self.fail(format!("{id:?} is deleted although {uid} covers it"));
                }
                let uploaded_at = self.uploaded_at.get(&id).copied().unwrap_or(now);
                if key.start().min(uploaded_at) + CEILING > now + AHEAD {
                    self.fail(format!("{id:?} is deleted long before its ceiling"));
                }
            }
            Actor::Lifecycle => {
                if let Some(uid) = covering.filter(verified) {
                    self.fail(format!("{id:?} is expired although it was placed for {uid}"));
                }
            }
            Actor::Admin => {
                let open = api.open(now);
                for uid in open.into_iter().filter(verified) {
                    self.unreported_losses.entry(uid).or_default().push(id.clone());
                }
            }
            _ => self.fail(format!("{:?} deleted {id:?}", effect.actor)),
        }
    }

    fn check_protection_change(&mut self, effect: &Effect, store: &Store, now: Timestamp) {
        let Some(version) = store.find(&effect.key, &effect.id) else {
            return;
        };
        let Some(key) = honest_key(&effect.key, version) else {
            return;
        };
        if version.tag() == Some("held") && !version.is_held() {
            let at = self.disturbed.get(&(effect.key.clone(), effect.id.clone()));
            if at.is_none_or(|at| now.duration_since(*at) > SignedDuration::from_mins(1)) {
                self.fail(format!(
                    "{:?} is readable as held but not protected: {:?}",
                    effect.key, effect.change
                ));
            }
        }
        match &effect.change {
            Change::Hold(true) => {
                let is_explained =
                    open_entries(store).values().any(|entry| entry.scope.covers(&key.recording()));
                let is_calm = self
                    .ledger_disturbed
                    .is_none_or(|at| now.duration_since(at) > SignedDuration::from_hours(1));
                let is_plausible = retention_start(&key, version) == key.start();
                if !is_explained && is_calm && is_plausible {
                    self.fail(format!("{:?} is held before the ledger has a hold for it", effect.key));
                }
            }
            Change::Tag(Some(tag)) if tag == "held" => {
                // If the recorder's clock is ahead, the key's end is in the future. The store's clock may be off too.
                let id = (effect.key.clone(), effect.id.clone());
                let uploaded_at = self.uploaded_at.get(&id).copied().unwrap_or(now);
                let opens = self.embargo.map(|embargo| key.end().min(uploaded_at + SKEW) + embargo);
                if opens.is_some_and(|opens| opens > now + SKEW) {
                    self.fail(format!("{:?} is readable before its embargo has passed", effect.key));
                }
            }
            _ => (),
        }
    }

    fn count(&mut self, claim: &'static str) {
        *self.claims.entry(claim).or_default() += 1;
    }

    /// Checks a claim of `Placed` by a reconcile that began at `began`.
    pub fn check_placed(&mut self, uid: &str, hold: &IncidentHold, store: &Store, began: Timestamp) {
        self.count("Placed");
        let scope = super::api::scope_of(hold);
        self.claimed.insert(uid.to_owned(), scope.clone());
        let mut verified = BTreeSet::new();
        for (key, version) in store.versions() {
            let Some(parsed) = honest_key(key, version) else {
                continue;
            };
            if !scope.covers(&parsed.recording()) {
                continue;
            }
            let id = (key.clone(), version.id.clone());
            let uploaded_at = self.uploaded_at.get(&id).copied().unwrap_or(began);
            let is_disturbed = self.disturbed.get(&id).is_some_and(|at| *at >= began);
            if is_disturbed || is_late_duplicate(store, key, &id.1) {
                continue;
            }
            if uploaded_at >= began {
                if !version.is_held() && version.tag() != Some("sealed") {
                    self.fail(format!(
                        "Placed of {uid}: {key:?} was uploaded meanwhile, tagged {:?}",
                        version.tags
                    ));
                }
                continue;
            }
            let is_tagged = matches!(version.tag(), Some("held" | "sealed"));
            // A later delete marker is the next reconcile's work.
            let is_before = |marker: &Version| self.uploaded_at[&(key.clone(), marker.id.clone())] < began;
            let first = store.keys[key].first();
            let is_hidden = first.is_some_and(|first| first.is_marker && is_before(first));
            if !version.is_held() || !is_tagged || is_hidden {
                self.fail(format!(
                    "Placed of {uid}: {key:?} {} has legal hold {:?}, tags {:?}, hidden {is_hidden}",
                    version.id, version.legal_hold, version.tags
                ));
            }
            verified.insert(id);
        }
        self.verified.insert(uid.to_owned(), verified);
    }

    /// Records that `Placed` is no longer claimed.
    pub fn withdraw_placed(&mut self, uid: &str) {
        self.claimed.remove(uid);
    }

    /// Checks a claim of `Released` by a reconcile that began at `began`. Ceilings count only if the hold was ever in
    /// effect.
    pub fn check_released(
        &mut self,
        uid: &str,
        has_counted: bool,
        store: &Store,
        api: &Api,
        began: Timestamp,
        now: Timestamp,
    ) {
        self.count("Released");
        self.verified.remove(uid);
        self.unreported_losses.remove(uid);
        let Some(scopes) = self.declared.get(uid).cloned() else {
            return;
        };
        let mut violations = Vec::new();
        for (key, version) in store.versions() {
            let Some(parsed) = honest_key(key, version) else {
                continue;
            };
            if !scopes.iter().any(|(_, scope)| scope.covers(&parsed.recording())) {
                continue;
            }
            let id = (key.clone(), version.id.clone());
            let is_new = self.uploaded_at.get(&id).is_some_and(|uploaded_at| *uploaded_at >= began);
            let is_disturbed = self.disturbed.get(&id).is_some_and(|at| *at >= began);
            let is_kept = self.covering(&parsed, store, api, now, now).is_some()
                // Another hold that is resolved but not released yet.
                || open_entries(store).values().any(|entry| entry.uid != uid && entry.scope.covers(&parsed.recording()));
            if is_new || is_disturbed || is_kept || is_late_duplicate(store, key, &id.1) {
                continue;
            }
            // A recording with an implausible key may also be held for the time of its upload.
            let is_protected = is_protected(version) && retention_start(&parsed, version) == parsed.start();
            let is_past_ceiling = has_counted && parsed.start() + CEILING < began - SKEW;
            if is_protected || is_past_ceiling {
                violations.push(format!(
                    "Released of {uid}: {key:?} has legal hold {:?}, tags {:?}, past its ceiling {is_past_ceiling}",
                    version.legal_hold, version.tags
                ));
            }
        }
        self.violations.extend(violations);
    }

    /// Checks a claim of `Compliant` by a full audit that began at `began`.
    pub fn check_compliant(&mut self, store: &Store, api: &Api, began: Timestamp, now: Timestamp) {
        self.count("Compliant");
        let mut violations = Vec::new();
        for (key, version) in store.versions() {
            let Some(parsed) = honest_key(key, version) else {
                continue;
            };
            let is_new = self
                .uploaded_at
                .get(&(key.clone(), version.id.clone()))
                .is_some_and(|uploaded_at| *uploaded_at >= began);
            let is_past_ceiling = retention_start(&parsed, version) + CEILING < began - SKEW;
            // A hold that was resolved during the audit was open at its start.
            let is_kept = self.covering(&parsed, store, api, now, began).is_some();
            let moved = version.modified.duration_since(version.uploaded_at) > SKEW;
            // Some stores no longer report the age of a version that was held once.
            if is_past_ceiling && !is_new && !is_kept && !moved {
                violations.push(format!("Compliant: {key:?} is past its ceiling and no open hold covers it"));
            }
        }
        self.violations.extend(violations);
    }

    /// Records that a status reports lost versions of a hold.
    pub fn record_loss_report(&mut self, uid: &str) {
        self.count("HeldVersionsLost");
        self.unreported_losses.remove(uid);
    }

    /// Checks the final state after the quiet phase.
    pub fn check_settled(&mut self, store: &Store, api: &Api, now: Timestamp) {
        for (uid, lost) in std::mem::take(&mut self.unreported_losses) {
            self.fail(format!("no status reports that {uid} lost {lost:?}"));
        }
        let (mut violations, entries) = (unsettled(store, api, now), open_entries(store));
        let is_old = |key: &str, version: &Version| {
            let uploaded_at = self.uploaded_at[&(key.to_owned(), version.id.clone())];
            uploaded_at < now - SignedDuration::from_hours(1)
        };
        for (key, version) in store.versions() {
            let Some(parsed) = honest_key(key, version) else {
                continue;
            };
            let covering = self.covering(&parsed, store, api, now, now);
            let is_hidden = store.keys[key].first().is_some_and(|first| first.is_marker);
            match covering {
                Some(uid) if !version.is_held() && is_old(key, version) => {
                    violations.push(format!("{key:?} is not protected although {uid} covers it"));
                }
                Some(uid) if is_hidden && is_old(key, version) => {
                    violations.push(format!("{key:?} is hidden although {uid} covers it"));
                }
                // A recording with an implausible key may also be held for the time of its upload. An entry's scope
                // never shrinks, so a scope that was corrected later explains a protection too.
                None if is_protected(version)
                    && !entries.values().any(|entry| entry.scope.covers(&parsed.recording()))
                    && retention_start(&parsed, version) == parsed.start()
                    && self.ledger_disturbed.is_none()
                    && is_old(key, version)
                    && (version.is_held() || retagged_by(&parsed, version) < now)
                    && !is_late_duplicate(store, key, &version.id) =>
                {
                    violations.push(format!(
                        "{key:?} has legal hold {:?} and tags {:?} that no hold explains",
                        version.legal_hold, version.tags
                    ));
                }
                None if retention_start(&parsed, version) + CEILING
                    < now - SignedDuration::from_hours(26) =>
                {
                    violations.push(format!("{key:?} {} outlived its ceiling: {version:?}", version.id));
                }
                _ => (),
            }
        }
        self.violations.extend(violations);
    }
}

/// Returns when the sweep must have reset an unexplained tag without a legal hold: after the end of the day for
/// uploads of that day. For later uploads the day of the reset is unknown.
fn retagged_by(key: &Key, version: &Version) -> Timestamp {
    let day = key.start().to_zoned(jiff::tz::TimeZone::UTC).date();
    let over = day.tomorrow().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    if version.uploaded_at < over { over + SignedDuration::from_hours(3) } else { Timestamp::MAX }
}

fn is_protected(version: &Version) -> bool {
    version.is_held() || matches!(version.tag(), Some("held" | "sealed"))
}

/// Returns what did not settle: holds without `Placed` or `Released`, and ledger entries that no operator will ever
/// close.
fn unsettled(store: &Store, api: &Api, now: Timestamp) -> Vec<String> {
    let mut violations = Vec::new();
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
            violations.push(format!("{uid}, resolved {is_resolved}, never settles: {finding:?}"));
        }
    }
    for (uid, entry) in open_entries(store) {
        let is_succeeded = |hold: &IncidentHold| {
            hold.metadata.name.as_ref() == Some(&entry.name) && hold.spec.reference == entry.reference
        };
        if !api.holds.contains_key(&uid) && api.holds.values().any(is_succeeded) {
            violations.push(format!("{uid} stays open although it was created again"));
        }
    }
    violations
}

/// Returns whether a version may be a late duplicate: if the store ignores `If-None-Match`, an abandoned put may
/// arrive after its retry.
fn is_late_duplicate(store: &Store, key: &str, id: &str) -> bool {
    let real = store.keys[key].iter().filter(|version| !version.is_marker);
    store.kind.ignores_condition && real.clone().count() > 1 && real.clone().any(|version| version.id != id)
}
