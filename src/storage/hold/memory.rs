//! What the operator remembers of held versions: a cache. Losing it costs requests, never a claim.
//!
//! Two things are remembered for each Site. The marks that were read of a version, so that they are not read again before it
//! is time: a hold over a day of five cameras has seven thousand. And the versions that a hold's manifest lists, by which
//! losses are found: a set, since a number that grew would hide what went.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::coverage::Coverage;
use super::manifest::{Line, Missing};
use super::read_marks::{Read, ReadMarks};
use super::room::{Budget, FOUND, Fingerprint, IN_PLACE, IN_SET, Room, Versions};
use super::turn::Turn;
use super::{HoldError, Place};
use crate::protocol::cover::Cover;
use crate::storage::aging::Stored;
use crate::storage::listing::Listed;
use crate::storage::tag::RetentionTag;
use crate::storage::under_way::UnderWay;

/// What is remembered of one Site's held versions.
#[derive(Debug, Default)]
pub struct Memory {
    hasher: RandomState,
    read: Mutex<ReadMarks>,
    told_room: Room,
    listed: Mutex<HashMap<String, Arc<Told>>>,
    registered: Mutex<BTreeSet<String>>,
    /// Since when holds were asked about with their scope, by UID.
    asked: Mutex<HashMap<String, (String, Instant)>>,
    pub(in crate::storage) under_way: UnderWay,
    /// The turn of passes that place.
    pub placing: Turn,
    pub(super) releasing: Turn,
}

/// What the manifest of a hold lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    versions: Versions,
    /// Where they are, also outside the hold's window: a key may have been taken for untrue when it was held.
    places: BTreeMap<Place, Vec<Fingerprint>>,
    missing: Vec<Missing>,
    sealed: u64,
    /// Some of them the manifest does not list: they were gone when it was to be written.
    is_unwritten: bool,
}

impl Told {
    pub(super) fn new(memory: &Memory, missing: &[Missing], sealed: u64) -> Self {
        Self {
            versions: Versions::within(&memory.told_room, IN_PLACE),
            missing: missing.to_vec(),
            sealed,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, memory: &Memory, line: &Line) {
        let version = memory.fingerprint(&line.key, &line.version_id);
        let was_short = self.is_short();
        let is_new = self.versions.insert(version);
        self.note_place(&line.key, version, is_new);
        if self.is_short() && !was_short {
            self.places.values_mut().for_each(|there| *there = Vec::new());
        }
    }

    /// Adds what a pass found, and took room for.
    pub(super) fn push(&mut self, memory: &Memory, line: &Line) {
        let version = memory.fingerprint(&line.key, &line.version_id);
        let is_new = !self.versions.has(version);
        self.versions.push(version);
        self.note_place(&line.key, version, is_new);
    }

    fn note_place(&mut self, key: &str, version: Fingerprint, is_new: bool) {
        if let Ok(key) = key.parse() {
            let there = self.places.entry(Place::of(&key)).or_default();
            there.extend(is_new.then_some(version));
        }
    }

    /// Of what a pass found, what another listing has not was lost since: no manifest has listed it.
    pub(super) fn and_lost(mut self, found: &Coverage) -> Self {
        found.present.iter().for_each(|version| self.versions.push(version));
        self.is_unwritten = true;
        self
    }

    /// Without what a pass did not find, which was told; the manifest still lists it.
    fn without_lost(&self, found: &Coverage) -> Self {
        let hidden = found.hidden.iter().filter_map(|place| self.places.get(place));
        let hidden: HashSet<&Fingerprint> = hidden.flatten().collect();
        let mut left = self.clone();
        left.versions.retain(|version| found.present.has(version) || hidden.contains(&version));
        left.is_unwritten = true;
        left
    }

    /// Whether all that a pass found is among them.
    pub(super) fn has_all_of(&self, coverage: &Coverage) -> bool {
        self.versions == coverage.present
    }

    /// Whether it is to be written though a status tells as many versions.
    pub const fn is_unwritten(&self) -> bool {
        self.is_unwritten
    }

    /// How many versions the manifest lists.
    pub fn count(&self) -> u64 {
        self.versions.count()
    }

    /// Whether it lists more than there was room for.
    pub const fn is_short(&self) -> bool {
        self.versions.is_short()
    }

    /// Why what it has lost is not known, where it lists more than there was room for.
    pub fn shortage(&self) -> Option<HoldError> {
        self.versions.shortage()
    }

    /// Whether the manifest lists this version.
    pub(super) fn has(&self, version: Fingerprint) -> bool {
        self.versions.has(version)
    }

    /// How many versions it lists that a pass over everything did not find, but for those where the store hides something. None is
    /// known where the pass found more than there was room for.
    pub fn lost(&self, coverage: &Coverage) -> u64 {
        let lost = |version: &Fingerprint| !coverage.present.may_have(*version);
        let hidden = coverage.hidden.iter().filter_map(|place| self.places.get(place));
        let is_told = |version: &&Fingerprint| self.versions.has(**version) && lost(version);
        let untold = hidden.flatten().filter(is_told).count();
        (self.versions.iter().filter(lost).count() - untold) as u64
    }

    /// Whether a manifest of what a pass found says the same.
    pub(super) fn is_of(&self, coverage: &Coverage, missing: &[Missing]) -> bool {
        !self.is_unwritten
            && self.has_all_of(coverage)
            && self.missing == missing
            && self.sealed == coverage.sealed
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.keys()
    }
}

impl Memory {
    pub(super) fn fingerprint(&self, key: &str, id: &str) -> Fingerprint {
        Fingerprint(self.hasher.hash_one((key, id)))
    }

    /// Whether the marks of a version, unchanged since, were as they must be when they were read at `since` or later.
    pub(super) fn knows(&self, listed: &Listed, tag: RetentionTag, since: Timestamp) -> bool {
        let version = self.fingerprint(&listed.key, &listed.id);
        let read = self.read().get(version);
        read.is_some_and(|read| {
            let is_same = read.tag == tag && read.modified == listed.modified.as_microsecond();
            is_same && read.at >= since.as_second()
        })
    }

    /// Whether marks of a version were read, or read back, as they must be.
    pub(super) fn has_read(&self, version: Fingerprint) -> bool {
        self.read().get(version).is_some()
    }

    pub(super) fn note(&self, listed: &Listed, tag: RetentionTag, at: Timestamp) {
        let version = self.fingerprint(&listed.key, &listed.id);
        let (modified, at) = (listed.modified.as_microsecond(), at.as_second());
        self.read().note(version, Read { tag, modified, at });
    }

    /// A memory of a process that remembers its requests in `under_way`, and no more than `budget` has room for.
    pub(crate) fn of_process(under_way: UnderWay, budget: &Budget) -> Self {
        Self {
            under_way,
            read: Mutex::new(ReadMarks::within(budget.read())),
            told_room: budget.told(),
            ..Self::default()
        }
    }

    /// Another, which knows nothing of this one, in the same room.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { read: Mutex::new(self.read().beside()), told_room: self.told_room.clone(), ..Self::default() }
    }

    /// Versions of which no manifest is written.
    pub(super) fn seen(&self) -> Versions {
        Versions::within(&self.told_room, IN_SET)
    }

    /// Versions that a hold covers.
    pub(super) fn found(&self) -> Versions {
        Versions::within(&self.told_room, FOUND)
    }

    /// How long a request of this process may still land that protects what `cover` is about and none of `others` covers;
    /// `None`: there is none.
    pub fn may_land(&self, bucket: &str, cover: &Cover, others: &[Cover]) -> Option<Duration> {
        self.under_way.may_land(bucket, cover, others)
    }

    /// How long a request of this process may still land that lets go of what the hold with this UID covers; `None`: there is
    /// none. Those that were sent since the hold was first asked about with this scope do not count: they spared what it covers.
    pub fn may_let_go(&self, bucket: &str, uid: &str, scope: &str, cover: &Cover) -> Option<Duration> {
        let now = (scope.to_owned(), Instant::now());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let of = asked.entry(uid.to_owned()).or_insert_with(|| now.clone());
        if of.0 != scope {
            *of = now;
        }
        self.under_way.may_let_go(bucket, cover, of.1)
    }

    /// Forgets the marks of a version: they change, and what was read of it counts for no hold any more.
    pub(in crate::storage) fn unlearn(&self, listed: &Listed) {
        let version = self.fingerprint(&listed.key, &listed.id);
        self.read().unlearn(version);
    }

    /// Forgets marks that were read before `since`.
    pub fn forget(&self, since: Timestamp) {
        self.read().forget(since.as_second());
    }

    /// What the manifest of the hold with this UID lists, if it was read.
    pub fn told(&self, uid: &str) -> Option<Arc<Told>> {
        self.listed().get(uid).cloned()
    }

    /// Whether one of these manifests lists a version. A store that moves the time of a version when its legal hold changes makes
    /// a key true that was not, and that no open hold covers. Where a manifest lists more than there was room for, whatever has a
    /// key that cannot be true may be in it; what has become true since keeps its legal hold, by which the store refuses to delete it.
    pub(in crate::storage) fn is_told(&self, told: &[Arc<Told>], stored: &Stored<'_>) -> bool {
        let version = || self.fingerprint(&stored.listed.key, &stored.listed.id);
        let version = (!told.is_empty()).then(version);
        let may_have =
            |told: &Arc<Told>, version| told.has(version) || told.is_short() && !stored.is_plausible();
        version.is_some_and(|version| told.iter().any(|told| may_have(told, version)))
    }

    /// Forgets what a pass did not find of the hold with this UID: it was told, and is not to be told again.
    pub fn forget_lost(&self, uid: &str, found: &Coverage) {
        if let Some(told) = self.told(uid).filter(|told| told.lost(found) > 0) {
            self.note_told(uid, told.without_lost(found));
        }
    }

    pub(super) fn note_told(&self, uid: &str, told: Told) -> Arc<Told> {
        let told = Arc::new(told);
        self.listed().insert(uid.to_owned(), told.clone());
        told
    }

    /// Forgets the manifests for which there was no room: there may be by now.
    pub fn forget_short(&self) {
        self.listed().retain(|_, told| !told.is_short());
    }

    /// Forgets the manifests of all holds but these.
    pub fn keep_told(&self, uids: &BTreeSet<&str>) {
        self.listed().retain(|uid, _| uids.contains(uid.as_str()));
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// Those of `cameras` that this process has not entered into the bucket's registry.
    pub fn unregistered<'c>(&self, cameras: impl Iterator<Item = &'c String>) -> BTreeSet<String> {
        let registered = self.registered();
        cameras.filter(|camera| !registered.contains(*camera)).cloned().collect()
    }

    /// These are in the registry.
    pub fn note_registered(&self, cameras: BTreeSet<String>) {
        self.registered().extend(cameras);
    }

    fn registered(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, ReadMarks> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<String, Arc<Told>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::READ;
    use super::*;

    fn line(key: &str, id: &str) -> Line {
        Line { key: key.into(), version_id: id.into(), bytes: 1, sealed_until: None }
    }

    /// A Site that is gone leaves its room to others, whatever it remembered.
    #[test]
    fn what_is_forgotten_makes_room() {
        let budget = Budget::of_process(6 * 20 * READ.unsigned_abs());
        let at = |second| Timestamp::from_second(second).unwrap();
        for _ in 0..10 {
            let memory = Memory::of_process(UnderWay::default(), &budget);
            let other = memory.beside();
            let known = |key: u8| memory.has_read(memory.fingerprint(&key.to_string(), "1"));
            let note = |memory: &Memory, key: u8, second| {
                let listed = Listed {
                    key: key.to_string(),
                    id: "1".into(),
                    is_marker: false,
                    is_latest: true,
                    modified: at(1),
                    size: 1,
                    etag: String::new(),
                };
                memory.note(&listed, RetentionTag::Held, at(second));
            };
            (0..12).for_each(|key| note(&memory, key, 5));
            assert!((0..9).all(known) && !(9..12).any(known), "nearly half of it");
            memory.forget(at(6));
            (0..8).for_each(|key| note(&memory, key, 7));
            note(&other, 0, 7);
            note(&memory, 9, 7);
            assert!((0..8).all(known) && !known(9), "an audit beside it takes of the same");
        }
    }

    #[test]
    fn a_loss_does_not_hide_behind_what_came() {
        let memory = Memory::default();
        let mut told = Told::new(&memory, &[], 0);
        told.add(&memory, &line("a", "1"));
        told.add(&memory, &line("b", "1"));
        let cover = crate::protocol::cover::Cover {
            sources: crate::protocol::cover::Sources::All,
            calls: false,
            window: crate::protocol::Window::new(Timestamp::UNIX_EPOCH, None),
        };
        let lost = |present: &[(&str, &str)]| {
            let none = std::collections::BTreeMap::new();
            let mut coverage = Coverage::of(&cover, &none, Timestamp::UNIX_EPOCH);
            for (key, id) in present {
                coverage.present.insert(memory.fingerprint(key, id));
            }
            told.lost(&coverage)
        };
        assert_eq!(lost(&[("b", "1"), ("c", "1"), ("d", "1")]), 1);
        assert_eq!(lost(&[("a", "2"), ("b", "1")]), 1, "another version is no replacement");
        assert_eq!(lost(&[("a", "1"), ("b", "1")]), 0);
    }

    /// A loss elsewhere is told, though one day's listing is not to be relied on.
    #[test]
    fn what_the_store_hides_is_not_lost_and_hides_no_loss() {
        const HAL: &str = "video/hal/2026/03/07/080910.000Z-60000-00000000000000aa.mp4";
        const DEUR: &str = "video/deur/2026/03/07/080910.000Z-60000-00000000000000bb.mp4";
        let memory = Memory::default();
        let mut told = Told::new(&memory, &[], 0);
        for key in [HAL, DEUR] {
            told.add(&memory, &line(key, "1"));
        }
        let cover = Cover {
            sources: crate::protocol::cover::Sources::All,
            calls: false,
            window: crate::protocol::Window::new(Timestamp::UNIX_EPOCH, None),
        };
        let place = |key: &str| Place::of(&key.parse().unwrap());
        let lost = |present: &[&str], hidden: &[&str]| {
            let mut coverage = Coverage::of(&cover, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
            for key in present {
                coverage.present.insert(memory.fingerprint(key, "1"));
            }
            coverage.hidden = hidden.iter().map(|key| place(key)).collect();
            told.lost(&coverage)
        };
        assert_eq!(lost(&[], &[]), 2);
        assert_eq!(lost(&[], &[HAL]), 1);
        assert_eq!(lost(&[DEUR], &[HAL]), 0);
        assert_eq!(lost(&[HAL], &[HAL]), 1);
        assert_eq!(lost(&[HAL, DEUR], &[HAL]), 0);
        // What was told once is not among them any more, whatever is hidden later.
        let mut coverage = Coverage::of(&cover, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
        let told = told.without_lost(&coverage);
        coverage.hidden = [place(HAL)].into();
        assert_eq!((told.count(), told.lost(&coverage)), (0, 0));
    }

    #[test]
    fn marks_are_read_again_when_the_version_changed_or_it_is_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let listed = |modified| Listed {
            key: "k".into(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: at(modified),
            size: 1,
            etag: String::new(),
        };
        let memory = Memory::default();
        memory.note(&listed(5), RetentionTag::Sealed, at(10));
        assert!(memory.knows(&listed(5), RetentionTag::Sealed, at(10)));
        assert!(!memory.knows(&listed(5), RetentionTag::Held, at(10)));
        assert!(!memory.knows(&listed(6), RetentionTag::Sealed, at(10)));
        assert!(!memory.knows(&listed(5), RetentionTag::Sealed, at(11)));
        memory.forget(at(11));
        assert!(!memory.knows(&listed(5), RetentionTag::Sealed, at(10)));
    }
}
