//! Cache of held versions. Losing it costs requests, never a claim.
//!
//! For each Site it has the protections that were read, so that a version is not read again before the next
//! verification: a hold over a day of five cameras has seven thousand. It also has the versions in each manifest, by
//! which losses are detected. This is a set, since new versions would hide losses in a number.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
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
use crate::rules::{HoldScope, ListedVersion, RetentionTag, StoredRecording};
use crate::storage::recordings::SourceDay;
use crate::storage::s3::InDoubtRequests;
use crate::sync::lock;

/// Cache of one Site's held versions.
#[derive(Debug, Default)]
pub struct ProtectionCache {
    hasher: RandomState,
    verified: Mutex<VerifiedProtections>,
    manifest_reservation: Reservation,
    manifests: Mutex<HashMap<String, Arc<ManifestVersions>>>,
    registered: Mutex<BTreeSet<String>>,
    /// Scope of each hold by UID, and since when it is the same.
    scope_since: Mutex<HashMap<String, (String, Instant)>>,
    pub(crate) in_doubt: InDoubtRequests,
    pub place_deadline: PassDeadline,
    pub(crate) release_deadline: PassDeadline,
}

/// Versions in the manifest of a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestVersions {
    pub(crate) versions: VersionSet,
    /// Source day of each version, also outside the hold's window: the key may have been implausible when it was held.
    days: BTreeMap<SourceDay, Vec<Fingerprint>>,
    gaps: Vec<ManifestGap>,
    sealed: u64,
    /// The cached set and the stored manifest differ, so the manifest must be rewritten.
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
        let was_over_budget = self.versions.is_over_budget();
        let is_new = self.versions.insert(version);
        self.add_day(&line.key, version, is_new);
        if self.versions.is_over_budget() && !was_over_budget {
            // Only the fingerprints go. The days stay, so that every pass still visits the held versions.
            self.days.values_mut().for_each(|there| *there = Vec::new());
        }
    }

    /// Adds a version whose memory the pass has reserved.
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

    /// Adds versions that disappeared between the pass and the manifest's listing: no manifest has listed them.
    pub(crate) fn with_lost(mut self, found: &Coverage) -> Self {
        found.present.iter().for_each(|version| self.versions.force_insert(version));
        self.is_outdated = true;
        self
    }

    /// Returns the set without lost versions that were reported. The stored manifest still lists them.
    fn without_lost(&self, found: &Coverage) -> Self {
        let hidden = found.incomplete_listings.iter().filter_map(|place| self.days.get(place));
        let hidden: HashSet<&Fingerprint> = hidden.flatten().collect();
        let mut left = self.clone();
        left.versions.retain(|version| found.present.contains(version) || hidden.contains(&version));
        left.is_outdated = true;
        left
    }

    /// Returns whether a pass found exactly these versions.
    pub(crate) fn has_same_versions(&self, coverage: &Coverage) -> bool {
        self.versions == coverage.present
    }

    /// Returns whether the stored manifest must be rewritten, even if the status has the same number of versions.
    pub const fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Returns the number of versions that a full pass did not find. Excludes days with unlisted keys. Zero if the pass
    /// exceeded the memory budget.
    pub fn lost(&self, coverage: &Coverage) -> u64 {
        let lost = |version: &Fingerprint| !coverage.present.may_contain(*version);
        let hidden = coverage.incomplete_listings.iter().filter_map(|place| self.days.get(place));
        let is_told = |version: &&Fingerprint| self.versions.contains(**version) && lost(version);
        let untold = hidden.flatten().filter(is_told).count();
        (self.versions.iter().filter(lost).count() - untold) as u64
    }

    /// Returns whether a manifest of this coverage would be the same.
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

    /// Returns whether an unchanged version was verified with this tag at `since` or later.
    pub(crate) fn is_verified_since(
        &self,
        listed: &ListedVersion,
        tag: RetentionTag,
        since: Timestamp,
    ) -> bool {
        let version = self.fingerprint(&listed.key, &listed.id);
        let read = lock(&self.verified).get(version);
        read.is_some_and(|read| {
            // Some stores change this time together with the legal hold, so a removed legal hold is read at once.
            let is_same = read.tag == tag && read.modified == listed.modified.as_microsecond();
            is_same && read.at >= since.as_second()
        })
    }

    /// Returns whether a version's protection was verified.
    pub(crate) fn is_verified(&self, version: Fingerprint) -> bool {
        lock(&self.verified).get(version).is_some()
    }

    pub(crate) fn note_verified(&self, listed: &ListedVersion, tag: RetentionTag, at: Timestamp) {
        let version = self.fingerprint(&listed.key, &listed.id);
        let (modified, at) = (listed.modified.as_microsecond(), at.as_second());
        lock(&self.verified).insert(version, VerifiedProtection { tag, modified, at });
    }

    /// Returns an empty cache that shares the requests in doubt and the memory budget.
    pub(crate) fn with_budget(under_way: InDoubtRequests, budget: &MemoryBudget) -> Self {
        Self {
            in_doubt: under_way,
            verified: Mutex::new(VerifiedProtections::with_reservation(budget.verified_reservation())),
            manifest_reservation: budget.manifest_reservation(),
            ..Self::default()
        }
    }

    /// Returns an empty cache that shares this one's memory budget.
    #[must_use]
    pub fn empty_sibling(&self) -> Self {
        Self {
            verified: Mutex::new(lock(&self.verified).empty_sibling()),
            manifest_reservation: self.manifest_reservation.clone(),
            ..Self::default()
        }
    }

    /// Returns an empty set for versions without a manifest.
    pub(crate) fn new_version_set(&self) -> VersionSet {
        VersionSet::with_reservation(&self.manifest_reservation, SET_ENTRY_BYTES)
    }

    pub(crate) fn new_coverage_set(&self) -> VersionSet {
        VersionSet::with_reservation(&self.manifest_reservation, COVERAGE_ENTRY_BYTES)
    }

    /// Returns how long a request of this process may still arrive that releases a version of the hold with this UID.
    /// `None`: there is none. Requests sent since the hold has this scope do not count: they spared its versions.
    pub fn release_in_doubt_for(
        &self,
        bucket: &str,
        uid: &str,
        scope: &str,
        cover: &HoldScope,
    ) -> Option<Duration> {
        let now = (scope.to_owned(), Instant::now());
        let mut asked = lock(&self.scope_since);
        let of = asked.entry(uid.to_owned()).or_insert_with(|| now.clone());
        if of.0 != scope {
            *of = now;
        }
        self.in_doubt.release_in_doubt_for(bucket, cover, of.1)
    }

    /// Drops a version's protection before a change: the cached value is valid for no hold any more.
    pub(crate) fn invalidate(&self, listed: &ListedVersion) {
        let version = self.fingerprint(&listed.key, &listed.id);
        lock(&self.verified).invalidate(version);
    }

    /// Drops protections that were read before `since`.
    pub fn evict_before(&self, since: Timestamp) {
        lock(&self.verified).evict_before(since.as_second());
    }

    /// Returns the versions in the manifest of the hold with this UID, if cached.
    pub fn manifest(&self, uid: &str) -> Option<Arc<ManifestVersions>> {
        lock(&self.manifests).get(uid).cloned()
    }

    /// Returns whether one of these manifests lists a version.
    ///
    /// A store that updates the modification time can make an implausible key plausible, so that no open scope covers
    /// it. A manifest over the memory budget may list any implausible key. A key that became plausible since is still
    /// safe: its version keeps the legal hold, so the store refuses to delete it.
    pub(crate) fn is_in_manifest(
        &self,
        told: &[Arc<ManifestVersions>],
        stored: &StoredRecording<'_>,
    ) -> bool {
        let version = || self.fingerprint(&stored.listed.key, &stored.listed.id);
        let version = (!told.is_empty()).then(version);
        let may_have = |told: &Arc<ManifestVersions>, version| {
            told.versions.contains(version) || told.versions.is_over_budget() && !stored.is_plausible()
        };
        version.is_some_and(|version| told.iter().any(|told| may_have(told, version)))
    }

    /// Drops reported losses of the hold with this UID, so that they are not reported again.
    pub fn forget_lost(&self, uid: &str, found: &Coverage) {
        if let Some(told) = self.manifest(uid).filter(|told| told.lost(found) > 0) {
            self.put_manifest(uid, told.without_lost(found));
        }
    }

    pub(crate) fn put_manifest(&self, uid: &str, manifest: ManifestVersions) -> Arc<ManifestVersions> {
        let manifest = Arc::new(manifest);
        lock(&self.manifests).insert(uid.to_owned(), manifest.clone());
        manifest
    }

    /// Drops manifests that exceeded the budget: there may be room now.
    pub fn evict_over_budget(&self) {
        lock(&self.manifests).retain(|_, manifest| !manifest.versions.is_over_budget());
    }

    /// Drops the manifests of all other holds.
    pub fn retain_manifests(&self, uids: &BTreeSet<&str>) {
        lock(&self.manifests).retain(|uid, _| uids.contains(uid.as_str()));
        let mut asked = lock(&self.scope_since);
        asked.retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// Returns the `cameras` that this process has not registered in the bucket.
    pub fn unregistered<'c>(&self, cameras: impl Iterator<Item = &'c String>) -> BTreeSet<String> {
        let registered = lock(&self.registered);
        cameras.filter(|camera| !registered.contains(*camera)).cloned().collect()
    }

    pub fn note_registered(&self, cameras: BTreeSet<String>) {
        lock(&self.registered).extend(cameras);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Window;
    use crate::rules::hold::scope::tests::video_scope;
    use crate::storage::recordings::hold::memory_budget::VERIFIED_ENTRY_BYTES;
    use crate::storage::s3::stub::listed;

    fn line(key: &str, id: &str) -> ManifestSegment {
        ManifestSegment { key: key.into(), version_id: id.into(), bytes: 1, sealed_until: None }
    }

    /// Coverage of a hold over all cameras.
    fn empty_coverage() -> Coverage {
        let scope = video_scope(&[], Window::new(Timestamp::UNIX_EPOCH, None));
        Coverage::new(&scope, &BTreeMap::new(), Timestamp::UNIX_EPOCH)
    }

    /// A Site that is gone returns its memory to the others.
    #[test]
    fn evicted_entries_free_memory() {
        let budget = MemoryBudget::of_process(6 * 20 * VERIFIED_ENTRY_BYTES.unsigned_abs());
        let at = |second| Timestamp::from_second(second).unwrap();
        for _ in 0..10 {
            let memory = ProtectionCache::with_budget(InDoubtRequests::default(), &budget);
            let other = memory.empty_sibling();
            let known = |key: u8| memory.is_verified(memory.fingerprint(&key.to_string(), "1"));
            let note = |memory: &ProtectionCache, key: u8, second| {
                memory.note_verified(&listed(key, "1", at(1)), RetentionTag::Held, at(second));
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
        let lost = |present: &[(&str, &str)]| {
            let mut coverage = empty_coverage();
            for (key, id) in present {
                coverage.present.insert(memory.fingerprint(key, id));
            }
            told.lost(&coverage)
        };
        assert_eq!(lost(&[("b", "1"), ("c", "1"), ("d", "1")]), 1);
        assert_eq!(lost(&[("a", "2"), ("b", "1")]), 1, "another version is no replacement");
        assert_eq!(lost(&[("a", "1"), ("b", "1")]), 0);
    }

    /// A loss on another day is reported even if one day's listing is unreliable.
    #[test]
    fn unlisted_versions_are_not_lost_and_mask_no_loss() {
        const HAL: &str = "video/hal/2026/03/07/080910.000Z-60000-00000000000000aa.mp4";
        const DEUR: &str = "video/deur/2026/03/07/080910.000Z-60000-00000000000000bb.mp4";
        let memory = ProtectionCache::default();
        let mut told = ManifestVersions::new(&memory, &[], 0);
        for key in [HAL, DEUR] {
            told.add(&memory, &line(key, "1"));
        }
        let place = |key: &str| SourceDay::of(&key.parse().unwrap());
        let lost = |present: &[&str], hidden: &[&str]| {
            let mut coverage = empty_coverage();
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
        // A reported loss is not reported again, even if a listing is incomplete later.
        let mut coverage = empty_coverage();
        let told = told.without_lost(&coverage);
        coverage.incomplete_listings = [place(HAL)].into();
        assert_eq!((told.versions.count(), told.lost(&coverage)), (0, 0));
    }

    #[test]
    fn changed_or_expired_protection_is_read_again() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let listed = |modified| listed("k", "1", at(modified));
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
