//! Restores tags that no open hold explains, since lifecycle rules select by tag.
//!
//! A recorder may write `sealed` at any time, and so may an upload that began before a release. Only the operator can
//! change such a tag, and lifecycle rules ignore it. With the operator down, the recording would outlive its ceiling.
//! So each version is checked on the day after its recording, and again every four weeks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::ToSpan;

use super::state::{Sweep, SweepError};
use super::{Disposition, disposition};
use crate::rules::{ListedVersion, RetentionTag, StoredRecording, VersionRef, utc_date};
use crate::storage::s3::request_each::request_each;
use crate::storage::s3::{BucketClient, StoreError, protection};
use crate::sync::lock;

/// Concurrent reads of tags for each day.
const MAX_CONCURRENT_READS: usize = 8;
/// Days in which every version is checked once.
const CHECK_INTERVAL_DAYS: u64 = 28;

#[derive(Debug, Default)]
pub(crate) struct RetagReport {
    pub(crate) restored: u64,
    /// Versions whose protection was not returned or whose tag was not accepted or persisted. They are checked again
    /// within four weeks.
    pub(crate) failed: u64,
    /// First of these errors.
    pub(crate) error: Option<StoreError>,
}

impl RetagReport {
    fn add_failure(&mut self, error: StoreError) {
        self.failed += 1;
        self.error.get_or_insert(error);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.restored += other.restored;
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }
}

/// Restores the tags of versions that are not expired and that no hold covers.
pub(crate) async fn retag(sweep: &Sweep<'_>, listed: &[ListedVersion]) -> Result<RetagReport, SweepError> {
    let mut retagged = RetagReport::default();
    let chosen = listed.iter().filter(|listed| is_checked_today(sweep, listed));
    // Open at any time of the sweep. This only saves requests: before a tag is written, the holds are read again.
    let holds = lock(&sweep.observed_holds).clone();
    let unheld = chosen.filter(|listed| {
        let stored = StoredRecording::of(listed, sweep.ceilings);
        let is_kept = |stored: &StoredRecording<'_>| {
            sweep.cache.is_in_manifest(&sweep.manifests, stored) || stored.is_in_scope(&holds)
        };
        stored.is_some_and(|stored| !is_kept(&stored))
    });
    let (mut wrong, unheld): (Vec<&ListedVersion>, Vec<&ListedVersion>) = (Vec::new(), unheld.collect());
    let (many, mut told) = (unheld.len() as u64, 0);
    let unread = request_each(
        unheld,
        MAX_CONCURRENT_READS,
        |listed| check_tag(sweep, listed),
        |listed, is_wrong| {
            told += 1;
            wrong.extend(Some(listed).filter(|_| is_wrong));
        },
    );
    match unread.await {
        Ok(unread) => unread.into_iter().for_each(|(_, error)| retagged.add_failure(error)),
        // The deletion of expired versions needs no tags and continues.
        Err(error) => {
            retagged.failed = many - told;
            retagged.error = Some(error);
            sweep.is_retagging_stopped.store(true, Ordering::Relaxed);
        }
    }
    let mut put_back =
        stream::iter(wrong.into_iter().map(|listed| restore_tag(sweep, listed)).collect::<Vec<_>>())
            .buffer_unordered(MAX_CONCURRENT_READS);
    while let Some(outcome) = put_back.try_next().await? {
        match outcome {
            Ok(is_put_back) => retagged.restored += u64::from(is_put_back),
            Err(error) => retagged.add_failure(error),
        }
    }
    // A store that returns no tags would otherwise cost requests for every version of every sweep.
    if retagged.restored == 0 && retagged.failed > 2 * MAX_CONCURRENT_READS as u64 {
        sweep.is_retagging_stopped.store(true, Ordering::Relaxed);
    }
    Ok(retagged)
}

/// Returns whether a version is checked today: it was recorded yesterday, or its turn in the cycle has come.
fn is_checked_today(sweep: &Sweep<'_>, listed: &ListedVersion) -> bool {
    if listed.is_marker || disposition(listed, sweep.ceilings, &[], sweep.time.now) == Disposition::Delete {
        return false;
    }
    let Some(stored) = StoredRecording::of(listed, sweep.ceilings) else {
        return false;
    };
    let today = utc_date(sweep.time.clock_reading);
    let yesterday = today.checked_sub(1.day()).unwrap_or(today);
    if utc_date(stored.key.start()) == yesterday {
        return true;
    }
    // This hasher has fixed keys: with random ones, a restart would change the day on which a version has its turn.
    let mut hasher = DefaultHasher::new();
    (&listed.key, &listed.id).hash(&mut hasher);
    let turn = u64::try_from(sweep.time.clock_reading.as_second() / 86_400).unwrap_or_default();
    hasher.finish() % CHECK_INTERVAL_DAYS == turn % CHECK_INTERVAL_DAYS
}

/// Returns whether a version has a wrong tag and no legal hold. A version with an unexplained legal hold stays
/// unchanged: the audit reports it.
async fn has_wrong_tag(sweep: &Sweep<'_>, listed: &ListedVersion) -> Result<bool, StoreError> {
    let Some(stored) = StoredRecording::of(listed, sweep.ceilings) else {
        return Ok(false);
    };
    let version = listed.version_ref();
    // Nearly all have the correct tag. The legal hold matters only otherwise, and costs a request.
    match protection::read_tag(sweep.store, &version).await? {
        Some(found) if found != Some(RetentionTag::default_for(stored.key.class())) => {
            Ok(!protection::has_legal_hold(sweep.store, &version).await?)
        }
        _ => Ok(false),
    }
}

async fn check_tag<'l>(
    sweep: &Sweep<'_>,
    listed: &'l ListedVersion,
) -> (&'l ListedVersion, Result<bool, StoreError>) {
    (listed, has_wrong_tag(sweep, listed).await)
}

/// Returns whether the tag was restored and read back. An error does not stop the sweep: no deletion depends on it
/// today.
async fn restore_tag(
    sweep: &Sweep<'_>,
    listed: &ListedVersion,
) -> Result<Result<bool, StoreError>, SweepError> {
    let Some(stored) = StoredRecording::of(listed, sweep.ceilings) else {
        return Ok(Ok(false));
    };
    // Immediately before: a hold may have been declared since.
    let holds = sweep.read_open_holds().await?;
    if stored.is_in_scope(&holds) {
        return Ok(Ok(false));
    }
    // As before every release: a request signed by a fast clock stays valid for longer.
    sweep.store.clock.check_time(sweep.time)?;
    let (version, tag) = (listed.version_ref(), RetentionTag::default_for(stored.key.class()));
    sweep.cache.invalidate(listed);
    let outcome = match protection::write_tag(sweep.store, &version, tag).await {
        Ok(()) => verify_tag(sweep.store, &version, tag).await,
        Err(error) if error.is_not_found() => match protection::is_listed(sweep.store, &version).await {
            Ok(true) => Err(error),
            gone => gone,
        },
        Err(error) => Err(error),
    };
    Ok(outcome)
}

/// Returns an error if an existing version without a legal hold has another tag than was written.
async fn verify_tag(
    store: &BucketClient,
    version: &VersionRef,
    tag: RetentionTag,
) -> Result<bool, StoreError> {
    match protection::read(store, version).await? {
        // A version with a legal hold was placed in the meantime, and its new tag is correct.
        Some(marks) if !marks.legal_hold && marks.tag != Some(tag) => {
            Err(StoreError::without_status("PutObjectTagging", "ReadBackMismatch"))
        }
        _ => Ok(true),
    }
}
