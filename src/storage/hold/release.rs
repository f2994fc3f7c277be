//! What resolved holds covered, and no open one does, goes back to what it was: tag back, then legal hold off; what is
//! over its ceiling is deleted at once (article 6), and what is younger lives on to its normal end.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::sync::RwLock;

use super::{HoldError, Work, each, places};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::storage::aging::Stored;
use crate::storage::client::{Purpose, Store};
use crate::storage::ledger::{self, Entry};
use crate::storage::listing::Listed;
use crate::storage::marks;
use crate::storage::objects::{self, Version};
use crate::storage::probe::canary::hold;
use crate::storage::sweep::OpenHolds;
use crate::storage::tag::RetentionTag;

/// What a pass that releases did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Versions that got their tag back or lost their legal hold.
    pub released: u64,
    /// Versions, and markers, that were deleted since they are over their ceiling.
    pub deleted: u64,
    /// Versions that another open hold keeps.
    pub kept: u64,
    /// Versions that live on to their normal end, as they must be.
    pub younger: u64,
}

impl Released {
    /// Whether nothing was left to do: what the holds covered is as if they had never been.
    pub const fn is_proved(&self) -> bool {
        self.released == 0 && self.deleted == 0
    }
}

/// Releases what `closing` covered and no other open hold does. `holds`: those that the API server knows of now,
/// without those of `closing`; it is asked before each page, as is the ledger. `everywhere`: keys that cannot be true were
/// found, so all that the sources have is looked at.
pub async fn release(
    operator: &StorageTarget,
    closing: &[Entry],
    holds: &dyn OpenHolds,
    ceilings: &Ceilings,
    everywhere: bool,
    now: Timestamp,
) -> Result<Released, HoldError> {
    let store = Store::new(operator, Purpose::Configure)?;
    let covers: Vec<Cover> = closing.iter().map(Entry::cover).collect();
    let pass = Pass {
        store: &store,
        closing: &covers,
        uids: closing.iter().map(|entry| entry.uid.as_str()).collect(),
        holds,
        open: RwLock::default(),
        ceilings,
        now,
    };
    let places = places(&store, &covers, everywhere, now).await?;
    let mut released = Released::default();
    each(&store, &places, &pass, |done| match done {
        Done::Nothing => (),
        Done::Kept => released.kept += 1,
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
    open: RwLock<Vec<Cover>>,
    ceilings: &'a Ceilings,
    now: Timestamp,
}

enum Done {
    Nothing,
    Kept,
    Younger,
    Released,
    Deleted(u64),
}

impl Work for Pass<'_> {
    type Done = Done;

    async fn renew(&self) -> Result<(), HoldError> {
        let mut open = self.holds.covers().await?;
        let entries = ledger::entries(self.store).await?;
        let others = entries
            .values()
            .filter(|entry| entry.is_open() && !self.uids.contains(entry.uid.as_str()));
        open.extend(others.map(Entry::cover));
        self.store.clock.check()?;
        *self.open.write().await = open;
        Ok(())
    }

    async fn one(&self, listed: Listed, markers: Vec<Version>) -> Result<Done, HoldError> {
        let Some(stored) = Stored::of(&listed, self.ceilings) else {
            return Ok(Done::Nothing);
        };
        if !stored.is_covered(self.closing) {
            return Ok(Done::Nothing);
        }
        if stored.is_covered(&self.open.read().await) {
            return Ok(Done::Kept);
        }
        let version = listed.version();
        let Some(found) = marks::read(self.store, &version).await? else {
            return Ok(Done::Nothing);
        };
        let tag = RetentionTag::unheld(stored.key.class());
        let (is_tagged, is_over) = (found.tag == Some(tag), stored.due_by_key() <= self.now);
        if !is_tagged {
            marks::write_tag(self.store, &version, tag).await?;
        }
        if found.legal_hold {
            hold(self.store, &version, false).await?;
        }
        if is_over {
            // The markers last: without them, what is behind would be current again.
            objects::delete(self.store, &version).await?;
            for marker in &markers {
                objects::delete(self.store, marker).await?;
            }
            return Ok(Done::Deleted(1 + markers.len() as u64));
        }
        Ok(if is_tagged && !found.legal_hold {
            Done::Younger
        } else {
            Done::Released
        })
    }
}
