//! The sweep: what is over its ceiling and covered by no open hold goes, all versions of it (article 6). It goes by the
//! recording time in the key, and by nothing that somebody else could have written.
//!
//! Stopped anywhere, the next run goes on: what to do follows from the bucket and the open holds alone.

mod batch;
pub(crate) mod incomplete_uploads;
mod retag;
pub mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, TryStreamExt, future, stream};

use self::batch::delete_batch;
use self::incomplete_uploads::abort_incomplete_uploads;
use self::retag::{RetagReport, retag};
use super::day_filter::{VersionLister, list_source_days};
use super::hold::manifest;
use super::hold::protection_cache::ProtectionCache;
use super::ledger;
use super::sources::list_sources;
use crate::api::Ceilings;
use crate::rules::hold::entry::LedgerEntry;
use crate::rules::hold::expiry::{
    Disposition, StoredRecording, boundary_days, disposition, expected_days_with_holds,
};
use crate::rules::hold::scope::HoldScope;
use crate::rules::recording::Class;
use crate::rules::recording::days::DayFilter;
use crate::rules::recording::key::Key;
use crate::rules::recording::version::ListedVersion;
use crate::storage::recordings::open_holds::OpenHolds;
use crate::storage::recordings::sweep::state::{
    MAX_CONCURRENT_REQUESTS, ScanRange, Sweep, SweepError, SweepReport,
};
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::listing::is_unlisted_key_error;
use crate::storage::s3::store_clock::DecisionTime;

/// Versions in one request: more would keep a server busy with one request for long.
const BATCH_SIZE: usize = 100;
/// Sources whose days are looked for at once.
const MAX_CONCURRENT_SOURCES: usize = 8;

/// Pages that are deleted at once: while the last requests of one are under way, the next begins.
const MAX_CONCURRENT_PAGES: usize = 2;
/// Days of sources that are listed at once, each with a page of versions in memory.
const MAX_CONCURRENT_DAYS: usize = 4;
/// How often what failed is tried again; each time slower.
const MAX_ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(250);

/// Sweeps a bucket as the operator: deletes versions that are over their ceiling at `time.now` and that no hold covers.
/// With [`ScanRange::All`], tags that no hold explains are put back, so that the store's lifecycle expires the version; `memory`
/// has those of which no answer came.
pub async fn sweep(
    operator: &BucketConnection,
    ceilings: &Ceilings,
    holds: &dyn OpenHolds,
    cache: &ProtectionCache,
    range: ScanRange,
    time: DecisionTime,
) -> Result<SweepReport, SweepError> {
    let store = operator.tracking_client(&cache.in_doubt);
    let mut sweep = Sweep {
        store: &store,
        ceilings,
        holds,
        cache,
        manifests: Vec::new(),
        time,
        range,
        observed_holds: Mutex::default(),
        unlisted_days: Mutex::default(),
        is_retagging_stopped: AtomicBool::new(false),
        report: SweepReport::default(),
    };
    match sweep.run().await {
        Ok(()) => Ok(sweep.report),
        // Whatever else is said of it: a store whose clock is another refuses what was signed by ours.
        Err(error) => Err(store.clock.check().err().map_or(error, SweepError::from)),
    }
}

/// A day of one source that had something due.
struct DueDay {
    prefix: String,
    versions: u64,
    bytes: u64,
}

impl Sweep<'_> {
    async fn run(&mut self) -> Result<(), SweepError> {
        // What they cover keeps its tag, and is expected where it is.
        let entries = ledger::entries(self.store).await?;
        self.manifests = manifest::load_open(self.store, entries.values(), self.cache).await?;
        self.combine_open_holds(&entries).await?;
        for class in Class::ALL {
            self.sweep_class(class).await?;
        }
        let hidden = self.unlisted_days.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.report.days_with_unlisted_keys = hidden.len() as u64;
        abort_incomplete_uploads(self).await
    }

    /// The next page of a day. A key that the store hides keeps nothing else from being swept.
    async fn next_page(
        &self,
        walk: &mut VersionLister<'_>,
        day: &str,
    ) -> Result<Option<Vec<ListedVersion>>, SweepError> {
        match walk.next_page().await {
            Err(error) if is_unlisted_key_error(&error) => {
                let mut hidden = self.unlisted_days.lock().unwrap_or_else(PoisonError::into_inner);
                hidden.insert(day.to_owned());
                Ok(None)
            }
            page => Ok(page?),
        }
    }

    async fn sweep_class(&mut self, class: Class) -> Result<(), SweepError> {
        let wanted: &[DayFilter] = match self.range {
            ScanRange::Boundary => &boundary_days(class, self.ceilings, self.time.now),
            ScanRange::All => &[DayFilter::ALL],
        };
        let (days, put_off) = self.list_days(class, wanted).await?;
        self.report.deferred_days += put_off;
        let (send, found) = mpsc::channel(0);
        let this = &*self;
        let deleting = found
            .map(|due| this.delete_with_retries(due))
            .buffer_unordered(MAX_CONCURRENT_PAGES)
            .try_for_each(|()| future::ready(Ok(())));
        let ((swept, retagged), ()) = futures::try_join!(this.list_due(days, send), deleting)?;
        self.report.retagged += retagged.restored;
        self.report.retag_failures += retagged.failed;
        self.report.retag_error = self.report.retag_error.take().or(retagged.error);
        let this = &*self;
        let read_back = stream::iter(swept).map(|day| this.verify_day(day));
        let days: Vec<SweepReport> = read_back.buffer_unordered(MAX_CONCURRENT_DAYS).try_collect().await?;
        for day in days {
            self.report.deleted += day.deleted;
            self.report.bytes += day.bytes;
            self.report.held += day.held;
            self.report.undeletable += day.undeletable;
        }
        Ok(())
    }

    /// The prefixes of the days among `wanted` that have anything, of every source.
    async fn list_days(&self, class: Class, wanted: &[DayFilter]) -> Result<(Vec<String>, u64), SweepError> {
        let sources = list_sources(self.store, class, &BTreeSet::new(), self.time.now).await?;
        let expected =
            expected_days_with_holds(&self.lock_observed_holds(), class, self.ceilings, self.time.now);
        let expected = expected.as_slice();
        let days = |source: String| async move {
            let found = list_source_days(self.store, class, &source, wanted, expected, self.time.now).await?;
            Ok::<_, StoreError>((source, found))
        };
        let jobs: Vec<_> = sources.visited.into_iter().map(days).collect();
        let days: Vec<_> = stream::iter(jobs).buffered(MAX_CONCURRENT_SOURCES).try_collect().await?;
        let put_off = days.iter().map(|(_, found)| found.deferred).sum();
        let prefixes = days
            .iter()
            .flat_map(|(source, found)| found.days.iter().map(|day| Key::day_prefix(class, source, *day)));
        Ok((prefixes.collect(), put_off))
    }

    /// Lists what is due, ahead of what is deleted. Returns where it was.
    async fn list_due(
        &self,
        days: Vec<String>,
        found: mpsc::Sender<Vec<ListedVersion>>,
    ) -> Result<(Vec<DueDay>, RetagReport), SweepError> {
        let (mut swept, mut retagged) = (Vec::new(), RetagReport::default());
        // Each is made when its turn has come: there may be thousands. The deleting side ends when nobody can send any more.
        let mut days = stream::iter(days)
            .map(move |day| self.list_due_on_day(day, found.clone()))
            .buffer_unordered(MAX_CONCURRENT_DAYS);
        while let Some((day, of_day)) = days.try_next().await? {
            swept.extend(Some(day).filter(|day| day.versions > 0));
            retagged.merge(of_day);
        }
        Ok((swept, retagged))
    }

    /// The same of one day, given by its prefix.
    async fn list_due_on_day(
        &self,
        prefix: String,
        mut found: mpsc::Sender<Vec<ListedVersion>>,
    ) -> Result<(DueDay, RetagReport), SweepError> {
        let (mut walk, mut retagged) =
            (VersionLister::new(self.store, [prefix.clone()]), RetagReport::default());
        let mut day = DueDay { prefix, versions: 0, bytes: 0 };
        while let Some(page) = self.next_page(&mut walk, &day.prefix).await? {
            let (due, rest) = self.partition_due(page);
            day.versions += due.len() as u64;
            day.bytes += due.iter().map(|listed| listed.size).sum::<u64>();
            // Before the tags, which a store may take long to tell.
            if !due.is_empty() && found.send(due).await.is_err() {
                // The deleting side has stopped, and says why.
                break;
            }
            if self.range == ScanRange::All && !self.is_retagging_stopped.load(Ordering::Relaxed) {
                retagged.merge(retag(self, &rest).await?);
            }
        }
        Ok((day, retagged))
    }

    /// What is to become of a version. What a manifest lists stays, also where its key has become true since it was held.
    fn disposition(&self, listed: &ListedVersion, holds: &[HoldScope]) -> Disposition {
        match disposition(listed, self.ceilings, holds, self.time.now) {
            Disposition::Delete if self.is_in_manifest(listed) => Disposition::Held,
            fate => fate,
        }
    }

    fn is_in_manifest(&self, listed: &ListedVersion) -> bool {
        let stored = StoredRecording::of(listed, self.ceilings);
        stored.is_some_and(|stored| self.cache.is_in_manifest(&self.manifests, &stored))
    }

    /// What of a page is over its ceiling, and what is not.
    fn partition_due(&self, found: Vec<ListedVersion>) -> (Vec<ListedVersion>, Vec<ListedVersion>) {
        let is_due = |listed: &ListedVersion| {
            StoredRecording::of(listed, self.ceilings)
                .is_some_and(|stored| stored.expires_at() <= self.time.now)
        };
        found.into_iter().partition(is_due)
    }

    /// What became of a day: by what a listing shows afterwards, whatever the answers were.
    async fn verify_day(&self, day: DueDay) -> Result<SweepReport, SweepError> {
        let (mut walk, mut remaining) =
            (VersionLister::new(self.store, [day.prefix.clone()]), SweepReport::default());
        let (mut left, mut bytes_left) = (0, 0);
        while let Some(page) = self.next_page(&mut walk, &day.prefix).await? {
            for listed in self.partition_due(page).0 {
                left += 1;
                bytes_left += listed.size;
                match self.disposition(&listed, &self.lock_observed_holds()) {
                    Disposition::Held => remaining.held += 1,
                    _ => remaining.undeletable += 1,
                }
            }
        }
        remaining.deleted = day.versions.saturating_sub(left);
        remaining.bytes = day.bytes.saturating_sub(bytes_left);
        Ok(remaining)
    }

    /// Sends the deletions, of what no hold covers, again and slower where the store could not keep up. The run ends where whole
    /// requests fail for good. A version that the store does not delete keeps none after it from being swept: what is left is
    /// counted when the day is read back.
    async fn delete_with_retries(&self, due: Vec<ListedVersion>) -> Result<(), SweepError> {
        let (mut left, mut at_once) = (due, MAX_CONCURRENT_REQUESTS);
        for round in 1..=MAX_ATTEMPTS {
            let (mut again, mut last_error) = (Vec::new(), None);
            for together in left.chunks(BATCH_SIZE * at_once) {
                last_error = self.delete_chunk(together, &mut again).await?.or(last_error);
            }
            if again.is_empty() || round == MAX_ATTEMPTS {
                return last_error.map_or(Ok(()), |error| Err(error.into()));
            }
            left = again;
            at_once = (at_once / 2).max(1);
            tokio::time::sleep(BACKOFF * 2_u32.pow(round)).await;
        }
        Ok(())
    }

    /// Sends as much as goes at once. What failed and may be tried again is added to `again`.
    async fn delete_chunk(
        &self,
        chunk: &[ListedVersion],
        retry: &mut Vec<ListedVersion>,
    ) -> Result<Option<StoreError>, SweepError> {
        // Immediately before: a hold may have been declared since the page was listed.
        let holds = self.read_open_holds().await?;
        self.store.clock.check_time(self.time)?;
        let goes = chunk.iter().filter(|listed| self.disposition(listed, &holds) == Disposition::Delete);
        let goes: Vec<&ListedVersion> = goes.collect();
        let batches = goes.chunks(BATCH_SIZE).map(|batch| delete_batch(self.store, batch));
        let mut last_error = None;
        for (batch, answer) in future::join_all(batches).await {
            match answer {
                Ok(failed) => {
                    let failed = batch.iter().filter(|listed| failed.contains(&listed.id));
                    retry.extend(failed.map(|listed| (*listed).clone()));
                }
                Err(error) if error.is_retryable() => {
                    retry.extend(batch.iter().map(|listed| (*listed).clone()));
                    last_error = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last_error)
    }

    /// Those of the ledger and those of the API: these last, since reading the ledger takes long enough to declare one.
    async fn read_open_holds(&self) -> Result<Vec<HoldScope>, SweepError> {
        self.combine_open_holds(&ledger::entries(self.store).await?).await
    }

    async fn combine_open_holds(
        &self,
        entries: &BTreeMap<String, LedgerEntry>,
    ) -> Result<Vec<HoldScope>, SweepError> {
        let mut holds = ledger::open_scopes_except(entries, &BTreeSet::new());
        holds.extend(self.holds.scopes().await?);
        let mut seen = self.lock_observed_holds();
        let new = holds.iter().filter(|hold| !seen.contains(hold));
        let new: Vec<HoldScope> = new.cloned().collect();
        seen.extend(new);
        Ok(holds)
    }

    fn lock_observed_holds(&self) -> MutexGuard<'_, Vec<HoldScope>> {
        self.observed_holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
