//! Tags that no open hold explains are put back (design: the store's lifecycle goes by them).
//!
//! A recorder may write `sealed` at any time, and an upload that was under way when a hold was released still does. Nobody
//! but the operator could change such a tag, and the lifecycle passes it by: with the operator down, the recording would
//! outlive its ceiling. So each day's recordings are looked at once when the day is over, and all others once in four weeks.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::ToSpan;

use super::{Fate, Sweep, SweepError, fate};
use crate::storage::aging::Stored;
use crate::storage::listing::Listed;
use crate::storage::marks;
use crate::storage::tag::RetentionTag;
use crate::storage::walk::day_of;

/// Reads of tags at once.
const AT_ONCE: usize = 16;
/// Days in which every version is looked at once.
const ROUND: u64 = 28;

/// Puts back the tags of versions that are not due and that no hold covers. Returns how many.
pub(super) async fn retag(sweep: &Sweep<'_>, listed: &[Listed]) -> Result<u64, SweepError> {
    let chosen: Vec<&Listed> = listed.iter().filter(|listed| is_chosen(sweep, listed)).collect();
    if chosen.is_empty() {
        return Ok(0);
    }
    // Those that were open when the sweep began, or since. They spare requests here; before a tag is written, the holds are
    // asked for again.
    let holds = sweep.seen().clone();
    let unheld = chosen.into_iter().filter(|listed| {
        let stored = Stored::of(listed, sweep.ceilings);
        let is_told = sweep.memory.is_told(&sweep.told, listed);
        stored.is_some_and(|stored| !is_told && !stored.is_covered(&holds))
    });
    let jobs = unheld.map(|listed| one(sweep, listed));
    let mut all = stream::iter(jobs.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    let mut count = 0;
    while let Some(is_retagged) = all.try_next().await? {
        count += u64::from(is_retagged);
    }
    Ok(count)
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

/// Whether the tag was put back. A version under a legal hold that nothing explains stays as it is: the audit reports it.
async fn one(sweep: &Sweep<'_>, listed: &Listed) -> Result<bool, SweepError> {
    let Some(stored) = Stored::of(listed, sweep.ceilings) else {
        return Ok(false);
    };
    let (version, tag) = (listed.version(), RetentionTag::unheld(stored.key.class()));
    let is_right = |marks: &Option<marks::Marks>| {
        marks
            .as_ref()
            .is_none_or(|marks| marks.legal_hold || marks.tag == Some(tag))
    };
    // Nearly all have their tag. The legal hold counts only where they do not, and costs a request of its own.
    match marks::read_tag(sweep.store, &version).await? {
        Some(found) if found != Some(tag) => (),
        _ => return Ok(false),
    }
    if marks::is_held(sweep.store, &version).await? {
        return Ok(false);
    }
    // A hold may have been declared since: it is asked for immediately before.
    let holds = sweep.open_holds().await?;
    if stored.is_covered(&holds) {
        return Ok(false);
    }
    // As before whatever else lets go of something: a request that is signed by a clock ahead lies about for longer.
    sweep.store.clock.vouches_for(sweep.time)?;
    match marks::write_tag(sweep.store, &version, tag).await {
        Ok(()) => Ok(is_right(&marks::read(sweep.store, &version).await?)),
        // Nothing depends on it today: another sweep tries again.
        Err(_) => Ok(false),
    }
}
