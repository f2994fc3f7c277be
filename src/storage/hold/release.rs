//! What resolved holds covered, and no open one does, goes back to what it was: tag back, then legal hold off; what is
//! over its ceiling is deleted at once (article 6), and what is younger lives on to its normal end. Marks can be put back,
//! bytes cannot: immediately before anything is deleted, the open holds are read once more.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::order::{Write, releasing};
use super::pass::{AT_ONCE, Work, each};
use super::{HoldError, places};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::storage::aging::{KeptBy, Open, Stored};
use crate::storage::client::{Purpose, Store};
use crate::storage::ledger::{self, Entry};
use crate::storage::listing::Listed;
use crate::storage::marks;
use crate::storage::objects::{self, Version};
use crate::storage::sweep::OpenHolds;
use crate::storage::tag::RetentionTag;

/// What a pass that releases did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Versions that got their tag back or lost their legal hold.
    pub released: u64,
    /// Versions, and markers, that were deleted since they are over their ceiling.
    pub deleted: u64,
    /// Versions that another open hold keeps, which the ledger has.
    pub kept: u64,
    /// Versions that are kept for a hold that was declared and is not in the ledger: it may be gone the next moment, and
    /// then nothing would tell any more why they are held.
    pub undecided: u64,
    /// Versions that live on to their normal end, as they must be.
    pub younger: u64,
}

impl Released {
    /// Whether nothing was left to do: what the holds covered is as if they had never been.
    pub const fn is_proved(&self) -> bool {
        self.released == 0 && self.deleted == 0 && self.undecided == 0
    }
}

/// Releases what `closing` covered and no other open hold does. `holds`: those that the API server knows of now,
/// without those of `closing`; it is asked before each page and again before anything is deleted, as is the ledger.
/// All that the sources have is looked at: what has a key that cannot be true may be on any day.
pub async fn release(
    operator: &StorageTarget,
    closing: &[Entry],
    holds: &dyn OpenHolds,
    ceilings: &Ceilings,
    now: Timestamp,
) -> Result<Released, HoldError> {
    let store = Store::new(operator, Purpose::Configure)?;
    let covers: Vec<Cover> = closing.iter().map(Entry::cover).collect();
    let pass = Pass {
        store: &store,
        closing: &covers,
        uids: closing.iter().map(|entry| entry.uid.as_str()).collect(),
        holds,
        deleting: Mutex::default(),
        ceilings,
        now,
    };
    let places = places(&store, &covers, true, now).await?;
    let mut released = Released::default();
    each(&store, &places, &pass, |done| match done {
        Done::Nothing => (),
        Done::Kept => released.kept += 1,
        Done::Undecided => released.undecided += 1,
        Done::Younger => released.younger += 1,
        Done::Released => released.released += 1,
        Done::Deleted(count) => released.deleted += count,
    })
    .await?;
    Ok(released)
}

struct Pass<'a> {
    store: &'a Store,
    closing: &'a [Cover],
    uids: BTreeSet<&'a str>,
    holds: &'a dyn OpenHolds,
    /// Who has it deletes: one page at a time, so that what was read just before stays of just before.
    deleting: Mutex<()>,
    ceilings: &'a Ceilings,
    now: Timestamp,
}

/// What is known while a page is worked on.
struct Known {
    /// What is held for others, as read before.
    open: Open,
    /// What of the page is over its ceiling, with the markers of its key.
    over: Mutex<Vec<(Listed, Vec<Version>)>>,
}

enum Done {
    Nothing,
    Kept,
    Undecided,
    Younger,
    Released,
    Deleted(u64),
}

impl Work for Pass<'_> {
    type Done = Done;
    type Known = Known;

    async fn look(&self) -> Result<Known, HoldError> {
        Ok(Known {
            open: self.open().await?,
            over: Mutex::default(),
        })
    }

    async fn one(&self, known: &Known, listed: Listed, markers: Vec<Version>) -> Result<Done, HoldError> {
        let Some(stored) = Stored::of(&listed, self.ceilings) else {
            return Ok(Done::Nothing);
        };
        if !stored.is_covered(self.closing) {
            return Ok(Done::Nothing);
        }
        match stored.kept_by(&known.open) {
            Some(KeptBy::Ledger) => return Ok(Done::Kept),
            Some(KeptBy::Declared) => return Ok(Done::Undecided),
            None => (),
        }
        let version = listed.version();
        let Some(found) = marks::read(self.store, &version).await? else {
            return Ok(Done::Nothing);
        };
        let tag = RetentionTag::unheld(stored.key.class());
        let writes = releasing(&found, tag);
        for write in &writes {
            match *write {
                Write::LegalHold(on) => marks::write_hold(self.store, &version, on).await?,
                Write::Tag(tag) => marks::write_tag(self.store, &version, tag).await?,
                Write::Unhide => (),
            }
        }
        if stored.due_by_key() <= self.now {
            known.over.lock().await.push((listed, markers));
            return Ok(Done::Nothing);
        }
        Ok(if writes.is_empty() {
            Done::Younger
        } else {
            Done::Released
        })
    }

    async fn settle(&self, known: Known) -> Result<Vec<Done>, HoldError> {
        let over = known.over.into_inner();
        let mut done = Vec::with_capacity(over.len());
        for some in over.chunks(AT_ONCE) {
            let _alone = self.deleting.lock().await;
            // A hold may have been declared since the page was begun.
            let open = &self.open().await?;
            let jobs: Vec<_> = some
                .iter()
                .map(|(listed, markers)| self.delete(open, listed, markers))
                .collect();
            // None is given up half way for another's failure.
            let deleted: Vec<_> = stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
            done.extend(deleted.into_iter().collect::<Result<Vec<_>, HoldError>>()?);
        }
        Ok(done)
    }
}

impl Pass<'_> {
    /// What is held for others now.
    async fn open(&self) -> Result<Open, HoldError> {
        let open = Open {
            declared: self.holds.covers().await?,
            ledger: ledger::covers(&ledger::entries(self.store).await?, &self.uids),
        };
        self.store.clock.check()?;
        Ok(open)
    }

    async fn delete(&self, open: &Open, listed: &Listed, markers: &[Version]) -> Result<Done, HoldError> {
        let kept_by = Stored::of(listed, self.ceilings).and_then(|stored| stored.kept_by(open));
        if kept_by.is_some() {
            // The next look holds it again.
            return Ok(Done::Released);
        }
        // The markers last: without them, what is behind would be current again.
        objects::delete(self.store, &listed.version()).await?;
        for marker in markers {
            objects::delete(self.store, marker).await?;
        }
        Ok(Done::Deleted(1 + markers.len() as u64))
    }
}
