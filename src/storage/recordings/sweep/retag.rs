//! Tags that no open hold explains are put back (design: the store's lifecycle goes by them).
//!
//! A recorder may write `sealed` at any time, and an upload that was under way when a hold was released still does. Nobody
//! but the operator could change such a tag, and the lifecycle passes it by: with the operator down, the recording would
//! outlive its ceiling. So each day's recordings are looked at once when the day is over, and all others once in four weeks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::ToSpan;

use super::state::{Sweep, SweepError};
use super::{Disposition, disposition};
use crate::rules::hold::expiry::StoredRecording;
use crate::rules::recording::days::utc_date;
use crate::rules::recording::tag::RetentionTag;
use crate::rules::recording::version::{ListedVersion, VersionRef};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::protection;
use crate::storage::s3::request_each::request_each;

/// Reads of tags at once, of each day.
const MAX_CONCURRENT_READS: usize = 8;
/// Days in which every version is looked at once.
const CHECK_INTERVAL_DAYS: u64 = 28;

#[derive(Debug, Default)]
pub(crate) struct RetagReport {
    pub(crate) restored: u64,
    /// Versions whose marks the store did not tell, or whose tag it did not take or keep. They have their next turn within four
    /// weeks.
    pub(crate) failed: u64,
    /// What it answered, at the first of them.
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

/// Puts back the tags of versions that are not due and that no hold covers.
pub(crate) async fn retag(sweep: &Sweep<'_>, listed: &[ListedVersion]) -> Result<RetagReport, SweepError> {
    let mut retagged = RetagReport::default();
    let chosen = listed.iter().filter(|listed| is_checked_today(sweep, listed));
    // Those that were open when the sweep began, or since. They spare requests here; before a tag is written, the holds are
    // asked for again.
    let holds = sweep.lock_observed_holds().clone();
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
        // What is over its ceiling goes all the same: that needs no tags.
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
    if retagged.restored == 0 && retagged.failed > 2 * MAX_CONCURRENT_READS as u64 {
        sweep.is_retagging_stopped.store(true, Ordering::Relaxed);
    }
    Ok(retagged)
}

/// Whether a version's turn is today: it was recorded yesterday, or its share of the round has come.
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
    let mut hasher = DefaultHasher::new();
    (&listed.key, &listed.id).hash(&mut hasher);
    let turn = u64::try_from(sweep.time.clock_reading.as_second() / 86_400).unwrap_or_default();
    hasher.finish() % CHECK_INTERVAL_DAYS == turn % CHECK_INTERVAL_DAYS
}

/// Whether it has another tag than that of its class, and no legal hold. A version under a legal hold that nothing explains
/// stays as it is: the audit reports it.
async fn has_wrong_tag(sweep: &Sweep<'_>, listed: &ListedVersion) -> Result<bool, StoreError> {
    let Some(stored) = StoredRecording::of(listed, sweep.ceilings) else {
        return Ok(false);
    };
    let version = listed.version_ref();
    // Nearly all have their tag. The legal hold counts only where they do not, and costs a request of its own.
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

/// Whether the tag was put back, and read back; or why the store did not do it. That ends no sweep: nothing depends on it today.
async fn restore_tag(
    sweep: &Sweep<'_>,
    listed: &ListedVersion,
) -> Result<Result<bool, StoreError>, SweepError> {
    let Some(stored) = StoredRecording::of(listed, sweep.ceilings) else {
        return Ok(Ok(false));
    };
    // A hold may have been declared since: it is asked for immediately before.
    let holds = sweep.read_open_holds().await?;
    if stored.is_in_scope(&holds) {
        return Ok(Ok(false));
    }
    // As before whatever else lets go of something: a request that is signed by a clock ahead lies about for longer.
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

/// Whether a version, if it is still there, has the tag that it was given, or somebody holds it meanwhile.
async fn verify_tag(
    store: &BucketClient,
    version: &VersionRef,
    tag: RetentionTag,
) -> Result<bool, StoreError> {
    match protection::read(store, version).await? {
        Some(marks) if !marks.legal_hold && marks.tag != Some(tag) => {
            Err(StoreError { operation: "PutObjectTagging", code: "ReadBackMismatch".into(), status: None })
        }
        _ => Ok(true),
    }
}
