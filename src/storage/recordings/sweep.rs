//! Deletes all versions that are past their ceiling and that no open hold covers (article 6).
//!
//! Uses the recording time in the key and nothing that others can write. Can be interrupted anywhere: the next sweep
//! continues from the bucket and the open holds alone.

mod batch;
pub(crate) mod incomplete_uploads;
mod retag;
pub mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, TryStreamExt, future, stream};

use self::batch::delete_batch;
use self::incomplete_uploads::abort_incomplete_uploads;
use self::retag::{RetagReport, retag};
use super::day_filter::VersionLister;
use super::hold::manifest;
use super::hold::protection_cache::ProtectionCache;
use super::{ledger, sources};
use crate::api::Ceilings;
use crate::rules::hold::expiry::{Disposition, boundary_days, disposition, expected_days_with_holds};
use crate::rules::{Class, DayFilter, HoldScope, Key, LedgerEntry, ListedVersion, StoredRecording};
use crate::storage::recordings::OpenHolds;
use crate::storage::recordings::sweep::state::{
    MAX_CONCURRENT_REQUESTS, ScanRange, Sweep, SweepError, SweepReport,
};
use crate::storage::s3::listing::is_unlisted_key_error;
use crate::storage::s3::{BucketConnection, DecisionTime, StoreError};
use crate::sync::lock;

/// Versions of one request: a larger batch would occupy a server for long.
const BATCH_SIZE: usize = 100;
/// Pages that are deleted concurrently: the next starts while the last requests of one are in progress.
const MAX_CONCURRENT_PAGES: usize = 2;
/// Days that are listed concurrently, each with one page in memory.
const MAX_CONCURRENT_DAYS: usize = 4;
/// Attempts of a deletion, with growing pauses.
const MAX_ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(250);

/// Deletes versions that are past their ceiling at `time.now` and that no hold covers.
///
/// With [`ScanRange::All`], also restores tags that no hold explains, so that lifecycle rules expire these versions.
/// `cache` records requests without an answer.
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
        // A store with another clock rejects our signatures. The skew is the cause to report.
        Err(error) => Err(store.clock.check().err().map_or(error, SweepError::from)),
    }
}

/// Day of one source with expired versions.
struct DueDay {
    prefix: String,
    versions: u64,
    bytes: u64,
}

impl Sweep<'_> {
    async fn run(&mut self) -> Result<(), SweepError> {
        // Versions in these manifests keep their tags.
        let entries = ledger::entries(self.store).await?;
        self.manifests = manifest::load_open(self.store, entries.values(), self.cache).await?;
        self.combine_open_holds(&entries).await?;
        for class in Class::ALL {
            self.sweep_class(class).await?;
        }
        let hidden = self.unlisted_days.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.report.days_with_unlisted_keys = hidden.len() as u64;
        // Last: parts of uploads are no recordings, and a flood of them must not delay deletions.
        abort_incomplete_uploads(self).await
    }

    /// Returns the next page of a day. An unlisted key does not stop the sweep.
    async fn next_page(
        &self,
        walk: &mut VersionLister<'_>,
        day: &str,
    ) -> Result<Option<Vec<ListedVersion>>, SweepError> {
        match walk.next_page().await {
            Err(error) if is_unlisted_key_error(&error) => {
                let mut hidden = lock(&self.unlisted_days);
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
        // Without a buffer, a listing waits for the deletions, so each listed day has one page in memory.
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

    /// Returns the prefixes of the days among `wanted` that have objects, and the number of deferred days.
    async fn list_days(&self, class: Class, wanted: &[DayFilter]) -> Result<(Vec<String>, u64), SweepError> {
        let expected =
            expected_days_with_holds(&lock(&self.observed_holds), class, self.ceilings, self.time.now);
        let (_, days) =
            sources::list_days(self.store, class, wanted, expected.as_slice(), self.time.now).await?;
        let put_off = days.iter().map(|(_, found)| found.deferred).sum();
        let prefixes = days
            .iter()
            .flat_map(|(source, found)| found.days.iter().map(|day| Key::day_prefix(class, source, *day)));
        Ok((prefixes.collect(), put_off))
    }

    /// Lists expired versions ahead of their deletion. Returns their days.
    async fn list_due(
        &self,
        days: Vec<String>,
        found: mpsc::Sender<Vec<ListedVersion>>,
    ) -> Result<(Vec<DueDay>, RetagReport), SweepError> {
        let (mut swept, mut retagged) = (Vec::new(), RetagReport::default());
        // Created one by one: there may be thousands. Deletion ends when no sender is left.
        let mut days = stream::iter(days)
            .map(move |day| self.list_due_on_day(day, found.clone()))
            .buffer_unordered(MAX_CONCURRENT_DAYS);
        while let Some((day, of_day)) = days.try_next().await? {
            swept.extend(Some(day).filter(|day| day.versions > 0));
            retagged.merge(of_day);
        }
        Ok((swept, retagged))
    }

    /// Lists the expired versions of one day, given by its prefix.
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
            // Before the tags, which a store may take long to return.
            if !due.is_empty() && found.send(due).await.is_err() {
                // Deletion has stopped and reports the reason.
                break;
            }
            if self.range == ScanRange::All && !self.is_retagging_stopped.load(Ordering::Relaxed) {
                retagged.merge(retag(self, &rest).await?);
            }
        }
        Ok((day, retagged))
    }

    /// Decides about a version. One in a manifest stays, even if its key has become plausible since it was held.
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

    /// Splits a page into versions past their ceiling and others.
    fn partition_due(&self, found: Vec<ListedVersion>) -> (Vec<ListedVersion>, Vec<ListedVersion>) {
        let is_due = |listed: &ListedVersion| {
            StoredRecording::of(listed, self.ceilings)
                .is_some_and(|stored| stored.expires_at() <= self.time.now)
        };
        found.into_iter().partition(is_due)
    }

    /// Counts the result of a day from a new listing, since answers to deletions are not reliable.
    async fn verify_day(&self, day: DueDay) -> Result<SweepReport, SweepError> {
        let (mut walk, mut remaining) =
            (VersionLister::new(self.store, [day.prefix.clone()]), SweepReport::default());
        let (mut left, mut bytes_left) = (0, 0);
        while let Some(page) = self.next_page(&mut walk, &day.prefix).await? {
            for listed in self.partition_due(page).0 {
                left += 1;
                bytes_left += listed.size;
                // A hold that was open at any time of the sweep explains why the version is still there.
                match self.disposition(&listed, &lock(&self.observed_holds)) {
                    Disposition::Held => remaining.held += 1,
                    _ => remaining.undeletable += 1,
                }
            }
        }
        // The new listing may contain versions that came after the first.
        remaining.deleted = day.versions.saturating_sub(left);
        remaining.bytes = day.bytes.saturating_sub(bytes_left);
        Ok(remaining)
    }

    /// Deletes the versions that no hold covers. Retries more slowly if the store is overloaded, and fails if whole
    /// requests keep failing. Single versions that remain are counted when the day is listed again.
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

    /// Sends concurrent batches. Adds versions to retry to `retry`.
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
                // The store may have deleted some or all of the batch. To delete a version twice changes nothing.
                Err(error) if error.is_retryable() => {
                    retry.extend(batch.iter().map(|listed| (*listed).clone()));
                    last_error = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last_error)
    }

    /// Returns the open scopes of the ledger and the API server. The API server last: a hold may be declared while the
    /// ledger is read.
    async fn read_open_holds(&self) -> Result<Vec<HoldScope>, SweepError> {
        self.combine_open_holds(&ledger::entries(self.store).await?).await
    }

    async fn combine_open_holds(
        &self,
        entries: &BTreeMap<String, LedgerEntry>,
    ) -> Result<Vec<HoldScope>, SweepError> {
        let mut holds = ledger::open_scopes_except(entries, &BTreeSet::new());
        holds.extend(self.holds.scopes().await?);
        let mut seen = lock(&self.observed_holds);
        let new = holds.iter().filter(|hold| !seen.contains(hold));
        let new: Vec<HoldScope> = new.cloned().collect();
        seen.extend(new);
        Ok(holds)
    }
}
