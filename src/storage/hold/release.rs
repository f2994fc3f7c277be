//! What resolved holds covered, and no open one does, goes back to what it was: tag back, then legal hold off; what is
//! over its ceiling is deleted at once (article 6), and what is younger lives on to its normal end. Marks can be put back,
//! bytes cannot: immediately before anything is deleted, the open holds are read once more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::manifest;
use super::memory::{Memory, Told};
use super::order::{Write, releasing};
use super::pass::{Work, each};
use super::{BrokenOff, HoldError, Refused, Unseen, places};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::storage::aging::{KeptBy, Open, Stored};
use crate::storage::client::Store;
use crate::storage::date::Time;
use crate::storage::error::StoreError;
use crate::storage::ledger::{self, Entry};
use crate::storage::listing::Listed;
use crate::storage::marks;
use crate::storage::objects::{self, Version};
use crate::storage::sweep::OpenHolds;
use crate::storage::tag::RetentionTag;

/// What a pass that releases did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What the store refused to change or to delete, which stays as it is.
    pub refused: Option<Refused>,
    /// What was not looked at: nothing is proved of a hold that is about it.
    pub unseen: Unseen,
}

impl Released {
    /// Whether nothing had to be written.
    pub const fn is_settled(&self) -> bool {
        self.released == 0 && self.deleted == 0
    }

    /// Whether nothing was left to do: what the holds covered is as if they had never been.
    pub const fn is_proved(&self) -> bool {
        self.is_settled() && self.undecided == 0 && self.refused.is_none()
    }

    /// Whether nothing was left to do for a hold that covered this, and all of it was looked at.
    pub fn is_proved_of(&self, cover: &Cover) -> bool {
        self.is_proved() && self.unseen.of(cover).is_none()
    }
}

/// Releases what `closing` covered and no other open hold does. `holds`: those that the API server knows of now,
/// without those of `closing`; it is asked before each page and again before anything is deleted, as is the ledger.
/// All that the sources have is looked at: what has a key that cannot be true may be on any day.
///
/// A version that `closing` covers by its key is judged by its key alone: a release that was broken off may have moved the
/// time at which the store took it, and then it would seem to be of another hold's window.
pub async fn release(
    operator: &StorageTarget,
    closing: &[Entry],
    holds: &dyn OpenHolds,
    ceilings: &Ceilings,
    memory: &Memory,
    time: Time,
) -> Result<Released, Box<BrokenOff<Released>>> {
    let mut released = Released::default();
    let outcome = all(operator, closing, holds, ceilings, memory, time, &mut released).await;
    BrokenOff::unless(outcome, released)
}

async fn all(
    operator: &StorageTarget,
    closing: &[Entry],
    holds: &dyn OpenHolds,
    ceilings: &Ceilings,
    memory: &Memory,
    time: Time,
    released: &mut Released,
) -> Result<(), HoldError> {
    let store = Store::noting(operator, &memory.under_way)?;
    let covers: Vec<Cover> = closing.iter().map(Entry::cover).collect();
    let mut told = Vec::new();
    for entry in closing {
        told.push(manifest::told_by(&store, entry, memory).await?);
    }
    let pass = Pass {
        store: &store,
        closing: &covers,
        uids: closing.iter().map(|entry| entry.uid.as_str()).collect(),
        holds,
        ceilings,
        told: &told,
        memory,
        time,
    };
    let mut places = places(&store, &covers, true, time.now).await?;
    places.add(&told);
    let noted = each(
        &store,
        &places.all,
        None,
        &pass,
        &mut places.unseen.hidden,
        |done| match done {
            Done::Nothing => (),
            Done::Kept => released.kept += 1,
            Done::Undecided => released.undecided += 1,
            Done::Younger => released.younger += 1,
            Done::Released | Done::Over(..) => released.released += 1,
            Done::Deleted(count) => released.deleted += count,
            Done::Failed(error) => Refused::note(&mut released.refused, &error),
        },
    );
    let noted = noted.await.map_err(|failed| failed.error);
    released.unseen = places.unseen;
    noted
}

struct Pass<'a> {
    store: &'a Store,
    closing: &'a [Cover],
    uids: BTreeSet<&'a str>,
    holds: &'a dyn OpenHolds,
    ceilings: &'a Ceilings,
    /// What the manifests of `closing` list.
    told: &'a [Arc<Told>],
    memory: &'a Memory,
    time: Time,
}

enum Done {
    Nothing,
    Kept,
    Undecided,
    Younger,
    Released,
    /// The same, and over its ceiling: to be deleted, with the markers of its key.
    Over(Box<Listed>, Vec<Version>),
    Deleted(u64),
    Failed(HoldError),
}

impl Done {
    fn of(answer: Result<Self, StoreError>) -> Self {
        answer.unwrap_or_else(|error| Self::Failed(error.into()))
    }
}

impl Work for Pass<'_> {
    type Done = Done;
    type Known = Open;

    /// What is held for others now.
    async fn know(&self) -> Result<Open, HoldError> {
        let ledger = ledger::covers(&ledger::entries(self.store).await?, &self.uids);
        // These last: reading the ledger takes long enough to declare one.
        let declared = self.holds.covers().await?;
        let open = Open { ledger, declared };
        self.store.clock.vouches_for(self.time)?;
        Ok(open)
    }

    fn concerns(&self, listed: &Listed, _: &[Version]) -> bool {
        let version = self.memory.fingerprint(&listed.key, &listed.id);
        let stored = Stored::of(listed, self.ceilings);
        stored.is_some_and(|stored| {
            stored.is_covered(self.closing) || self.told.iter().any(|told| told.has(version))
        })
    }

    async fn one(&self, open: &Open, listed: Listed, markers: Vec<Version>) -> Done {
        Done::of(self.release(open, listed, markers).await)
    }

    fn error<'a>(&self, done: &'a Done) -> Option<&'a HoldError> {
        match done {
            Done::Failed(error) => Some(error),
            _ => None,
        }
    }

    fn is_put_off(&self, done: &Done) -> bool {
        matches!(done, Done::Over(..))
    }

    async fn settle(&self, open: &Open, done: Done) -> Done {
        Done::of(self.delete(open, done).await)
    }
}

impl Pass<'_> {
    /// Which other open hold keeps it.
    fn kept_by(&self, stored: &Stored<'_>, open: &Open) -> Option<KeptBy> {
        if stored.is_covered_by_key(self.closing) {
            stored.kept_by_key(open)
        } else {
            stored.kept_by(open)
        }
    }

    async fn release(&self, open: &Open, listed: Listed, markers: Vec<Version>) -> Result<Done, StoreError> {
        let Some(stored) = Stored::of(&listed, self.ceilings) else {
            return Ok(Done::Nothing);
        };
        match self.kept_by(&stored, open) {
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
        if stored.due_by_key() <= self.time.now {
            return Ok(Done::Over(Box::new(listed), markers));
        }
        Ok(if writes.is_empty() {
            Done::Younger
        } else {
            Done::Released
        })
    }

    /// Deletes it, unless a hold was declared since the page was begun.
    async fn delete(&self, open: &Open, done: Done) -> Result<Done, StoreError> {
        let Done::Over(listed, markers) = done else {
            return Ok(done);
        };
        let kept_by = Stored::of(&listed, self.ceilings).and_then(|stored| self.kept_by(&stored, open));
        if kept_by.is_some() {
            // The next look holds it again.
            return Ok(Done::Released);
        }
        // The markers last: without them, what is behind would be current again.
        objects::delete(self.store, &listed.version()).await?;
        for marker in &markers {
            objects::delete(self.store, marker).await?;
        }
        Ok(Done::Deleted(1 + markers.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cover::Sources;
    use crate::protocol::window::Window;

    #[test]
    fn calls_that_were_not_visited_prove_nothing_of_a_hold_with_calls_alone() {
        let cover = |calls| Cover {
            sources: Sources::All,
            calls,
            window: Window::new(jiff::Timestamp::MIN, None),
        };
        let unvisited = Released {
            unseen: Unseen {
                calls: true,
                ..Unseen::default()
            },
            ..Released::default()
        };
        for (released, of_calls, of_video) in [
            (Released::default(), true, true),
            (unvisited.clone(), false, true),
            (
                Released {
                    released: 1,
                    ..unvisited
                },
                false,
                false,
            ),
        ] {
            assert_eq!(released.is_proved_of(&cover(true)), of_calls, "{released:?}");
            assert_eq!(released.is_proved_of(&cover(false)), of_video, "{released:?}");
        }
    }
}
