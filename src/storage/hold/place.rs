//! What open holds cover gets a legal hold, then its tag, and whatever hides it goes: in that order, so that stopped
//! anywhere nothing that was protected is less so.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::coverage::Coverage;
use super::order::{Write, placing};
use super::pass::{Work, each};
use super::{BrokenOff, HoldError, Refused, places};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::storage::Aspect;
use crate::storage::aging::Stored;
use crate::storage::client::{Purpose, Store};
use crate::storage::error::StoreError;
use crate::storage::key::Key;
use crate::storage::listing::Listed;
use crate::storage::marks;
use crate::storage::objects::{self, Version};
use crate::storage::tag::RetentionTag;

/// Keys that are told of what was found otherwise: those of whichever place came first.
const TOLD: usize = 5;

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
    /// What could not be read or written.
    pub refused: Option<Refused>,
}

/// What is placed.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// What open holds cover.
    pub covers: &'a [Cover],
    /// The cameras that there are, and when each was declared: what a hold over all of them should have.
    pub cameras: &'a BTreeMap<String, Timestamp>,
    /// The ceilings (article 6).
    pub ceilings: &'a Ceilings,
    /// How old a recording must be to be readable (article 4.2); `None`: the site has live viewing.
    pub embargo: Option<SignedDuration>,
    /// Only recordings of that UTC day on; `None`: all, from the first day of each window.
    pub since: Option<Timestamp>,
    /// Keys that cannot be true were found: look at all that the sources have.
    pub everywhere: bool,
    /// When all that was there then of each of `covers`, in turn, was proved to be as it must be; `None`: never.
    pub proved_at: &'a [Option<Timestamp>],
}

impl Placed {
    /// Whether all was found as it must be, but for what was refused: nothing had to be written.
    pub const fn is_settled(&self) -> bool {
        self.protected == 0 && self.tagged == 0 && self.rescued == 0
    }
}

/// Places what open holds cover.
pub async fn place(
    operator: &StorageTarget,
    task: &Task<'_>,
    now: Timestamp,
) -> Result<Placed, Box<BrokenOff<Placed>>> {
    // What is behind a marker would go first.
    let mut placed = passes(operator, task, &[Look::Hidden, Look::All], now).await?;
    placed.coverage = placed.coverage.into_iter().map(Coverage::finish).collect();
    Ok(placed)
}

/// Places what is covered and behind a delete marker. Listings show that, so it takes far less than to read all marks; what
/// there is of each hold is not counted.
pub async fn unhide(
    operator: &StorageTarget,
    task: &Task<'_>,
    now: Timestamp,
) -> Result<Placed, Box<BrokenOff<Placed>>> {
    passes(operator, task, &[Look::Hidden], now).await
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
            .map(|cover| Coverage::of(cover, task.cameras, now))
            .collect(),
        ..Placed::default()
    };
    let outcome = all(operator, task, looks, now, &mut placed).await;
    BrokenOff::unless(outcome, placed)
}

async fn all(
    operator: &StorageTarget,
    task: &Task<'_>,
    looks: &[Look],
    now: Timestamp,
    seen: &mut Placed,
) -> Result<(), HoldError> {
    let store = Store::new(operator, Purpose::Configure)?;
    let mut places = places(&store, task.covers, task.everywhere, now).await?;
    if let Some(since) = task.since {
        let first = TimeZone::UTC.to_datetime(since).date();
        places.retain(|place| place.day.is_none_or(|day| day >= first));
    }
    let mut outcome = Ok(());
    for look in looks.iter().copied() {
        let pass = Pass {
            store: &store,
            task,
            now,
            look,
        };
        // Both looks come to what is hidden.
        seen.refused = None;
        let went = each(&store, &places, &pass, |done| {
            seen.note_work(&done);
            if look == Look::All {
                seen.note_state(&done);
            }
        });
        if let Err(failed) = went.await {
            outcome = outcome.and(Err(failed.error));
            if failed.has_stopped {
                break;
            }
        }
    }
    outcome
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
    /// What was not as it must be.
    put_right: Vec<Aspect>,
    /// What of that had been, before somebody else changed it.
    drifted: Vec<Aspect>,
    rescued: u64,
    opens: Option<Timestamp>,
}

impl Work for Pass<'_> {
    type Done = Done;
    type Known = ();

    async fn know(&self) -> Result<(), HoldError> {
        Ok(())
    }

    fn concerns(&self, listed: &Listed, markers: &[Version]) -> bool {
        let stored = Stored::of(listed, self.task.ceilings);
        let is_covered = stored.is_some_and(|stored| stored.is_covered(self.task.covers));
        is_covered && (self.look == Look::All || !markers.is_empty())
    }

    async fn one(&self, (): &(), listed: Listed, markers: Vec<Version>) -> Done {
        let (mut covering, mut found, mut error) = (Vec::new(), Found::default(), None);
        if let Some(stored) = Stored::of(&listed, self.task.ceilings) {
            let covers_it = |cover: &Cover| stored.is_covered(std::slice::from_ref(cover));
            let all = (0..).zip(self.task.covers);
            covering.extend(all.filter(|(_, cover)| covers_it(cover)).map(|(n, _)| n));
            let placed = self
                .place(&listed, &stored, &covering, &markers, &mut found)
                .await;
            error = placed.err().map(HoldError::from);
        }
        Done {
            listed,
            covering,
            found,
            error,
        }
    }

    fn error<'a>(&self, done: &'a Done) -> Option<&'a HoldError> {
        done.error.as_ref()
    }
}

impl Pass<'_> {
    async fn place(
        &self,
        listed: &Listed,
        stored: &Stored<'_>,
        covering: &[usize],
        markers: &[Version],
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let version = listed.version();
        let Some(marks) = marks::read(self.store, &version).await? else {
            return Ok(());
        };
        let Some(tag) = stored.held_tag(self.task.covers, self.task.embargo, self.now) else {
            return Ok(());
        };
        found.is_there = true;
        found.opens =
            (tag == RetentionTag::Sealed).then(|| stored.opens_at(self.task.embargo.unwrap_or_default()));
        // Where the time moves with the legal hold, a version that has its tag and no hold still tells: the hold is placed
        // first, and taken off last.
        let was_held = marks.tag == Some(RetentionTag::Held) && !marks.legal_hold;
        let proved = covering
            .iter()
            .filter_map(|n| *self.task.proved_at.get(*n)?)
            .max();
        let was_proved = proved.is_some_and(|proved| was_held || listed.modified < proved);
        // The end of an embargo is nobody's doing.
        let opens_now = marks.tag == Some(RetentionTag::Sealed) && tag == RetentionTag::Held;
        for write in placing(&marks, tag, !markers.is_empty()) {
            let what = match write {
                Write::LegalHold(on) => {
                    marks::write_hold(self.store, &version, on).await?;
                    Aspect::LegalHold
                }
                Write::Tag(tag) => {
                    marks::write_tag(self.store, &version, tag).await?;
                    Aspect::Tag
                }
                Write::Unhide => {
                    for marker in markers {
                        objects::delete(self.store, marker).await?;
                        found.rescued += 1;
                    }
                    Aspect::DeleteMarker
                }
            };
            found.put_right.push(what);
            if was_proved && !(opens_now && what == Aspect::Tag) {
                found.drifted.push(what);
            }
        }
        Ok(())
    }
}

impl Placed {
    fn note_work(&mut self, done: &Done) {
        let found = &done.found;
        let is_put_right = |what| u64::from(found.put_right.contains(&what));
        self.protected += is_put_right(Aspect::LegalHold);
        self.tagged += is_put_right(Aspect::Tag);
        self.rescued += found.rescued;
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

    fn note_state(&mut self, done: &Done) {
        let Done {
            listed,
            covering,
            found,
            error,
        } = done;
        if !found.is_there && error.is_none() {
            return;
        }
        let Ok(key) = listed.key.parse::<Key>() else {
            return;
        };
        for (number, coverage) in self.coverage.iter_mut().enumerate() {
            if !covering.contains(&number) {
                continue;
            }
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
