//! What resolved holds covered, and no open one does, goes back to what it was: tag back, then legal hold off; what is
//! over its ceiling is deleted at once (article 6), and what is younger lives on to its normal end. Marks can be put back,
//! bytes cannot: immediately before anything is deleted, the open holds are read once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::manifest;
use super::memory::{Memory, Told};
use super::order::{Write, releasing};
use super::pass::{Work, each};
use super::room::{Fingerprint, Versions};
use super::{BrokenOff, HoldError, Place, Refused, Unseen, places};
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
    /// Versions over their ceiling that are not held any more and that the store does not give up: they are under a retention,
    /// which is not ours to take off, or may not be deleted. The sweep tells of them.
    pub resisted: u64,
    /// Versions that another open hold keeps, which the ledger has.
    pub kept: u64,
    /// UIDs of holds of which versions are kept for one that was declared and is not in the ledger: it may be gone the next
    /// moment, and then nothing would tell any more why they are held.
    pub undecided: BTreeSet<String>,
    /// UIDs of holds of which versions stay, since it is not known what another open hold over the same source has.
    pub untold: BTreeSet<String>,
    /// Why that is not known.
    pub untold_since: Option<HoldError>,
    /// Versions that live on to their normal end, as they must be.
    pub younger: u64,
    /// What the store refused to change or to delete, or failed to, tried again; of each hold, by UID.
    pub refused: BTreeMap<String, Refused>,
    /// UIDs of holds of which versions had to be written, but for those that came after the first pass: these were written in their
    /// turn, and whoever goes on to put some would put off a release for as long as he likes.
    pub unsettled: BTreeSet<String>,
    /// What was not looked at: nothing is proved of a hold that is about it.
    pub unseen: Unseen,
}

impl Released {
    /// Whether nothing was left to write.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Whether nothing was left to do: what the holds covered is as if they had never been.
    pub fn is_proved(&self) -> bool {
        self.is_settled() && self.undecided.is_empty() && self.untold.is_empty() && self.refused.is_empty()
    }

    /// Whether nothing was left to do for one of the holds, and all that it covered was looked at. What is refused of another is
    /// none of its business.
    pub fn is_proved_of(&self, entry: &Entry) -> bool {
        let uid = &entry.uid;
        let all = [&self.unsettled, &self.undecided, &self.untold];
        let is_left = all.iter().any(|uids| uids.contains(uid)) || self.refused.contains_key(uid);
        !is_left && self.unseen.of(&entry.cover()).is_none()
    }
}

/// A release of what `closing` covered and no other open hold does, in passes.
///
/// All that the sources have is looked at: what has a key that cannot be true may be on any day. A version that `closing`
/// covers by its key is judged by its key alone: a release that was broken off may have moved the time at which the store took
/// it, and then it would seem to be of another hold's window.
pub struct Release<'a> {
    closing: &'a [Entry],
    holds: &'a dyn OpenHolds,
    ceilings: &'a Ceilings,
    memory: &'a Memory,
    /// What the first pass found, once it came to its end.
    first: Option<Seen>,
}

/// What a pass came to.
#[derive(Default)]
struct Seen {
    places: BTreeSet<Place>,
    versions: Versions,
}

impl<'a> Release<'a> {
    /// `holds`: those that the API server knows of now, without those of `closing`; it is asked before each page and again
    /// before anything is deleted, as is the ledger.
    pub fn new(
        closing: &'a [Entry],
        holds: &'a dyn OpenHolds,
        ceilings: &'a Ceilings,
        memory: &'a Memory,
    ) -> Self {
        Self { closing, holds, ceilings, memory, first: None }
    }

    /// One pass over everything.
    pub async fn pass(
        &mut self,
        operator: &StorageTarget,
        time: Time,
    ) -> Result<Released, Box<BrokenOff<Released>>> {
        let mut released = Released::default();
        let outcome = self.all(operator, time, &mut released).await;
        // One that had to write is followed by another, which has as long.
        if outcome.is_err() || released.is_settled() {
            self.memory.releasing.note(&outcome, time.now);
        }
        BrokenOff::unless(outcome, released)
    }

    async fn all(
        &mut self,
        operator: &StorageTarget,
        time: Time,
        released: &mut Released,
    ) -> Result<(), HoldError> {
        let store = Store::noting(operator, &self.memory.under_way)?;
        let covers: Vec<Cover> = self.closing.iter().map(Entry::cover).collect();
        let uids: Vec<&str> = self.closing.iter().map(|entry| entry.uid.as_str()).collect();
        let mut told = Vec::new();
        for entry in self.closing {
            told.push(manifest::told_by(&store, entry, self.memory).await?);
        }
        let pass = Pass {
            store: &store,
            closing: &covers,
            uids: &uids,
            holds: self.holds,
            ceilings: self.ceilings,
            told: &told,
            memory: self.memory,
            time,
            unread: Mutex::default(),
        };
        let mut places = places(&store, &covers, true, None, self.ceilings, time.now).await?;
        places.add(&told);
        let mut seen = Seen { places: places.all.iter().cloned().collect(), versions: self.memory.seen() };
        let first = self.first.as_ref();
        each(
            &store,
            &places.all,
            None,
            self.memory.releasing.ends(),
            &pass,
            &mut places.unseen.hidden,
            |(of, done): (Concerned, Done)| {
                let is_left = first.is_none_or(|first| {
                    // What has a legal hold on a day that was not looked at then may be what was held.
                    let was_looked_at = of.place.is_some_and(|place| first.places.contains(&place));
                    first.versions.may_have(of.version) || done.written() == Written::Hold && !was_looked_at
                });
                released.note(&done, is_left, of.uids);
                seen.versions.insert(of.version);
            },
        )
        .await?;
        self.first.get_or_insert(seen);
        released.unseen = places.unseen;
        let unread = pass.unread.into_inner().unwrap_or_else(PoisonError::into_inner);
        released.untold_since = unread.into_values().next();
        Ok(())
    }
}

impl Released {
    /// Notes what came of a version of the holds with these UIDs.
    fn note(&mut self, done: &Done, is_left: bool, uids: Vec<String>) {
        match done {
            Done::Nothing => (),
            Done::Kept => self.kept += 1,
            Done::Undecided => self.undecided.extend(uids),
            Done::Untold => self.untold.extend(uids),
            Done::Younger => self.younger += 1,
            Done::Resisted => self.resisted += 1,
            Done::Released(_) | Done::Over(..) | Done::Deleted(..) => {
                match done {
                    Done::Deleted(_, count) => self.deleted += count,
                    _ => self.released += 1,
                }
                if is_left {
                    self.unsettled.extend(uids);
                }
            }
            Done::Failed(error) => {
                for uid in uids {
                    self.refused.entry(uid).or_insert_with(|| Refused::by(error)).count(error);
                }
            }
        }
    }
}

struct Pass<'a> {
    store: &'a Store,
    closing: &'a [Cover],
    /// Their UIDs, in their order.
    uids: &'a [&'a str],
    holds: &'a dyn OpenHolds,
    ceilings: &'a Ceilings,
    /// What their manifests list, in their order.
    told: &'a [Arc<Told>],
    memory: &'a Memory,
    time: Time,
    /// Why the manifests of other holds are not known, by UID: each was asked for once.
    unread: Mutex<BTreeMap<String, HoldError>>,
}

/// What is held for others now.
struct Known {
    open: Open,
    /// What their manifests list, as far as they were read.
    told: Vec<Arc<Told>>,
    /// What those are about whose manifests are not known, and why: any version of these sources may be in them.
    untold: Vec<(Cover, HoldError)>,
}

impl Known {
    /// Why it is not known whether another open hold keeps a version: until it is, it stays as it is, and the hold that is released,
    /// too.
    fn untold_of(&self, stored: &Stored<'_>) -> Option<&HoldError> {
        let (class, source) = (stored.key.class(), stored.key.source());
        let mut untold = self.untold.iter();
        let theirs = untold.find(|(cover, _)| cover.is_about(class, source));
        theirs.map(|(_, why)| why)
    }
}

/// Which version it was, where, and whose: the UIDs of the holds that it was looked at for.
struct Concerned {
    version: Fingerprint,
    place: Option<Place>,
    uids: Vec<String>,
}

enum Done {
    Nothing,
    Kept,
    Undecided,
    /// Whether it is another open hold's is not known.
    Untold,
    Younger,
    Released(Written),
    /// It is over its ceiling: to be deleted, with the markers of its key.
    Over(Box<Listed>, Vec<Version>, Written),
    Deleted(Written, u64),
    /// It is over its ceiling, was found not to be held, and the store does not delete it.
    Resisted,
    Failed(HoldError),
}

/// What was written of the marks of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    Tag,
    Hold,
}

impl Done {
    const fn written(&self) -> Written {
        match self {
            Self::Released(written) | Self::Over(.., written) | Self::Deleted(written, _) => *written,
            _ => Written::Nothing,
        }
    }

    fn of(answer: Result<Self, StoreError>) -> Self {
        answer.unwrap_or_else(|error| Self::Failed(error.into()))
    }
}

impl Work for Pass<'_> {
    type Done = (Concerned, Done);
    type Known = Known;

    /// What is held for others now.
    async fn know(&self) -> Result<Known, HoldError> {
        let entries = ledger::entries(self.store).await?;
        let ledger = ledger::covers(&entries, &self.uids.iter().copied().collect());
        let open = entries.values().filter(|entry| entry.is_open());
        let others = open.filter(|entry| !self.uids.contains(&entry.uid.as_str()));
        let (mut told, mut untold) = (Vec::new(), Vec::new());
        for entry in others {
            match self.told_of(entry).await {
                Ok(its) => told.push(its),
                Err(why) => untold.push((entry.cover(), why)),
            }
        }
        // These last: reading the ledger takes long enough to declare one.
        let declared = self.holds.covers().await?;
        let open = Open { ledger, declared };
        self.store.clock.vouches_for(self.time)?;
        Ok(Known { open, told, untold })
    }

    fn concerns(&self, listed: &Listed, _: &[Version]) -> bool {
        self.whose(listed).next().is_some()
    }

    async fn one(&self, known: &Known, listed: Listed, markers: Vec<Version>) -> Self::Done {
        let of = Concerned {
            version: self.memory.fingerprint(&listed.key, &listed.id),
            place: listed.key.parse().as_ref().map(Place::of).ok(),
            uids: self.whose(&listed).map(str::to_owned).collect(),
        };
        (of, Done::of(self.release(known, listed, markers).await))
    }

    fn error<'a>(&self, (_, done): &'a Self::Done) -> Option<&'a HoldError> {
        match done {
            Done::Failed(error) => Some(error),
            _ => None,
        }
    }

    fn is_put_off(&self, (_, done): &Self::Done) -> bool {
        matches!(done, Done::Over(..))
    }

    async fn settle(&self, known: &Known, (of, done): Self::Done) -> Self::Done {
        (of, Done::of(self.delete(known, done).await))
    }
}

impl Pass<'_> {
    /// What the manifest of another open hold lists.
    async fn told_of(&self, entry: &Entry) -> Result<Arc<Told>, HoldError> {
        let unread = || self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = unread().get(&entry.uid) {
            return Err(why.clone());
        }
        let told = manifest::told_by(self.store, entry, self.memory).await;
        let told = told.map_err(HoldError::from).and_then(|told| match told.shortage() {
            Some(why) => Err(why),
            None => Ok(told),
        });
        told.map_err(|why| {
            let why = HoldError::Untold { hold: entry.name.clone(), why: why.to_string() };
            unread().insert(entry.uid.clone(), why.clone());
            why
        })
    }

    /// Of which holds it is: they cover it, or their manifests list it.
    fn whose<'w>(&'w self, listed: &'w Listed) -> impl Iterator<Item = &'w str> {
        let version = self.memory.fingerprint(&listed.key, &listed.id);
        let stored = Stored::of(listed, self.ceilings);
        let holds = self.uids.iter().zip(self.closing).zip(self.told);
        stored.into_iter().flat_map(move |stored| {
            let its = holds.clone().filter(move |((_, cover), told)| {
                stored.is_covered(std::slice::from_ref(cover)) || told.has(version)
            });
            its.map(|((uid, _), _)| *uid)
        })
    }

    /// Which other open hold keeps it.
    fn kept_by(&self, stored: &Stored<'_>, known: &Known) -> Option<KeptBy> {
        let Known { open, told, .. } = known;
        // What another was told to have it has, whatever its key says.
        let version = self.memory.fingerprint(&stored.listed.key, &stored.listed.id);
        if told.iter().any(|told| told.has(version)) {
            return Some(KeptBy::Ledger);
        }
        if stored.is_covered_by_key(self.closing) { stored.kept_by_key(open) } else { stored.kept_by(open) }
    }

    async fn release(
        &self,
        known: &Known,
        listed: Listed,
        markers: Vec<Version>,
    ) -> Result<Done, StoreError> {
        let Some(stored) = Stored::of(&listed, self.ceilings) else {
            return Ok(Done::Nothing);
        };
        match self.kept_by(&stored, known) {
            Some(KeptBy::Ledger) => return Ok(Done::Kept),
            Some(KeptBy::Declared) => return Ok(Done::Undecided),
            None => (),
        }
        if known.untold_of(&stored).is_some() {
            return Ok(Done::Untold);
        }
        let version = listed.version();
        self.memory.unlearn(&listed);
        let Some(found) = marks::read(self.store, &version).await? else {
            return Ok(Done::Nothing);
        };
        let tag = RetentionTag::unheld(stored.key.class());
        let writes = releasing(&found, tag);
        let mut written = Written::Nothing;
        for write in &writes {
            match *write {
                Write::LegalHold(on) => {
                    marks::write_hold(self.store, &version, on).await?;
                    written = Written::Hold;
                }
                Write::Tag(tag) => {
                    marks::write_tag(self.store, &version, tag).await?;
                    written = Written::Tag;
                }
                Write::Unhide => (),
            }
        }
        if stored.due_by_key() <= self.time.now {
            return Ok(Done::Over(Box::new(listed), markers, written));
        }
        Ok(match written {
            Written::Nothing => Done::Younger,
            written => Done::Released(written),
        })
    }

    /// Deletes it, unless a hold was declared since the page was begun.
    async fn delete(&self, known: &Known, done: Done) -> Result<Done, StoreError> {
        let Done::Over(listed, markers, written) = done else {
            return Ok(done);
        };
        let stored = Stored::of(&listed, self.ceilings);
        let is_kept = |stored| self.kept_by(stored, known).is_some() || known.untold_of(stored).is_some();
        if stored.as_ref().is_some_and(is_kept) {
            // The next look holds it again.
            return Ok(Done::Released(written));
        }
        // The markers last: without them, what is behind would be current again.
        match objects::delete(self.store, &listed.version()).await {
            Err(error) if HoldError::from(error.clone()).is_refusal() => {
                return Ok(match written {
                    Written::Nothing => Done::Resisted,
                    // Whether it is not held any more another pass reads.
                    written => Done::Released(written),
                });
            }
            deleted => deleted?,
        }
        for marker in &markers {
            objects::delete(self.store, marker).await?;
        }
        Ok(Done::Deleted(written, 1 + markers.len() as u64))
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
