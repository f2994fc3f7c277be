//! The audit: whether the promises are kept, from what is in the bucket alone, whatever the controllers believe. Reads
//! only, in memory that grows with what is held alone; who does not trust the operator can run it with credentials of their own.

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use self::tally::{AuditRules, AuditedHolds, NewerVersion};
pub use self::tally::{FindingKind, FindingSummary, Tally};
use super::day_filter::{VersionLister, list_source_days};
use super::error::HoldError;
use super::hold::manifest;
use super::hold::protection_cache::ProtectionCache;
use super::ledger;
use super::sources::list_sources;
use super::sweep::state::ScanRange;
use crate::api::reject_future;
pub use crate::rules::hold::expiry::is_at_boundary;
use crate::rules::hold::expiry::{StoredRecording, boundary_days, expected_days_with_holds};
use crate::rules::recording::Class;
use crate::rules::recording::days::DayFilter;
use crate::rules::recording::key::Key;
use crate::rules::recording::version::ListedVersion;
use crate::rules::retention::RetentionTerms;
use crate::storage::bucket::foreign_objects::scan;
use crate::storage::bucket::probe::canary::is_canary;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::listing::is_unlisted_key_error;
use crate::storage::s3::protection;
use crate::storage::s3::request_each::request_each;
use crate::storage::s3::simulation;
use crate::storage::s3::store_clock::ClockSkew;

/// How long a hold may be under way to its place.
const PLACEMENT_GRACE: SignedDuration = SignedDuration::from_mins(10);
const MAX_CONCURRENT_READS: usize = 32;
/// Sources whose days are looked for at once.
const MAX_CONCURRENT_SOURCES: usize = 8;
/// Sources that are walked at once, each with two pages of versions in memory. Their reads share [`MAX_CONCURRENT_READS`].
const MAX_CONCURRENT_SCANS: usize = 4;

/// What is audited, and by what.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    pub terms: RetentionTerms,
    pub range: ScanRange,
    /// Of how many versions that no hold covers the marks of one are read: 1 reads all.
    pub sample_one_in: u32,
    /// The holds that the cluster knows, by UID, and whether their incident is resolved; `None`: nobody asked it.
    pub known_holds: Option<BTreeMap<String, bool>>,
    /// By what versions are told apart. It knows nothing yet: an audit reads manifests itself.
    pub cache: Arc<ProtectionCache>,
}

/// Why an audit ended early: nothing is known then.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum AuditError {
    /// The clocks are too far apart to tell what is over its ceiling.
    #[error(
        "this machine's clock and the store's are {} s apart: what is over its ceiling cannot be told; put the wrong one right",
        .0.skew.as_secs()
    )]
    Clock(#[from] ClockSkew),
    /// What a manifest lists cannot be told apart from what nothing explains.
    #[error("{0}")]
    #[strum(transparent)]
    TooManyVersions(HoldError),
    #[error(transparent)]
    #[strum(transparent)]
    Storage(#[from] StoreError),
}

/// Audits a bucket as whoever may list its versions, read their tags and legal holds, and the ledger.
pub async fn audit(
    reader: &BucketConnection,
    scope: &AuditOptions,
    now: Timestamp,
) -> Result<Tally, AuditError> {
    let store = reader.client();
    let mut tally = Tally::default();
    let holds = read_holds(&store, scope, &mut tally, now).await?;
    store.clock.check()?;
    let rules = AuditRules { terms: &scope.terms, holds: &holds, now };
    let audit = Audit {
        store: &store,
        rules: &rules,
        sample_one_in: scope.sample_one_in.max(1),
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
        audit.add_foreign_objects().await?;
    }
    store.clock.check()?;
    Ok(audit.tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What the ledger has open, and what of that is neither being placed nor being released. A hold that only the ledger
/// knows is told of.
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
            Some(known) => known.is_some_and(|is_resolved| *is_resolved),
            None => entry.resolved_at.is_some(),
        };
        let told = told_of(entry).await?;
        if let Some(error) = told.iter().find_map(|told| told.budget_error()) {
            return Err(AuditError::TooManyVersions(error));
        }
        holds.manifests.extend(told.iter().cloned());
        if !is_resolved {
            holds.unresolved.push(entry.scope());
            holds.unresolved_manifests.extend(told);
        }
        if !is_resolved
            && reject_future(entry.accepted_at, now).is_none_or(|at| now.duration_since(at) > PLACEMENT_GRACE)
        {
            holds.settled.push(entry.scope());
        }
        holds.open.push(entry.scope());
    }
    Ok(holds)
}

struct Audit<'a> {
    store: &'a BucketClient,
    rules: &'a AuditRules<'a>,
    sample_one_in: u32,
    /// Nobody can foresee which versions are looked at.
    salt: [u64; 2],
    tally: Mutex<Tally>,
    /// Whoever reads marks has one of its permits.
    read_permits: Semaphore,
}

impl Audit<'_> {
    fn lock_tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of every source, the prefixes of the days among `wanted` that have anything.
    async fn list_days(&self, class: Class, wanted: &[DayFilter]) -> Result<Vec<Vec<String>>, StoreError> {
        let now = self.rules.now;
        let expected =
            expected_days_with_holds(&self.rules.holds.open, class, &self.rules.terms.ceilings, now);
        let expected = expected.as_slice();
        let sources = list_sources(self.store, class, &BTreeSet::new(), now).await?;
        self.lock_tally().add_foreign(FindingKind::UnparsableKey, &sources.foreign);
        for source in &sources.deferred {
            self.lock_tally().add(FindingKind::UnvisitedSource, source);
        }
        if sources.is_truncated {
            self.lock_tally().add(FindingKind::UnvisitedSource, class.prefix());
        }
        let days = |source: String| async move {
            let found = list_source_days(self.store, class, &source, wanted, expected, now).await?;
            Ok::<_, StoreError>((source, found))
        };
        let jobs: Vec<_> = sources.visited.into_iter().map(days).collect();
        let mut found = stream::iter(jobs).buffered(MAX_CONCURRENT_SOURCES);
        let mut all = Vec::new();
        while let Some((source, found)) = found.try_next().await? {
            self.lock_tally().add_foreign(FindingKind::UnparsableKey, &found.foreign);
            for _ in 0..found.deferred {
                self.lock_tally().add(FindingKind::UnvisitedDay, &source);
            }
            let days = found.days.into_iter();
            all.push(days.map(|day| Key::day_prefix(class, &source, day)).collect());
        }
        Ok(all)
    }

    /// Goes through days of one source.
    async fn scan_days(&self, days: Vec<String>) -> Result<(), StoreError> {
        let mut walk = VersionLister::new(self.store, days);
        let (mut newer, mut found) = (None, walk.next_page().await?);
        while let Some(page) = found {
            let chosen = self.tally_page(&page, &mut newer);
            // The next page is fetched while the marks of this one are read.
            let (next, inspected) = futures::join!(walk.next_page(), self.inspect_protection(chosen));
            inspected?;
            found = match next {
                Err(error) if is_unlisted_key_error(&error) => None,
                next => next?,
            };
        }
        let mut tally = self.lock_tally();
        tally.add_foreign(FindingKind::UnparsableKey, &walk.foreign);
        tally.add_foreign(FindingKind::CrowdedKey, &walk.crowded_keys);
        tally.add_foreign(FindingKind::UnlistedKey, &walk.unlisted);
        Ok(())
    }

    /// Whatever is in the bucket and is neither a recording, nor the ledger's, nor the probe's.
    async fn add_foreign_objects(&self) -> Result<(), StoreError> {
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
            others.for_each(|key| self.lock_tally().add(FindingKind::UnexpectedObject, key));
        });
        if !is_all.await? {
            self.lock_tally().add(FindingKind::UnexpectedObject, &format!("{prefix}…"));
        }
        Ok(())
    }

    /// Counts a page, and chooses whose marks are read: of all that are held, and of a sample of the rest.
    fn tally_page<'l>(
        &self,
        found: &'l [ListedVersion],
        newer: &mut Option<NewerVersion>,
    ) -> Vec<(StoredRecording<'l>, bool)> {
        let (mut chosen, mut tally) = (Vec::new(), self.lock_tally());
        for listed in found {
            let recording = tally::tally_listed(&mut tally, self.rules, listed, newer.as_ref());
            *newer = Some(NewerVersion::new(listed));
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

    /// Reads marks, and counts them. Those that cannot be read are told.
    async fn inspect_protection(&self, chosen: Vec<(StoredRecording<'_>, bool)>) -> Result<(), StoreError> {
        let read = |(stored, is_held): (_, bool)| async move {
            let _turn = self.read_permits.acquire().await;
            let StoredRecording { listed, .. } = &stored;
            let marks = protection::read(self.store, &listed.version_ref()).await;
            ((stored, is_held), marks)
        };
        let unread = request_each(chosen, MAX_CONCURRENT_READS, read, |(stored, is_held), marks| {
            // What is gone since it was listed has no marks.
            if let Some(marks) = marks {
                tally::tally_inspected(&mut self.lock_tally(), self.rules, &stored, is_held, &marks);
            }
        });
        let unread = unread.await?;
        for ((stored, _), error) in &unread {
            let key = &stored.listed.key;
            self.lock_tally().add(FindingKind::UnreadProtection, &format!("{key}: {error}"));
        }
        Ok(())
    }
}

/// Whether a key or folder at the root of a bucket is one of ours.
fn is_own_root_name(key: &str) -> bool {
    let folders = Class::ALL.iter().map(|class| class.prefix());
    folders.chain(["ledger/", "probe/"]).any(|folder| key == folder)
}
