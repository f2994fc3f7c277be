//! Audits a bucket from its content alone, independently of the controllers.
//!
//! It only reads, and its memory grows with the held versions only. Anyone who does not want to rely on the operator
//! can run it with their own credentials.

mod tally;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use self::tally::{AuditRules, AuditedHolds};
pub use self::tally::{FindingKind, FindingSummary, Tally};
use super::day_filter::VersionLister;
use super::error::HoldError;
use super::hold::manifest;
use super::hold::protection_cache::ProtectionCache;
use super::ledger;
use super::sources;
use super::sweep::state::ScanRange;
use crate::api::reject_future;
pub use crate::rules::hold::expiry::is_at_boundary;
use crate::rules::hold::expiry::{boundary_days, expected_days_with_holds};
use crate::rules::{Class, DayFilter, Key, ListedVersion, RetentionTerms, StoredRecording};
use crate::storage::bucket::foreign_objects::scan;
use crate::storage::bucket::probe::canary::is_canary;
use crate::storage::s3::listing::is_unlisted_key_error;
use crate::storage::s3::request_each::request_each;
use crate::storage::s3::store_clock::ClockSkew;
use crate::storage::s3::{BucketClient, BucketConnection, StoreError, protection, simulation};
use crate::sync::lock;

/// Time in which a hold must be placed.
const PLACEMENT_GRACE: SignedDuration = SignedDuration::from_mins(10);
const MAX_CONCURRENT_READS: usize = 32;
/// Concurrent scans, each with two pages in memory. Their reads share [`MAX_CONCURRENT_READS`].
const MAX_CONCURRENT_SCANS: usize = 4;

/// Scope and inputs of an audit.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    pub terms: RetentionTerms,
    pub range: ScanRange,
    /// Of this many versions that no hold covers, the protection of one is read. 1 reads all.
    pub sample_one_in: u32,
    /// Holds of the cluster by UID, and whether they are resolved. `None`: unknown.
    pub known_holds: Option<BTreeMap<String, bool>>,
    /// Source of fingerprints. Empty: an audit reads manifests itself.
    pub cache: Arc<ProtectionCache>,
}

/// Reason that an audit failed. It has no result then.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum AuditError {
    /// The clocks are too far apart to decide whether a version is past its ceiling.
    #[error(
        "the clocks of this machine and the store are {} s apart, so expired versions are unknown; correct the wrong clock",
        .0.skew.as_secs()
    )]
    Clock(#[from] ClockSkew),
    /// A manifest exceeds the memory budget, so its versions cannot be told from unexplained ones.
    #[error("{0}")]
    #[strum(transparent)]
    TooManyVersions(HoldError),
    #[error(transparent)]
    #[strum(transparent)]
    Storage(#[from] StoreError),
}

/// Audits a bucket. The identity must be able to list versions and read their tags, legal holds, and the ledger.
pub async fn audit(
    reader: &BucketConnection,
    scope: &AuditOptions,
    now: Timestamp,
) -> Result<Tally, AuditError> {
    let store = reader.client();
    let mut tally = Tally::default();
    let holds = read_holds(&store, scope, &mut tally, now).await?;
    // Before anything is called overdue.
    store.clock.check()?;
    let rules = AuditRules { terms: &scope.terms, holds: &holds, now };
    let audit = Audit {
        store: &store,
        rules: &rules,
        sample_one_in: scope.sample_one_in.max(1),
        // Another sample in each audit: with a fixed one, no audit would read the others.
        salt: simulation::random_salt(),
        tally: Mutex::new(tally),
        read_permits: Semaphore::new(MAX_CONCURRENT_READS),
    };
    for class in Class::ALL {
        let wanted: &[DayFilter] = match scope.range {
            ScanRange::All => &[DayFilter::ALL],
            ScanRange::Boundary => &boundary_days(class, &scope.terms.ceilings, now),
        };
        let sources = stream::iter(audit.list_days(class, wanted).await?.into_iter().map(Ok));
        let walk = |days| audit.scan_days(days);
        sources.try_for_each_concurrent(MAX_CONCURRENT_SCANS, walk).await?;
    }
    if scope.range == ScanRange::All {
        // Not for the boundary: this listing costs the same, however small the range is.
        audit.add_foreign_objects().await?;
    }
    // Again, since the clocks may have been changed during the audit.
    store.clock.check()?;
    Ok(audit.tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads the open holds of the ledger, and which of them should be in place. Reports holds that the cluster does not
/// have.
async fn read_holds(
    store: &BucketClient,
    scope: &AuditOptions,
    tally: &mut Tally,
    now: Timestamp,
) -> Result<AuditedHolds, AuditError> {
    let entries = ledger::entries(store).await?;
    let mut holds = AuditedHolds { cache: scope.cache.clone(), ..AuditedHolds::default() };
    let memory = holds.cache.clone();
    let told_of = |entry| manifest::load_open(store, std::iter::once(entry), &memory);
    for entry in entries.values().filter(|entry| entry.is_open()) {
        let known = scope.known_holds.as_ref().map(|known| known.get(&entry.uid));
        if known == Some(None) {
            tally.add(FindingKind::OrphanedHold, &entry.name);
        }
        let is_resolved = match known {
            // In doubt, a hold is open: one that the cluster does not have counts as unresolved.
            Some(known) => known.is_some_and(|is_resolved| *is_resolved),
            None => entry.resolved_at.is_some(),
        };
        let told = told_of(entry).await?;
        if let Some(error) = told.iter().find_map(|told| told.versions.budget_error()) {
            return Err(AuditError::TooManyVersions(error));
        }
        holds.manifests.extend(told.iter().cloned());
        if !is_resolved {
            holds.unresolved.push(entry.scope.clone());
            holds.unresolved_manifests.extend(told);
        }
        if !is_resolved
            // A clock that was ahead may have written the time. Then nothing excuses a missing protection.
            && reject_future(entry.accepted_at, now).is_none_or(|at| now.duration_since(at) > PLACEMENT_GRACE)
        {
            holds.settled.push(entry.scope.clone());
        }
        holds.open.push(entry.scope.clone());
    }
    Ok(holds)
}

struct Audit<'a> {
    store: &'a BucketClient,
    rules: &'a AuditRules<'a>,
    sample_one_in: u32,
    /// Makes the sample unpredictable.
    salt: [u64; 2],
    tally: Mutex<Tally>,
    /// Permits of all reads of protections.
    read_permits: Semaphore,
}

impl Audit<'_> {
    /// Returns the prefixes of the days among `wanted` that have objects, by source.
    async fn list_days(&self, class: Class, wanted: &[DayFilter]) -> Result<Vec<Vec<String>>, StoreError> {
        let now = self.rules.now;
        let expected =
            expected_days_with_holds(&self.rules.holds.open, class, &self.rules.terms.ceilings, now);
        let (sources, days) = sources::list_days(self.store, class, wanted, expected.as_slice(), now).await?;
        lock(&self.tally).add_foreign(FindingKind::UnparsableKey, &sources.foreign);
        for source in &sources.deferred {
            lock(&self.tally).add(FindingKind::UnvisitedSource, source);
        }
        if sources.is_truncated {
            lock(&self.tally).add(FindingKind::UnvisitedSource, class.prefix());
        }
        let mut all = Vec::new();
        for (source, found) in days {
            lock(&self.tally).add_foreign(FindingKind::UnparsableKey, &found.foreign);
            for _ in 0..found.deferred {
                lock(&self.tally).add(FindingKind::UnvisitedDay, &source);
            }
            let days = found.days.into_iter();
            all.push(days.map(|day| Key::day_prefix(class, &source, day)).collect());
        }
        Ok(all)
    }

    /// Audits days of one source.
    async fn scan_days(&self, days: Vec<String>) -> Result<(), StoreError> {
        let mut walk = VersionLister::new(self.store, days);
        let (mut newer, mut found) = (None, walk.next_page().await?);
        while let Some(page) = found {
            let chosen = self.tally_page(&page, &mut newer);
            // Fetches the next page while the protections of this one are read.
            let (next, inspected) = futures::join!(walk.next_page(), self.inspect_protection(chosen));
            inspected?;
            found = match next {
                // The lister returns this error last, so all listed versions are counted. `UnlistedKey` reports the
                // others.
                Err(error) if is_unlisted_key_error(&error) => None,
                next => next?,
            };
        }
        let mut tally = lock(&self.tally);
        tally.add_foreign(FindingKind::UnparsableKey, &walk.foreign);
        tally.add_foreign(FindingKind::CrowdedKey, &walk.crowded_keys);
        tally.add_foreign(FindingKind::UnlistedKey, &walk.unlisted);
        Ok(())
    }

    /// Reports objects that are neither recordings nor part of the ledger or probe.
    async fn add_foreign_objects(&self) -> Result<(), StoreError> {
        // By folder, since a listing of all keys would list every recording again.
        self.add_foreign_objects_under("", true, is_own_root_name).await?;
        self.add_foreign_objects_under("probe/", false, is_canary).await
    }

    async fn add_foreign_objects_under(
        &self,
        prefix: &str,
        by_folder: bool,
        is_known: fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let is_all = scan(self.store, prefix, by_folder, |page| {
            let keys = page.versions.iter().map(|listed| &listed.key);
            let others = page.folders.iter().chain(keys).filter(|key| !is_known(key));
            others.for_each(|key| lock(&self.tally).add(FindingKind::UnexpectedObject, key));
        });
        if !is_all.await? {
            lock(&self.tally).add(FindingKind::UnexpectedObject, &format!("{prefix}…"));
        }
        Ok(())
    }

    /// Counts a page. Returns the versions whose protection is read: all held ones and a sample of the others.
    fn tally_page<'l>(
        &self,
        found: &'l [ListedVersion],
        newer: &mut Option<ListedVersion>,
    ) -> Vec<(StoredRecording<'l>, bool)> {
        let (mut chosen, mut tally) = (Vec::new(), lock(&self.tally));
        for listed in found {
            let recording = tally::tally_listed(&mut tally, self.rules, listed, newer.as_ref());
            *newer = Some(listed.clone());
            if let Some((stored, is_held)) = recording
                && (is_held || self.is_sampled(&listed.id))
            {
                chosen.push((stored, is_held));
            }
        }
        chosen
    }

    fn is_sampled(&self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.salt, id).hash(&mut hasher);
        hasher.finish().is_multiple_of(u64::from(self.sample_one_in))
    }

    /// Reads and counts protections. Reports those that cannot be read.
    async fn inspect_protection(&self, chosen: Vec<(StoredRecording<'_>, bool)>) -> Result<(), StoreError> {
        let read = |(stored, is_held): (_, bool)| async move {
            let _turn = self.read_permits.acquire().await;
            let StoredRecording { listed, .. } = &stored;
            let marks = protection::read(self.store, &listed.version_ref()).await;
            ((stored, is_held), marks)
        };
        let unread = request_each(chosen, MAX_CONCURRENT_READS, read, |(stored, is_held), marks| {
            // A version that is gone since the listing has no protection.
            if let Some(marks) = marks {
                tally::tally_inspected(&mut lock(&self.tally), self.rules, &stored, is_held, &marks);
            }
        });
        let unread = unread.await?;
        for ((stored, _), error) in &unread {
            let key = &stored.listed.key;
            lock(&self.tally).add(FindingKind::UnreadProtection, &format!("{key}: {error}"));
        }
        Ok(())
    }
}

/// Returns whether a key or folder at the root of the bucket belongs to the operator.
fn is_own_root_name(key: &str) -> bool {
    let folders = Class::ALL.iter().map(|class| class.prefix());
    folders.chain(["ledger/", "probe/"]).any(|folder| key == folder)
}
