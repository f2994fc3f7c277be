//! Tags that no open hold explains are put back (design: the store's lifecycle goes by them).
//!
//! A recorder may write `sealed` at any time, and an upload that was under way when a hold was released still does. Nobody
//! but the operator could change such a tag, and the lifecycle passes it by: with the operator down, the recording would
//! outlive its ceiling. So each day's recordings are looked at once when the day is over, and all others once in four weeks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::ToSpan;

use super::{Fate, Sweep, SweepError, fate};
use crate::storage::aging::Stored;
use crate::storage::client::Store;
use crate::storage::each::ask_each;
use crate::storage::error::StoreError;
use crate::storage::listing::Listed;
use crate::storage::marks;
use crate::storage::objects::Version;
use crate::storage::tag::RetentionTag;
use crate::storage::walk::day_of;

/// Reads of tags at once, of each day.
const AT_ONCE: usize = 8;
/// Days in which every version is looked at once.
const ROUND: u64 = 28;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Retagged {
    /// Tags that were put back.
    pub(super) count: u64,
    /// Versions whose marks the store did not tell, or whose tag it did not take or keep. They have their next turn within four
    /// weeks.
    pub(super) failed: u64,
    /// What it answered, at the first of them.
    pub(super) error: Option<StoreError>,
}

impl Retagged {
    fn fail(&mut self, error: StoreError) {
        self.failed += 1;
        self.error.get_or_insert(error);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }
}

/// Puts back the tags of versions that are not due and that no hold covers.
pub(super) async fn retag(sweep: &Sweep<'_>, listed: &[Listed]) -> Result<Retagged, SweepError> {
    let mut retagged = Retagged::default();
    let chosen = listed.iter().filter(|listed| is_chosen(sweep, listed));
    // Those that were open when the sweep began, or since. They spare requests here; before a tag is written, the holds are
    // asked for again.
    let holds = sweep.seen().clone();
    let unheld = chosen.filter(|listed| {
        let stored = Stored::of(listed, sweep.ceilings);
        let is_kept =
            |stored: &Stored<'_>| sweep.memory.is_told(&sweep.told, stored) || stored.is_covered(&holds);
        stored.is_some_and(|stored| !is_kept(&stored))
    });
    let (mut wrong, unheld): (Vec<&Listed>, Vec<&Listed>) = (Vec::new(), unheld.collect());
    let (many, mut told) = (unheld.len() as u64, 0);
    let unread = ask_each(
        unheld,
        AT_ONCE,
        |listed| read(sweep, listed),
        |listed, is_wrong| {
            told += 1;
            wrong.extend(Some(listed).filter(|_| is_wrong));
        },
    );
    match unread.await {
        Ok(unread) => unread.into_iter().for_each(|(_, error)| retagged.fail(error)),
        // What is over its ceiling goes all the same: that needs no tags.
        Err(error) => {
            retagged.failed = many - told;
            retagged.error = Some(error);
            sweep.are_tags_left.store(true, Ordering::Relaxed);
        }
    }
    let mut put_back =
        stream::iter(wrong.into_iter().map(|listed| put_back(sweep, listed)).collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE);
    while let Some(outcome) = put_back.try_next().await? {
        match outcome {
            Ok(is_put_back) => retagged.count += u64::from(is_put_back),
            Err(error) => retagged.fail(error),
        }
    }
    if retagged.count == 0 && retagged.failed > 2 * AT_ONCE as u64 {
        sweep.are_tags_left.store(true, Ordering::Relaxed);
    }
    Ok(retagged)
}

/// Whether a version's turn is today: it was recorded yesterday, or its share of the round has come.
fn is_chosen(sweep: &Sweep<'_>, listed: &Listed) -> bool {
    if listed.is_marker || fate(listed, sweep.ceilings, &[], sweep.time.now) == Fate::Goes {
        return false;
    }
    let Some(stored) = Stored::of(listed, sweep.ceilings) else {
        return false;
    };
    let today = day_of(sweep.time.read);
    let yesterday = today.checked_sub(1.day()).unwrap_or(today);
    if day_of(stored.key.start()) == yesterday {
        return true;
    }
    let mut hasher = DefaultHasher::new();
    (&listed.key, &listed.id).hash(&mut hasher);
    let turn = u64::try_from(sweep.time.read.as_second() / 86_400).unwrap_or_default();
    hasher.finish() % ROUND == turn % ROUND
}

/// Whether it has another tag than that of its class, and no legal hold. A version under a legal hold that nothing explains
/// stays as it is: the audit reports it.
async fn is_wrong(sweep: &Sweep<'_>, listed: &Listed) -> Result<bool, StoreError> {
    let Some(stored) = Stored::of(listed, sweep.ceilings) else {
        return Ok(false);
    };
    let version = listed.version();
    // Nearly all have their tag. The legal hold counts only where they do not, and costs a request of its own.
    match marks::read_tag(sweep.store, &version).await? {
        Some(found) if found != Some(RetentionTag::unheld(stored.key.class())) => {
            Ok(!marks::is_held(sweep.store, &version).await?)
        }
        _ => Ok(false),
    }
}

async fn read<'l>(sweep: &Sweep<'_>, listed: &'l Listed) -> (&'l Listed, Result<bool, StoreError>) {
    (listed, is_wrong(sweep, listed).await)
}

/// Whether the tag was put back, and read back; or why the store did not do it. That ends no sweep: nothing depends on it today.
async fn put_back(sweep: &Sweep<'_>, listed: &Listed) -> Result<Result<bool, StoreError>, SweepError> {
    let Some(stored) = Stored::of(listed, sweep.ceilings) else {
        return Ok(Ok(false));
    };
    // A hold may have been declared since: it is asked for immediately before.
    let holds = sweep.open_holds().await?;
    if stored.is_covered(&holds) {
        return Ok(Ok(false));
    }
    // As before whatever else lets go of something: a request that is signed by a clock ahead lies about for longer.
    sweep.store.clock.vouches_for(sweep.time)?;
    let (version, tag) = (listed.version(), RetentionTag::unheld(stored.key.class()));
    sweep.memory.unlearn(listed);
    let outcome = match marks::write_tag(sweep.store, &version, tag).await {
        Ok(()) => kept(sweep.store, &version, tag).await,
        Err(error) if error.is_absent() => match marks::is_listed(sweep.store, &version).await {
            Ok(true) => Err(error),
            gone => gone,
        },
        Err(error) => Err(error),
    };
    Ok(outcome)
}

/// Whether a version, if it is still there, has the tag that it was given, or somebody holds it meanwhile.
async fn kept(store: &Store, version: &Version, tag: RetentionTag) -> Result<bool, StoreError> {
    match marks::read(store, version).await? {
        Some(marks) if !marks.legal_hold && marks.tag != Some(tag) => {
            Err(StoreError { operation: "PutObjectTagging", code: "NotKept".into(), status: None })
        }
        _ => Ok(true),
    }
}
