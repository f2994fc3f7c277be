//! Releases versions that resolved holds covered and no open hold covers: default tag first, then the legal hold goes.
//! Versions past their ceiling are deleted at once (article 6); the others expire normally.
//!
//! A protection can be restored, a deleted version cannot. So the open holds are read again immediately before each
//! deletion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::memory_budget::{Fingerprint, VersionSet};
use super::protection_cache::{ManifestVersions, ProtectionCache};
use super::workers::{Operation, for_each_version};
use super::{Unchecked, candidate_days, manifest};
use crate::api::Ceilings;
use crate::rules::hold::expiry::{HeldBy, OpenScopes};
use crate::rules::hold::steps::{ProtectionStep, steps_to_release};
use crate::rules::{HoldScope, LedgerEntry, ListedVersion, RetentionTag, StoredRecording, VersionRef};
use crate::storage::recordings::{HoldError, Incomplete, OpenHolds, PassErrors, SourceDay, ledger};
use crate::storage::s3::{BucketClient, BucketConnection, DecisionTime, StoreError, objects, protection};
use crate::sync::lock;

/// Report of a release pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseReport {
    /// Versions that got their default tag or lost their legal hold.
    pub released: u64,
    /// Versions past their ceiling that were deleted, and their delete markers.
    pub deleted: u64,
    /// Versions past their ceiling without a legal hold that the store refuses to delete, for example under a retention
    /// period. The sweep reports them.
    pub undeletable: u64,
    /// Versions that another open hold in the ledger keeps.
    pub still_held: u64,
    /// UIDs of holds with a version that is kept for a hold not yet in the ledger. If that one disappeared now, nothing
    /// would explain the legal hold.
    pub waiting_for_ledger: BTreeSet<String>,
    /// UIDs of holds with a version that may be in an unknown manifest of another open hold.
    pub waiting_for_manifest: BTreeSet<String>,
    /// Reason that the manifest is unknown.
    pub manifest_error: Option<HoldError>,
    /// Requests that the store rejected, or still failed after retries, by the hold's UID.
    pub errors: BTreeMap<String, PassErrors>,
    /// UIDs of holds with versions that had to be written. Excludes versions that arrived after the first pass:
    /// otherwise, continuous puts could delay a release forever.
    pub changed: BTreeSet<String>,
    /// Parts that could not be checked. Holds over them are not verified.
    pub unchecked: Unchecked,
}

impl ReleaseReport {
    /// Returns whether nothing had to be written.
    pub fn is_unchanged(&self) -> bool {
        self.changed.is_empty()
    }

    /// Returns whether nothing remained to do for any hold.
    pub fn is_verified(&self) -> bool {
        self.is_unchanged()
            && self.waiting_for_ledger.is_empty()
            && self.waiting_for_manifest.is_empty()
            && self.errors.is_empty()
    }

    /// Returns whether nothing remained to do for one hold and all of its scope was checked. Other holds do not matter.
    pub fn is_verified_for(&self, entry: &LedgerEntry) -> bool {
        let uid = &entry.uid;
        let all = [&self.changed, &self.waiting_for_ledger, &self.waiting_for_manifest];
        let is_left = all.iter().any(|uids| uids.contains(uid)) || self.errors.contains_key(uid);
        !is_left && self.unchecked.errors_for(&entry.scope).is_none()
    }
}

/// Release of the versions that `closing` covers and no other open hold does, in passes.
///
/// Visits every day of the sources, since an implausible key may be on any day. A version that `closing` covers by key
/// is evaluated by its key only. An interrupted release may have updated its modification time, so it would seem to
/// belong to another hold's window.
pub struct Release<'a> {
    closing: &'a [LedgerEntry],
    holds: &'a dyn OpenHolds,
    ceilings: &'a Ceilings,
    cache: &'a ProtectionCache,
    /// Inventory of the first complete pass.
    first_pass: Option<PassInventory>,
}

#[derive(Default)]
struct PassInventory {
    days: BTreeSet<SourceDay>,
    versions: VersionSet,
}

impl<'a> Release<'a> {
    /// Prepares a release. `holds` returns the open holds of the API server without `closing`. It is read before each
    /// page and before deletions, like the ledger.
    pub fn new(
        closing: &'a [LedgerEntry],
        holds: &'a dyn OpenHolds,
        ceilings: &'a Ceilings,
        memory: &'a ProtectionCache,
    ) -> Self {
        Self { closing, holds, ceilings, cache: memory, first_pass: None }
    }

    pub async fn run_pass(
        &mut self,
        operator: &BucketConnection,
        time: DecisionTime,
    ) -> Result<ReleaseReport, Box<Incomplete<ReleaseReport>>> {
        let mut released = ReleaseReport::default();
        let outcome = self.release_all(operator, time, &mut released).await;
        // A pass that wrote is followed by another, which has the same time.
        if outcome.is_err() || released.is_unchanged() {
            self.cache.release_deadline.note_result(&outcome, time.now);
        }
        Incomplete::from_result(outcome, released)
    }

    async fn release_all(
        &mut self,
        operator: &BucketConnection,
        time: DecisionTime,
        released: &mut ReleaseReport,
    ) -> Result<(), HoldError> {
        let store = operator.tracking_client(&self.cache.in_doubt);
        let covers: Vec<HoldScope> = self.closing.iter().map(|entry| entry.scope.clone()).collect();
        let uids: Vec<&str> = self.closing.iter().map(|entry| entry.uid.as_str()).collect();
        let mut told = Vec::new();
        for entry in self.closing {
            // An error ends the pass: versions that only the manifest lists would keep their legal hold for ever.
            told.push(manifest::load_from(&store, entry, self.cache).await?);
        }
        let pass = ReleaseOperation {
            store: &store,
            closing_scopes: &covers,
            uids: &uids,
            holds: self.holds,
            ceilings: self.ceilings,
            manifests: &told,
            cache: self.cache,
            time,
            manifest_errors: Mutex::default(),
        };
        let mut places = candidate_days(&store, &covers, true, None, self.ceilings, time.now).await?;
        places.add_manifest_days(&told);
        let mut seen = PassInventory {
            days: places.days.iter().cloned().collect(),
            versions: self.cache.new_version_set(),
        };
        let first = self.first_pass.as_ref();
        for_each_version(
            &store,
            &places.days,
            None,
            self.cache.release_deadline.instant(),
            &pass,
            &mut places.unchecked.incomplete_listings,
            |(of, done): (ReleasedVersion, ReleaseOutcome)| {
                let is_left = first.is_none_or(|first| {
                    // A version with a legal hold on a day not visited before may be one that was held.
                    let was_looked_at = of.day.is_some_and(|place| first.days.contains(&place));
                    first.versions.may_contain(of.version)
                        || done.written() == ProtectionWrite::LegalHold && !was_looked_at
                });
                released.note_version(&done, is_left, of.uids);
                seen.versions.insert(of.version);
            },
        )
        .await?;
        self.first_pass.get_or_insert(seen);
        released.unchecked = places.unchecked;
        let unread = pass.manifest_errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        released.manifest_error = unread.into_values().next();
        Ok(())
    }
}

impl ReleaseReport {
    /// Records the outcome of a version for the holds with these UIDs.
    fn note_version(&mut self, done: &ReleaseOutcome, is_left: bool, uids: Vec<String>) {
        match done {
            ReleaseOutcome::Nothing => (),
            ReleaseOutcome::StillHeld => self.still_held += 1,
            ReleaseOutcome::WaitingForLedger => self.waiting_for_ledger.extend(uids),
            ReleaseOutcome::WaitingForManifest => self.waiting_for_manifest.extend(uids),
            ReleaseOutcome::Undeletable => self.undeletable += 1,
            ReleaseOutcome::Released(_) | ReleaseOutcome::Expired(..) | ReleaseOutcome::Deleted(..) => {
                match done {
                    ReleaseOutcome::Deleted(_, count) => self.deleted += count,
                    _ => self.released += 1,
                }
                if is_left {
                    self.changed.extend(uids);
                }
            }
            ReleaseOutcome::Failed(error) => {
                for uid in uids {
                    self.errors.entry(uid).or_insert_with(|| PassErrors::without_versions(error)).add(error);
                }
            }
        }
    }
}

struct ReleaseOperation<'a> {
    store: &'a BucketClient,
    closing_scopes: &'a [HoldScope],
    /// UIDs in the order of the scopes.
    uids: &'a [&'a str],
    holds: &'a dyn OpenHolds,
    ceilings: &'a Ceilings,
    /// Versions in their manifests, in the same order.
    manifests: &'a [Arc<ManifestVersions>],
    cache: &'a ProtectionCache,
    time: DecisionTime,
    /// Reasons that manifests of other holds are unknown, by UID. Each is read once a pass.
    manifest_errors: Mutex<BTreeMap<String, HoldError>>,
}

/// Open holds other than those under release.
struct OtherHolds {
    open: OpenScopes,
    /// Versions in their manifests, as far as known.
    manifests: Vec<Arc<ManifestVersions>>,
    /// Scopes of holds with an unknown manifest, and the reason. Any version of their sources may be in it.
    unknown_manifests: Vec<(HoldScope, HoldError)>,
}

impl OtherHolds {
    /// Returns why another open hold may keep a version. Until this is known, the version and its hold stay as they
    /// are.
    fn manifest_error_for(&self, stored: &StoredRecording<'_>) -> Option<&HoldError> {
        let (class, source) = (stored.key.class(), stored.key.source());
        let mut untold = self.unknown_manifests.iter();
        let theirs = untold.find(|(cover, _)| cover.includes_source(class, source));
        theirs.map(|(_, why)| why)
    }
}

/// Version, source day, and the UIDs of its holds.
struct ReleasedVersion {
    version: Fingerprint,
    day: Option<SourceDay>,
    uids: Vec<String>,
}

enum ReleaseOutcome {
    Nothing,
    StillHeld,
    WaitingForLedger,
    /// Another open hold with an unknown manifest may keep it.
    WaitingForManifest,
    Released(ProtectionWrite),
    /// Past its ceiling: to be deleted with the markers of its key.
    Expired(Box<ListedVersion>, Vec<VersionRef>, ProtectionWrite),
    Deleted(ProtectionWrite, u64),
    /// Past its ceiling and without a legal hold, but the store refuses to delete it.
    Undeletable,
    Failed(HoldError),
}

/// Last protection write on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtectionWrite {
    Nothing,
    Tag,
    LegalHold,
}

impl ReleaseOutcome {
    const fn written(&self) -> ProtectionWrite {
        match self {
            Self::Released(written) | Self::Expired(.., written) | Self::Deleted(written, _) => *written,
            _ => ProtectionWrite::Nothing,
        }
    }

    fn from_result(answer: Result<Self, StoreError>) -> Self {
        answer.unwrap_or_else(|error| Self::Failed(error.into()))
    }
}

impl Operation for ReleaseOperation<'_> {
    type Output = (ReleasedVersion, ReleaseOutcome);
    type Snapshot = OtherHolds;

    /// Reads the other open holds.
    async fn snapshot(&self) -> Result<OtherHolds, HoldError> {
        let entries = ledger::entries(self.store).await?;
        let ledger = ledger::open_scopes_except(&entries, &self.uids.iter().copied().collect());
        let open = entries.values().filter(|entry| entry.is_open());
        let others = open.filter(|entry| !self.uids.contains(&entry.uid.as_str()));
        let (mut told, mut untold) = (Vec::new(), Vec::new());
        for entry in others {
            match self.load_manifest(entry).await {
                Ok(its) => told.push(its),
                Err(why) => untold.push((entry.scope.clone(), why)),
            }
        }
        // The API server last: a hold may be declared while the ledger is read.
        let declared = self.holds.scopes().await?;
        let open = OpenScopes { ledger, declared };
        // With a wrong clock, unexpired versions would be deleted, and delayed requests would stay valid for longer.
        self.store.clock.check_time(self.time)?;
        Ok(OtherHolds { open, manifests: told, unknown_manifests: untold })
    }

    fn applies_to(&self, listed: &ListedVersion, _: &[VersionRef]) -> bool {
        self.uids_of(listed).next().is_some()
    }

    async fn apply(
        &self,
        known: &OtherHolds,
        listed: ListedVersion,
        markers: Vec<VersionRef>,
    ) -> Self::Output {
        let of = ReleasedVersion {
            version: self.cache.fingerprint(&listed.key, &listed.id),
            day: listed.key.parse().as_ref().map(SourceDay::of).ok(),
            uids: self.uids_of(&listed).map(str::to_owned).collect(),
        };
        (of, ReleaseOutcome::from_result(self.release_version(known, listed, markers).await))
    }

    fn error<'a>(&self, (_, done): &'a Self::Output) -> Option<&'a HoldError> {
        match done {
            ReleaseOutcome::Failed(error) => Some(error),
            _ => None,
        }
    }

    fn is_deferred(&self, (_, done): &Self::Output) -> bool {
        matches!(done, ReleaseOutcome::Expired(..))
    }

    async fn apply_deferred(&self, known: &OtherHolds, (of, done): Self::Output) -> Self::Output {
        (of, ReleaseOutcome::from_result(self.delete_expired(known, done).await))
    }
}

impl ReleaseOperation<'_> {
    /// Returns the versions in the manifest of another open hold.
    async fn load_manifest(&self, entry: &LedgerEntry) -> Result<Arc<ManifestVersions>, HoldError> {
        let unread = || lock(&self.manifest_errors);
        if let Some(why) = unread().get(&entry.uid) {
            return Err(why.clone());
        }
        let told = manifest::load_from(self.store, entry, self.cache).await;
        let told = told.map_err(HoldError::from).and_then(|told| match told.versions.budget_error() {
            Some(why) => Err(why),
            None => Ok(told),
        });
        told.map_err(|why| {
            let why = HoldError::UnknownManifest { hold: entry.name.clone(), reason: why.to_string() };
            unread().insert(entry.uid.clone(), why.clone());
            why
        })
    }

    /// Returns the UIDs of the holds that cover a version or list it in their manifest.
    fn uids_of<'w>(&'w self, listed: &'w ListedVersion) -> impl Iterator<Item = &'w str> {
        let version = self.cache.fingerprint(&listed.key, &listed.id);
        let stored = StoredRecording::of(listed, self.ceilings);
        let holds = self.uids.iter().zip(self.closing_scopes).zip(self.manifests);
        stored.into_iter().flat_map(move |stored| {
            let its = holds.clone().filter(move |((_, cover), told)| {
                stored.is_in_scope(std::slice::from_ref(cover)) || told.versions.contains(version)
            });
            its.map(|((uid, _), _)| *uid)
        })
    }

    /// Returns which other open hold keeps a version.
    fn held_by(&self, stored: &StoredRecording<'_>, known: &OtherHolds) -> Option<HeldBy> {
        let OtherHolds { open, manifests: told, .. } = known;
        // A version in another manifest belongs to that hold, whatever its key says.
        let version = self.cache.fingerprint(&stored.listed.key, &stored.listed.id);
        if told.iter().any(|told| told.versions.contains(version)) {
            return Some(HeldBy::Ledger);
        }
        if stored.is_in_scope_by_key(self.closing_scopes) {
            stored.held_by_key(open)
        } else {
            stored.held_by(open)
        }
    }

    async fn release_version(
        &self,
        known: &OtherHolds,
        listed: ListedVersion,
        markers: Vec<VersionRef>,
    ) -> Result<ReleaseOutcome, StoreError> {
        let Some(stored) = StoredRecording::of(&listed, self.ceilings) else {
            return Ok(ReleaseOutcome::Nothing);
        };
        match self.held_by(&stored, known) {
            Some(HeldBy::Ledger) => return Ok(ReleaseOutcome::StillHeld),
            Some(HeldBy::Declared) => return Ok(ReleaseOutcome::WaitingForLedger),
            None => (),
        }
        // Before any write: the version may be evidence of the other hold.
        if known.manifest_error_for(&stored).is_some() {
            return Ok(ReleaseOutcome::WaitingForManifest);
        }
        let version = listed.version_ref();
        // Before the writes: another hold over this version must read its protection again.
        self.cache.invalidate(&listed);
        let Some(found) = protection::read(self.store, &version).await? else {
            return Ok(ReleaseOutcome::Nothing);
        };
        let tag = RetentionTag::default_for(stored.key.class());
        let writes = steps_to_release(&found, tag);
        let mut written = ProtectionWrite::Nothing;
        for write in &writes {
            match *write {
                ProtectionStep::LegalHold(on) => {
                    protection::write_legal_hold(self.store, &version, on).await?;
                    written = ProtectionWrite::LegalHold;
                }
                ProtectionStep::Tag(tag) => {
                    protection::write_tag(self.store, &version, tag).await?;
                    written = ProtectionWrite::Tag;
                }
                // `steps_to_release` never returns it: a released version may expire behind its delete marker.
                ProtectionStep::Unhide => (),
            }
        }
        if stored.expires_at_by_key() <= self.time.now {
            return Ok(ReleaseOutcome::Expired(Box::new(listed), markers, written));
        }
        Ok(match written {
            ProtectionWrite::Nothing => ReleaseOutcome::Nothing,
            written => ReleaseOutcome::Released(written),
        })
    }

    /// Deletes an expired version unless a hold was declared since the page was listed.
    async fn delete_expired(
        &self,
        known: &OtherHolds,
        done: ReleaseOutcome,
    ) -> Result<ReleaseOutcome, StoreError> {
        let ReleaseOutcome::Expired(listed, markers, written) = done else {
            return Ok(done);
        };
        let stored = StoredRecording::of(&listed, self.ceilings);
        let is_kept =
            |stored| self.held_by(stored, known).is_some() || known.manifest_error_for(stored).is_some();
        if stored.as_ref().is_some_and(is_kept) {
            // The next place pass restores its protection.
            return Ok(ReleaseOutcome::Released(written));
        }
        // The markers last: without them, the version would be current again.
        match objects::delete_version(self.store, &listed.version_ref()).await {
            Err(error) if HoldError::from(error.clone()).is_rejection() => {
                return Ok(match written {
                    ProtectionWrite::Nothing => ReleaseOutcome::Undeletable,
                    // Another pass must read that the legal hold is off.
                    written => ReleaseOutcome::Released(written),
                });
            }
            deleted => deleted?,
        }
        for marker in &markers {
            objects::delete_version(self.store, marker).await?;
        }
        Ok(ReleaseOutcome::Deleted(written, 1 + markers.len() as u64))
    }
}

#[cfg(test)]
mod tests;
