//! What open holds cover gets a legal hold, then its tag, and whatever hides it goes: in that order, so that stopped
//! anywhere nothing that was protected is less so.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::coverage::Coverage;
use super::order::{Write, placing};
use super::pass::{Work, each};
use super::{BrokenOff, HoldError, places};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::storage::Aspect;
use crate::storage::aging::Stored;
use crate::storage::client::{Purpose, Store};
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
    /// When all that was there then was proved to be as it must be for these very holds; `None`: never.
    pub proved_at: Option<Timestamp>,
}

impl Placed {
    /// Whether all was found as it must be: nothing had to be written.
    pub const fn is_proved(&self) -> bool {
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
        let failed = each(&store, &places, &pass, |done| {
            seen.note_work(&done);
            if look == Look::All {
                seen.note_state(&done);
            }
        })
        .await;
        let has_stopped = failed.has_stopped;
        outcome = outcome.and(failed.outcome());
        if has_stopped {
            break;
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

/// What was done to one version. Nothing: it is gone.
#[derive(Default)]
struct Done {
    listed: Option<Listed>,
    covering: Vec<usize>,
    /// What was not as it must be.
    wrong: Vec<Aspect>,
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

    async fn one(&self, (): &(), listed: Listed, markers: Vec<Version>) -> Result<Done, HoldError> {
        let Some(stored) = Stored::of(&listed, self.task.ceilings) else {
            return Ok(Done::default());
        };
        let covers_it = |cover: &Cover| stored.is_covered(std::slice::from_ref(cover));
        let covering: Vec<usize> = (0..)
            .zip(self.task.covers)
            .filter(|(_, cover)| covers_it(cover))
            .map(|(n, _)| n)
            .collect();
        let version = listed.version();
        let Some(found) = marks::read(self.store, &version).await? else {
            return Ok(Done::default());
        };
        let Some(tag) = stored.held_tag(self.task.covers, self.task.embargo, self.now) else {
            return Ok(Done::default());
        };
        let wrong = [
            (Aspect::LegalHold, !found.legal_hold),
            (Aspect::Tag, found.tag != Some(tag)),
            (Aspect::DeleteMarker, !markers.is_empty()),
        ];
        let wrong = wrong.into_iter().filter(|(_, is_wrong)| *is_wrong);
        let wrong: Vec<Aspect> = wrong.map(|(what, _)| what).collect();
        let mut drifted = wrong.clone();
        // Where the time moves with the legal hold, a version that has its tag and no hold still tells: the hold is placed
        // first, and taken off last.
        let was_held = found.tag == Some(RetentionTag::Held) && !found.legal_hold;
        let was_proved = self
            .task
            .proved_at
            .is_some_and(|proved| was_held || listed.modified < proved);
        // The end of an embargo is nobody's doing.
        let opens_now = found.tag == Some(RetentionTag::Sealed) && tag == RetentionTag::Held;
        drifted.retain(|what| was_proved && !(opens_now && *what == Aspect::Tag));
        let mut done = Done {
            covering,
            wrong,
            drifted,
            opens: (tag == RetentionTag::Sealed)
                .then(|| stored.opens_at(self.task.embargo.unwrap_or_default())),
            ..Done::default()
        };
        for write in placing(&found, tag, !markers.is_empty()) {
            match write {
                Write::LegalHold(on) => marks::write_hold(self.store, &version, on).await?,
                Write::Tag(tag) => marks::write_tag(self.store, &version, tag).await?,
                Write::Unhide => {
                    for marker in &markers {
                        objects::delete(self.store, marker).await?;
                        done.rescued += 1;
                    }
                }
            }
        }
        done.listed = Some(listed);
        Ok(done)
    }
}

impl Placed {
    fn note_work(&mut self, done: &Done) {
        let is_wrong = |what| u64::from(done.wrong.contains(&what));
        self.protected += is_wrong(Aspect::LegalHold);
        self.tagged += is_wrong(Aspect::Tag);
        self.rescued += done.rescued;
        for what in &done.drifted {
            *self.drifted.entry(*what).or_default() += 1;
        }
        let is_new = !done.wrong.is_empty();
        if let Some(listed) = done
            .listed
            .as_ref()
            .filter(|_| is_new && self.examples.len() < TOLD)
        {
            self.examples.push(listed.key.clone());
        }
    }

    fn note_state(&mut self, done: &Done) {
        let Some(listed) = &done.listed else { return };
        let Ok(key) = listed.key.parse::<Key>() else {
            return;
        };
        for (number, coverage) in self.coverage.iter_mut().enumerate() {
            if done.covering.contains(&number) {
                coverage.add(&key.recording(), listed.size, done.opens.is_some());
            }
        }
        if let Some(opens) = done.opens {
            self.next_opening = Some(self.next_opening.map_or(opens, |next| next.min(opens)));
        }
    }
}
