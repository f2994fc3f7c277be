//! What open holds cover gets a legal hold, then its tag, and whatever hides it goes: in that order, so that stopped
//! anywhere nothing that was protected is less so.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::coverage::Coverage;
use super::memory::Memory;
use super::order::{Write, placing};
use super::pass::{Work, each};
use super::room::Fingerprint;
use super::task::Task;
use super::{BrokenOff, HoldError, Place, Refused, places};
use crate::contract::StorageTarget;
use crate::protocol::cover::{Cover, Sources};
use crate::storage::Aspect;
use crate::storage::aging::{Stored, days_of_window};
use crate::storage::client::Store;
use crate::storage::error::StoreError;
use crate::storage::key::{Class, Key};
use crate::storage::listing::Listed;
use crate::storage::marks::{self, Marks};
use crate::storage::objects::{self, Version};
use crate::storage::tag::RetentionTag;
use crate::storage::walk::{Days, day_of};

/// Keys that are told of what was found otherwise: those of whichever place came first.
const TOLD: usize = 5;

/// A look at what came lately lists tomorrow's recordings too when tomorrow is as near: clocks differ.
const NEXT_DAY: SignedDuration = SignedDuration::from_mins(10);

/// What a pass that places found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// What there is of each hold, in the order in which they were given.
    pub coverage: Vec<Coverage>,
    /// Legal holds that were put on.
    pub protected: u64,
    /// Tags that were written.
    pub tagged: u64,
    /// Delete markers that were removed.
    pub rescued: u64,
    /// When the first of those may be read that may not be read yet.
    pub next_opening: Option<Timestamp>,
    /// Some keys of which a legal hold, a tag or a marker was not as it must be.
    pub examples: Vec<String>,
    /// Marks of versions that had been proved, and delete markers over these, which somebody else then changed.
    pub drifted: BTreeMap<Aspect, u64>,
    /// What could not be read or written of single versions.
    pub refused: Option<Refused>,
    /// Versions that were not as they must be when they were read back, or behind a new delete marker: somebody else changes
    /// them, or the store does not keep what it takes.
    pub disputed: u64,
    /// Versions whose marks were read.
    pub read: u64,
    /// Days of cameras, declared ones or such as a hold names, that were listed since a hold's window has them: of these there
    /// are as many as the holds say, whatever somebody else puts elsewhere.
    pub listed_days: u64,
}

impl Placed {
    /// Whether everything was found, or read back after it was written, as it must be, but for what was refused.
    pub const fn is_settled(&self) -> bool {
        self.disputed == 0
    }

    /// Whether nothing had to be written.
    pub const fn is_untouched(&self) -> bool {
        self.protected == 0 && self.tagged == 0 && self.rescued == 0
    }
}

/// Places what open holds cover.
pub async fn place(
    operator: &StorageTarget,
    task: &Task<'_>,
    now: Timestamp,
) -> Result<Placed, Box<BrokenOff<Placed>>> {
    // Versions behind a delete marker would go first.
    let looks: &[Look] = if task.is_verifying { &[Look::All] } else { &[Look::Hidden, Look::All] };
    let mut placed = passes(operator, task, looks, now).await?;
    placed.coverage = placed.coverage.into_iter().map(Coverage::finish).collect();
    Ok(placed)
}

/// At which versions a pass looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Those behind a delete marker.
    Hidden,
    /// All.
    All,
}

async fn passes(
    operator: &StorageTarget,
    task: &Task<'_>,
    looks: &[Look],
    now: Timestamp,
) -> Result<Placed, Box<BrokenOff<Placed>>> {
    let mut placed = Placed {
        coverage: task
            .covers
            .iter()
            .map(|cover| {
                let mut coverage = Coverage::of(cover, task.cameras, now);
                coverage.present = task.memory.found();
                coverage
            })
            .collect(),
        ..Placed::default()
    };
    let outcome = all(operator, task, looks, now, &mut placed).await;
    if task.since.is_none() {
        task.memory.placing.note(&outcome, now);
    } else if let Err(HoldError::TurnOver { .. }) = outcome {
        task.memory.placing.lengthen();
    }
    BrokenOff::unless(outcome, placed)
}

/// Whether a hold's window has a day of a source.
fn is_in_window<'c>(place: &Place, covers: impl IntoIterator<Item = &'c Cover>, now: Timestamp) -> bool {
    let covers = covers.into_iter();
    let mut about = covers.filter(|cover| cover.is_about(place.class, &place.source));
    about.any(|cover| days_of_window(&cover.window, now).has(place.day))
}

async fn all(
    operator: &StorageTarget,
    task: &Task<'_>,
    looks: &[Look],
    now: Timestamp,
    seen: &mut Placed,
) -> Result<(), HoldError> {
    let store = Store::noting(operator, &task.memory.under_way)?;
    let lately = task.since.map(|since| Days { from: Some(day_of(since)), to: Some(day_of(now + NEXT_DAY)) });
    let Task { covers, everywhere, ceilings, .. } = *task;
    let mut found = places(&store, covers, everywhere, lately, ceilings, now).await?;
    found.add(task.told);
    let mut places = std::mem::take(&mut found.all);
    places.retain(|place| lately.is_none_or(|lately| lately.has(place.day)));
    let is_named = |cover: &Cover, source: &String| matches!(&cover.sources, Sources::Named(all) if all.contains(source));
    let is_known = |source: &String| {
        let is_declared = task.cameras.contains_key(source);
        is_declared || covers.iter().any(|cover| is_named(cover, source))
    };
    let is_own = |place: &&Place| {
        place.class == Class::Video && is_known(&place.source) && is_in_window(place, covers, now)
    };
    seen.listed_days = places.iter().filter(is_own).count() as u64;
    let until = task.memory.placing.ends();
    let pass = |look| Pass { store: &store, task, now, look };
    // Where a turn was over on one day, those after it would wait for as long as that one takes.
    let reached = task.memory.placing.reached().filter(|_| task.since.is_none());
    let later = reached.map_or(places.len(), |day| places.partition_point(|place| place.day <= day));
    if let Some(later) = places.get(later..).filter(|later| !later.is_empty()) {
        let note = |done| seen.note_work(&done);
        each(&store, later, None, until, &pass(Look::All), &mut BTreeSet::new(), note).await?;
    }
    for look in looks.iter().copied() {
        let pass = pass(look);
        // Both looks come to what is hidden.
        seen.refused = None;
        each(&store, &places, task.since, until, &pass, &mut found.unseen.hidden, |done| {
            seen.note_work(&done);
            if look == Look::All {
                seen.note_state(&done, task.memory);
            }
        })
        .await?;
    }
    for (cover, coverage) in task.covers.iter().zip(&mut seen.coverage) {
        coverage.hidden = found.unseen.hidden_of(cover).cloned().collect();
        let unseen = found.unseen.of(cover);
        let shortage = coverage.present.shortage().map(|error| Refused::by(&error));
        coverage.refused = coverage.refused.take().or(unseen).or(shortage);
    }
    Ok(())
}

struct Pass<'a> {
    store: &'a Store,
    task: &'a Task<'a>,
    now: Timestamp,
    look: Look,
}

/// What was done to one version.
struct Done {
    listed: Listed,
    /// Which covers are about it.
    covering: Vec<usize>,
    found: Found,
    error: Option<HoldError>,
}

/// What was found of a version, and put right.
#[derive(Default)]
struct Found {
    /// It is not gone since it was listed.
    is_there: bool,
    /// Its marks were read.
    is_read: bool,
    /// What was not as it must be.
    put_right: Vec<Aspect>,
    /// What of that had been, before somebody else changed it.
    drifted: Vec<Aspect>,
    rescued: u64,
    /// It was not as it must be when it was read back.
    is_disputed: bool,
    opens: Option<Timestamp>,
}

impl Work for Pass<'_> {
    type Done = Done;
    type Known = ();

    async fn know(&self) -> Result<(), HoldError> {
        Ok(())
    }

    fn concerns(&self, listed: &Listed, markers: &[Version]) -> bool {
        (self.look == Look::All || !markers.is_empty()) && !self.covering(listed).is_empty()
    }

    async fn one(&self, (): &(), listed: Listed, markers: Vec<Version>) -> Done {
        let (covering, mut found, mut error) = (self.covering(&listed), Found::default(), None);
        if let Some(stored) = Stored::of(&listed, self.task.ceilings) {
            let placed = self.place(&listed, &stored, &covering, &markers, &mut found).await;
            error = placed.err().map(HoldError::from);
        }
        Done { listed, covering, found, error }
    }

    fn error<'a>(&self, done: &'a Done) -> Option<&'a HoldError> {
        done.error.as_ref()
    }
}

impl Pass<'_> {
    /// Which covers are about a version: by its key, by when the store took it where the key cannot be true, or because it was
    /// held for them before. What was held for one by its key is offered to no other: where the time moves with the legal hold,
    /// it would seem to be of whatever goes on now.
    fn covering(&self, listed: &Listed) -> Vec<usize> {
        let Some(stored) = Stored::of(listed, self.task.ceilings) else {
            return Vec::new();
        };
        let version = self.task.memory.fingerprint(&listed.key, &listed.id);
        let covers = (0..).zip(self.task.covers);
        let mut known = covers.clone().filter(|(number, _)| self.was_told(*number, version));
        let is_offered = !stored.is_covered_by_key(self.task.closing)
            && !known.any(|(_, cover)| stored.is_covered_by_key(std::slice::from_ref(cover)));
        let is_theirs = |(number, cover): &(usize, &Cover)| {
            let cover = std::slice::from_ref(*cover);
            let is_covered =
                if is_offered { stored.is_covered(cover) } else { stored.is_covered_by_key(cover) };
            is_covered || self.was_told(*number, version)
        };
        covers.filter(is_theirs).map(|(number, _)| number).collect()
    }

    /// Whether the manifest of one of the covers lists a version.
    fn was_told(&self, number: usize, version: Fingerprint) -> bool {
        let told = self.task.told.get(number);
        told.is_some_and(|told| told.has(version))
    }

    async fn place(
        &self,
        listed: &Listed,
        stored: &Stored<'_>,
        covering: &[usize],
        markers: &[Version],
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let (version, memory) = (listed.version(), self.task.memory);
        let now = self.store.clock.earlier(self.now);
        let tag = stored.tag_if_held(self.task.embargo, now);
        let opens = || stored.opens_at(self.task.embargo.unwrap_or_default());
        found.opens = (tag == RetentionTag::Sealed).then(opens);
        let is_known = |since| memory.knows(listed, tag, since);
        if markers.is_empty() && self.task.trusted_since.is_some_and(is_known) {
            found.is_there = true;
            return Ok(());
        }
        let proved = covering.iter().filter_map(|n| *self.task.proved_at.get(*n)?).max();
        // Nobody has read a version that is new to all its holds: it is written at once, and read back.
        let marks = match proved {
            Some(_) => marks::read(self.store, &version).await?,
            None => Some(Marks::NONE),
        };
        let Some(marks) = marks else {
            return Ok(());
        };
        found.is_read = true;
        // Where the time moves with the legal hold, a version that has its tag and no hold still tells: the hold is placed
        // first, and taken off last. Whoever may put can write that tag, where policies do not know it: only what was read, or
        // what a manifest has, was held.
        let of = memory.fingerprint(&listed.key, &listed.id);
        let is_known = memory.has_read(of) || covering.iter().any(|number| self.was_told(*number, of));
        let was_held = is_known && marks.tag == Some(RetentionTag::Held) && !marks.legal_hold;
        // One with a key that cannot be true may have been on a day that nobody had looked at.
        let proved_covers =
            covering.iter().filter(|n| self.task.proved_at.get(**n).is_some_and(Option::is_some));
        let proved_covers = proved_covers.filter_map(|n| self.task.covers.get(*n));
        let is_expected = is_known || is_in_window(&Place::of(&stored.key), proved_covers, self.now);
        let was_proved = proved.is_some_and(|proved| was_held || listed.modified < proved && is_expected);
        // The end of an embargo is nobody's doing.
        let opens_now = marks.tag == Some(RetentionTag::Sealed) && tag == RetentionTag::Held;
        let writes = placing(&marks, tag, !markers.is_empty());
        if !writes.is_empty() {
            memory.unlearn(listed);
        }
        for write in &writes {
            let Some(what) = self.write(&version, *write, markers, found).await? else {
                return Ok(());
            };
            found.put_right.push(what);
            if was_proved && !(opens_now && what == Aspect::Tag) {
                found.drifted.push(what);
            }
        }
        if !writes.is_empty() {
            let Some(after) = marks::read(self.store, &version).await? else {
                return Ok(());
            };
            found.is_disputed = !placing(&after, tag, false).is_empty();
        }
        found.is_there = true;
        // A marker that was not there when those were looked for came since.
        found.is_disputed |= self.look == Look::All && !markers.is_empty();
        if !found.is_disputed {
            memory.note(listed, tag, self.now);
        }
        Ok(())
    }

    /// Writes one mark. `None`: the version is gone.
    async fn write(
        &self,
        version: &Version,
        write: Write,
        markers: &[Version],
        found: &mut Found,
    ) -> Result<Option<Aspect>, StoreError> {
        let (written, what) = match write {
            Write::LegalHold(on) => (marks::write_hold(self.store, version, on).await, Aspect::LegalHold),
            Write::Tag(tag) => (marks::write_tag(self.store, version, tag).await, Aspect::Tag),
            Write::Unhide => {
                for marker in markers {
                    objects::delete(self.store, marker).await?;
                    found.rescued += 1;
                }
                (Ok(()), Aspect::DeleteMarker)
            }
        };
        match written {
            Ok(()) => Ok(Some(what)),
            // Whatever the store says of it: only a listing tells that a version is gone.
            Err(error) if error.is_absent() && !marks::is_listed(self.store, version).await? => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Placed {
    fn note_work(&mut self, done: &Done) {
        let found = &done.found;
        let is_put_right = |what| u64::from(found.put_right.contains(&what));
        self.protected += is_put_right(Aspect::LegalHold);
        self.tagged += is_put_right(Aspect::Tag);
        self.rescued += found.rescued;
        self.disputed += u64::from(found.is_disputed);
        self.read += u64::from(found.is_read);
        for what in &found.drifted {
            *self.drifted.entry(*what).or_default() += 1;
        }
        if !found.put_right.is_empty() && self.examples.len() < TOLD {
            self.examples.push(done.listed.key.clone());
        }
        if let Some(error) = &done.error {
            Refused::note(&mut self.refused, error);
        }
    }

    fn note_state(&mut self, done: &Done, memory: &Memory) {
        let Done { listed, covering, found, error } = done;
        if !found.is_there && error.is_none() {
            return;
        }
        let Ok(key) = listed.key.parse::<Key>() else {
            return;
        };
        let version = memory.fingerprint(&listed.key, &listed.id);
        for (number, coverage) in self.coverage.iter_mut().enumerate() {
            if !covering.contains(&number) {
                continue;
            }
            coverage.present.insert(version);
            coverage.places.insert(Place::of(&key));
            coverage.disputed += u64::from(found.is_disputed);
            match error {
                Some(error) => coverage.add_refused(&key.recording(), error),
                None => coverage.add(&key.recording(), listed.size, found.opens.is_some()),
            }
        }
        if let Some(opens) = found.opens {
            self.next_opening = Some(self.next_opening.map_or(opens, |next| next.min(opens)));
        }
    }
}
