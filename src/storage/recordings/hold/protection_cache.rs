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
use super::manifest_format::{ManifestGap, ManifestSegment};
use super::memory_budget::{
    COVERAGE_ENTRY_BYTES, Fingerprint, MANIFEST_ENTRY_BYTES, MemoryBudget, Reservation, SET_ENTRY_BYTES,
    VersionSet,
};
use super::pass_deadline::PassDeadline;
use super::verified_protections::{VerifiedProtection, VerifiedProtections};
use crate::rules::hold::expiry::StoredRecording;
use crate::rules::hold::scope::HoldScope;
use crate::rules::recording::tag::RetentionTag;
use crate::rules::recording::version::ListedVersion;
use crate::storage::recordings::error::{HoldError, SourceDay};
use crate::storage::s3::in_doubt_requests::InDoubtRequests;

/// What is remembered of one Site's held versions.
#[derive(Debug, Default)]
pub struct ProtectionCache {
    hasher: RandomState,
    verified: Mutex<VerifiedProtections>,
    manifest_reservation: Reservation,
    manifests: Mutex<HashMap<String, Arc<ManifestVersions>>>,
    registered: Mutex<BTreeSet<String>>,
    /// Since when holds were asked about with their scope, by UID.
    scope_since: Mutex<HashMap<String, (String, Instant)>>,
    pub(crate) in_doubt: InDoubtRequests,
    /// The turn of passes that place.
    pub place_deadline: PassDeadline,
    pub(crate) release_deadline: PassDeadline,
}

/// What the manifest of a hold lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestVersions {
    versions: VersionSet,
    /// Where they are, also outside the hold's window: a key may have been taken for untrue when it was held.
    days: BTreeMap<SourceDay, Vec<Fingerprint>>,
    gaps: Vec<ManifestGap>,
    sealed: u64,
    /// Some of them the manifest does not list: they were gone when it was to be written.
    is_outdated: bool,
}

impl ManifestVersions {
    pub(crate) fn new(memory: &ProtectionCache, missing: &[ManifestGap], sealed: u64) -> Self {
        Self {
            versions: VersionSet::with_reservation(&memory.manifest_reservation, MANIFEST_ENTRY_BYTES),
            gaps: missing.to_vec(),
            sealed,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, memory: &ProtectionCache, line: &ManifestSegment) {
        let version = memory.fingerprint(&line.key, &line.version_id);
        let was_short = self.is_over_budget();
        let is_new = self.versions.insert(version);
        self.add_day(&line.key, version, is_new);
        if self.is_over_budget() && !was_short {
            self.days.values_mut().for_each(|there| *there = Vec::new());
        }
    }

    /// Adds what a pass found, and took room for.
    pub(crate) fn force_add(&mut self, memory: &ProtectionCache, line: &ManifestSegment) {
        let version = memory.fingerprint(&line.key, &line.version_id);
        let is_new = !self.versions.contains(version);
        self.versions.force_insert(version);
        self.add_day(&line.key, version, is_new);
    }

    fn add_day(&mut self, key: &str, version: Fingerprint, is_new: bool) {
        if let Ok(key) = key.parse() {
            let there = self.days.entry(SourceDay::of(&key)).or_default();
            there.extend(is_new.then_some(version));
        }
    }

    /// Of what a pass found, what another listing has not was lost since: no manifest has listed it.
    pub(crate) fn with_lost(mut self, found: &Coverage) -> Self {
        found.present.iter().for_each(|version| self.versions.force_insert(version));
        self.is_outdated = true;
        self
    }

    /// Without what a pass did not find, which was told; the manifest still lists it.
    fn without_lost(&self, found: &Coverage) -> Self {
        let hidden = found.incomplete_listings.iter().filter_map(|place| self.days.get(place));
        let hidden: HashSet<&Fingerprint> = hidden.flatten().collect();
        let mut left = self.clone();
        left.versions.retain(|version| found.present.contains(version) || hidden.contains(&version));
        left.is_outdated = true;
        left
    }

    /// Whether all that a pass found is among them.
    pub(crate) fn has_same_versions(&self, coverage: &Coverage) -> bool {
        self.versions == coverage.present
    }

    /// Whether it is to be written though a status tells as many versions.
    pub const fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// How many versions the manifest lists.
    pub fn count(&self) -> u64 {
        self.versions.count()
    }

    /// Whether it lists more than there was room for.
    pub const fn is_over_budget(&self) -> bool {
        self.versions.is_over_budget()
    }

    /// Why what it has lost is not known, where it lists more than there was room for.
    pub fn budget_error(&self) -> Option<HoldError> {
        self.versions.budget_error()
    }

    /// Whether the manifest lists this version.
    pub(crate) fn contains(&self, version: Fingerprint) -> bool {
        self.versions.contains(version)
    }

    /// How many versions it lists that a pass over everything did not find, but for those where the store hides something. None is
    /// known where the pass found more than there was room for.
    pub fn lost(&self, coverage: &Coverage) -> u64 {
        let lost = |version: &Fingerprint| !coverage.present.may_contain(*version);
        let hidden = coverage.incomplete_listings.iter().filter_map(|place| self.days.get(place));
        let is_told = |version: &&Fingerprint| self.versions.contains(**version) && lost(version);
        let untold = hidden.flatten().filter(is_told).count();
        (self.versions.iter().filter(lost).count() - untold) as u64
    }

    /// Whether a manifest of what a pass found says the same.
    pub(crate) fn matches(&self, coverage: &Coverage, missing: &[ManifestGap]) -> bool {
        !self.is_outdated
            && self.has_same_versions(coverage)
            && self.gaps == missing
            && self.sealed == coverage.sealed
    }

    pub(crate) fn days(&self) -> impl Iterator<Item = &SourceDay> {
        self.days.keys()
    }
}

impl ProtectionCache {
    pub(crate) fn fingerprint(&self, key: &str, id: &str) -> Fingerprint {
        Fingerprint(self.hasher.hash_one((key, id)))
    }

    /// Whether the marks of a version, unchanged since, were as they must be when they were read at `since` or later.
    pub(crate) fn is_verified_since(
        &self,
        listed: &ListedVersion,
        tag: RetentionTag,
        since: Timestamp,
    ) -> bool {
        let version = self.fingerprint(&listed.key, &listed.id);
        let read = self.verified().get(version);
        read.is_some_and(|read| {
            let is_same = read.tag == tag && read.modified == listed.modified.as_microsecond();
            is_same && read.at >= since.as_second()
        })
    }

    /// Whether marks of a version were read, or read back, as they must be.
    pub(crate) fn is_verified(&self, version: Fingerprint) -> bool {
        self.verified().get(version).is_some()
    }

    pub(crate) fn note_verified(&self, listed: &ListedVersion, tag: RetentionTag, at: Timestamp) {
        let version = self.fingerprint(&listed.key, &listed.id);
        let (modified, at) = (listed.modified.as_microsecond(), at.as_second());
        self.verified().insert(version, VerifiedProtection { tag, modified, at });
    }

    /// A memory of a process that remembers its requests in `under_way`, and no more than `budget` has room for.
    pub(crate) fn with_budget(under_way: InDoubtRequests, budget: &MemoryBudget) -> Self {
        Self {
            in_doubt: under_way,
            verified: Mutex::new(VerifiedProtections::with_reservation(budget.verified_reservation())),
            manifest_reservation: budget.manifest_reservation(),
            ..Self::default()
        }
    }

    /// Another, which knows nothing of this one, in the same room.
    #[must_use]
    pub fn empty_sibling(&self) -> Self {
        Self {
            verified: Mutex::new(self.verified().empty_sibling()),
            manifest_reservation: self.manifest_reservation.clone(),
            ..Self::default()
        }
    }

    /// Versions of which no manifest is written.
    pub(crate) fn new_version_set(&self) -> VersionSet {
        VersionSet::with_reservation(&self.manifest_reservation, SET_ENTRY_BYTES)
    }

    pub(crate) fn new_coverage_set(&self) -> VersionSet {
        VersionSet::with_reservation(&self.manifest_reservation, COVERAGE_ENTRY_BYTES)
    }

    /// How long a request of this process may still land that protects what `cover` is about and none of `others` covers;
    /// `None`: there is none.
    pub fn protect_in_doubt_for(
        &self,
        bucket: &str,
        cover: &HoldScope,
        others: &[HoldScope],
    ) -> Option<Duration> {
        self.in_doubt.protect_in_doubt_for(bucket, cover, others)
    }

    /// How long a request of this process may still land that lets go of what the hold with this UID covers; `None`: there is
    /// none. Those that were sent since the hold was first asked about with this scope do not count: they spared what it covers.
    pub fn release_in_doubt_for(
        &self,
        bucket: &str,
        uid: &str,
        scope: &str,
        cover: &HoldScope,
    ) -> Option<Duration> {
        let now = (scope.to_owned(), Instant::now());
        let mut asked = self.scope_since.lock().unwrap_or_else(PoisonError::into_inner);
        let of = asked.entry(uid.to_owned()).or_insert_with(|| now.clone());
        if of.0 != scope {
            *of = now;
        }
        self.in_doubt.release_in_doubt_for(bucket, cover, of.1)
    }

    /// Forgets the marks of a version: they change, and what was read of it counts for no hold any more.
    pub(crate) fn invalidate(&self, listed: &ListedVersion) {
        let version = self.fingerprint(&listed.key, &listed.id);
        self.verified().invalidate(version);
    }

    /// Forgets marks that were read before `since`.
    pub fn evict_before(&self, since: Timestamp) {
        self.verified().evict_before(since.as_second());
    }

    /// What the manifest of the hold with this UID lists, if it was read.
    pub fn manifest(&self, uid: &str) -> Option<Arc<ManifestVersions>> {
        self.manifests().get(uid).cloned()
    }

    /// Whether one of these manifests lists a version. A store that moves the time of a version when its legal hold changes makes
    /// a key true that was not, and that no open hold covers. Where a manifest lists more than there was room for, whatever has a
    /// key that cannot be true may be in it; what has become true since keeps its legal hold, by which the store refuses to delete it.
    pub(crate) fn is_in_manifest(
        &self,
        told: &[Arc<ManifestVersions>],
        stored: &StoredRecording<'_>,
    ) -> bool {
        let version = || self.fingerprint(&stored.listed.key, &stored.listed.id);
        let version = (!told.is_empty()).then(version);
        let may_have = |told: &Arc<ManifestVersions>, version| {
            told.contains(version) || told.is_over_budget() && !stored.is_plausible()
        };
        version.is_some_and(|version| told.iter().any(|told| may_have(told, version)))
    }

    /// Forgets what a pass did not find of the hold with this UID: it was told, and is not to be told again.
    pub fn forget_lost(&self, uid: &str, found: &Coverage) {
        if let Some(told) = self.manifest(uid).filter(|told| told.lost(found) > 0) {
            self.put_manifest(uid, told.without_lost(found));
        }
    }

    pub(crate) fn put_manifest(&self, uid: &str, told: ManifestVersions) -> Arc<ManifestVersions> {
        let told = Arc::new(told);
        self.manifests().insert(uid.to_owned(), told.clone());
        told
    }

    /// Forgets the manifests for which there was no room: there may be by now.
    pub fn evict_over_budget(&self) {
        self.manifests().retain(|_, told| !told.is_over_budget());
    }

    /// Forgets the manifests of all holds but these.
    pub fn retain_manifests(&self, uids: &BTreeSet<&str>) {
        self.manifests().retain(|uid, _| uids.contains(uid.as_str()));
        let mut asked = self.scope_since.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// Those of `cameras` that this process has not entered into the bucket's registry.
    pub fn unregistered<'c>(&self, cameras: impl Iterator<Item = &'c String>) -> BTreeSet<String> {
        let registered = self.registered();
        cameras.filter(|camera| !registered.contains(*camera)).cloned().collect()
    }

    pub fn note_registered(&self, cameras: BTreeSet<String>) {
        self.registered().extend(cameras);
    }

    fn registered(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verified(&self) -> MutexGuard<'_, VerifiedProtections> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn manifests(&self) -> MutexGuard<'_, HashMap<String, Arc<ManifestVersions>>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::recordings::hold::memory_budget::VERIFIED_ENTRY_BYTES;

    fn line(key: &str, id: &str) -> ManifestSegment {
        ManifestSegment { key: key.into(), version_id: id.into(), bytes: 1, sealed_until: None }
    }

    /// A Site that is gone leaves its room to others, whatever it remembered.
    #[test]
    fn evicted_entries_free_memory() {
        let budget = MemoryBudget::of_process(6 * 20 * VERIFIED_ENTRY_BYTES.unsigned_abs());
        let at = |second| Timestamp::from_second(second).unwrap();
        for _ in 0..10 {
            let memory = ProtectionCache::with_budget(InDoubtRequests::default(), &budget);
            let other = memory.empty_sibling();
            let known = |key: u8| memory.is_verified(memory.fingerprint(&key.to_string(), "1"));
            let note = |memory: &ProtectionCache, key: u8, second| {
                let listed = ListedVersion {
                    key: key.to_string(),
                    id: "1".into(),
                    is_marker: false,
                    is_latest: true,
                    modified: at(1),
                    size: 1,
                    etag: String::new(),
                };
                memory.note_verified(&listed, RetentionTag::Held, at(second));
            };
            (0..12).for_each(|key| note(&memory, key, 5));
            assert!((0..9).all(known) && !(9..12).any(known), "nearly half of it");
            memory.evict_before(at(6));
            (0..8).for_each(|key| note(&memory, key, 7));
            note(&other, 0, 7);
            note(&memory, 9, 7);
            assert!((0..8).all(known) && !known(9), "an audit beside it takes of the same");
        }
    }

    #[test]
    fn new_versions_do_not_mask_lost_versions() {
        let memory = ProtectionCache::default();
        let mut told = ManifestVersions::new(&memory, &[], 0);
        told.add(&memory, &line("a", "1"));
        told.add(&memory, &line("b", "1"));
        let cover = crate::rules::hold::scope::HoldScope {
            cameras: crate::rules::hold::scope::CameraSelector::All,
            calls: false,
            window: crate::rules::Window::new(Timestamp::UNIX_EPOCH, None),
        };
        let lost = |present: &[(&str, &str)]| {
            let none = std::collections::BTreeMap::new();
            let mut coverage = Coverage::new(&cover, &none, Timestamp::UNIX_EPOCH);
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
    fn unlisted_versions_are_not_lost_and_mask_no_loss() {
        const HAL: &str = "video/hal/2026/03/07/080910.000Z-60000-00000000000000aa.mp4";
        const DEUR: &str = "video/deur/2026/03/07/080910.000Z-60000-00000000000000bb.mp4";
        let memory = ProtectionCache::default();
        let mut told = ManifestVersions::new(&memory, &[], 0);
        for key in [HAL, DEUR] {
            told.add(&memory, &line(key, "1"));
        }
        let cover = HoldScope {
            cameras: crate::rules::hold::scope::CameraSelector::All,
            calls: false,
            window: crate::rules::Window::new(Timestamp::UNIX_EPOCH, None),
        };
        let place = |key: &str| SourceDay::of(&key.parse().unwrap());
        let lost = |present: &[&str], hidden: &[&str]| {
            let mut coverage = Coverage::new(&cover, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
            for key in present {
                coverage.present.insert(memory.fingerprint(key, "1"));
            }
            coverage.incomplete_listings = hidden.iter().map(|key| place(key)).collect();
            told.lost(&coverage)
        };
        assert_eq!(lost(&[], &[]), 2);
        assert_eq!(lost(&[], &[HAL]), 1);
        assert_eq!(lost(&[DEUR], &[HAL]), 0);
        assert_eq!(lost(&[HAL], &[HAL]), 1);
        assert_eq!(lost(&[HAL, DEUR], &[HAL]), 0);
        // What was told once is not among them any more, whatever is hidden later.
        let mut coverage = Coverage::new(&cover, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
        let told = told.without_lost(&coverage);
        coverage.incomplete_listings = [place(HAL)].into();
        assert_eq!((told.count(), told.lost(&coverage)), (0, 0));
    }

    #[test]
    fn changed_or_expired_protection_is_read_again() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let listed = |modified| ListedVersion {
            key: "k".into(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: at(modified),
            size: 1,
            etag: String::new(),
        };
        let memory = ProtectionCache::default();
        memory.note_verified(&listed(5), RetentionTag::Sealed, at(10));
        assert!(memory.is_verified_since(&listed(5), RetentionTag::Sealed, at(10)));
        assert!(!memory.is_verified_since(&listed(5), RetentionTag::Held, at(10)));
        assert!(!memory.is_verified_since(&listed(6), RetentionTag::Sealed, at(10)));
        assert!(!memory.is_verified_since(&listed(5), RetentionTag::Sealed, at(11)));
        memory.evict_before(at(11));
        assert!(!memory.is_verified_since(&listed(5), RetentionTag::Sealed, at(10)));
    }
}
