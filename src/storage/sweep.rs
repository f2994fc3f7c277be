//! The sweep: what is over its ceiling and covered by no open hold goes, all versions of it (article 6). It goes by the
//! recording time in the key, and by nothing that somebody else could have written.
//!
//! Stopped anywhere, the next run goes on: what to do follows from the bucket and the open holds alone.

mod batch;
mod retag;
mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, TryStreamExt, future, stream};

use self::batch::delete;
use self::retag::{Retagged, retag};
use self::unfinished::unfinished;
use super::aging::{Fate, Stored, boundary, expected_beside, fate};
use super::client::{Store, TargetError};
use super::date::{ClocksDisagree, Time};
use super::error::StoreError;
use super::hold::manifest;
use super::hold::memory::{Memory, Told};
use super::key::Key;
use super::ledger::{self, Entry};
use super::listing::{Listed, is_hidden_key};
use super::sources::sources;
use super::walk::{Days, Walk, days_of};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::protocol::recording::Class;

/// Versions in one request: more would keep a server busy with one request for long.
const BATCH: usize = 100;
/// Sources whose days are looked for at once.
const SOURCES_AT_ONCE: usize = 8;
/// Requests of one page at once, while the store keeps up: all of it, right after the holds were asked.
const AT_ONCE: usize = 10;
/// Pages that are deleted at once: while the last requests of one are under way, the next begins.
const PAGES: usize = 2;
/// Days of sources that are listed at once, each with a page of versions in memory.
const DAYS: usize = 4;
/// How often what failed is tried again; each time slower.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);

/// The holds that the API server knows of now, asked immediately before anything is deleted.
#[async_trait]
pub trait OpenHolds: Send + Sync {
    /// What they cover. An error stops the sweep.
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown>;
}

/// It could not be found out which holds are open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the open holds cannot be read: {0}")]
pub struct HoldsUnknown(pub String);

/// How much of the bucket is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The days at or past the ceiling, and those to come: where something may be due that has a true key.
    Boundary,
    /// Everything: keys that cannot be true are found wherever they are.
    All,
}

/// Why a sweep ended early. What was deleted before is gone rightly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The clocks are too far apart.
    #[error(transparent)]
    Clock(#[from] ClocksDisagree),
    /// Which holds are open is not known.
    #[error(transparent)]
    Holds(#[from] HoldsUnknown),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl SweepError {
    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Clock(_) => "clock",
            Self::Holds(_) => "holds_unknown",
            Self::Storage(error) => error.category(),
        }
    }
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Versions, and markers, that went.
    pub deleted: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Over their ceiling, and kept for an open hold.
    pub held: u64,
    /// Over their ceiling, covered by no open hold, and not given up by the store: under a legal hold that nothing
    /// explains, or a retention.
    pub resisted: u64,
    /// Tags that no open hold explained, and that were put back.
    pub retagged: u64,
    /// Versions whose tags may be wrong still: the store did not tell their marks, or did not take or keep the tag. They have their
    /// next turn within four weeks. Where the store fails at many after one another, those after these are not counted.
    pub untagged: u64,
    /// What the store answered, at the first of these.
    pub untagged_by: Option<StoreError>,
    /// Unfinished uploads that were aborted.
    pub aborted: u64,
    /// Unfinished uploads that are left: the store did not abort them, or there are more than one sweep aborts.
    pub unfinished: u64,
    /// Days of sources in which the store hides a key: whether it is over its ceiling cannot be told.
    pub hidden: u64,
    /// Days of sources in which nothing is expected, and whose turn is another sweep's; of a year or a month of them, one.
    pub put_off: u64,
}

/// Sweeps a bucket as the operator: deletes versions that are over their ceiling at `time.now` and that no hold covers.
/// With [`Reach::All`], tags that no hold explains are put back, so that the store's lifecycle expires the version; `memory`
/// has those of which no answer came.
pub async fn sweep(
    operator: &StorageTarget,
    ceilings: &Ceilings,
    holds: &dyn OpenHolds,
    memory: &Memory,
    reach: Reach,
    time: Time,
) -> Result<Swept, SweepError> {
    let store = Store::noting(operator, &memory.under_way)?;
    let mut sweep = Sweep {
        store: &store,
        ceilings,
        holds,
        memory,
        told: Vec::new(),
        time,
        reach,
        seen: Mutex::default(),
        hidden: Mutex::default(),
        are_tags_left: AtomicBool::new(false),
        swept: Swept::default(),
    };
    match sweep.all().await {
        Ok(()) => Ok(sweep.swept),
        // Whatever else is said of it: a store whose clock is another refuses what was signed by ours.
        Err(error) => Err(store.clock.check().err().map_or(error, SweepError::from)),
    }
}

/// A day of one source that had something due.
struct SweptDay {
    prefix: String,
    versions: u64,
    bytes: u64,
}

struct Sweep<'a> {
    store: &'a Store,
    ceilings: &'a Ceilings,
    holds: &'a dyn OpenHolds,
    memory: &'a Memory,
    /// What the manifests of open holds list.
    told: Vec<Arc<Told>>,
    time: Time,
    reach: Reach,
    /// The holds that were open at any time of the sweep.
    seen: Mutex<Vec<Cover>>,
    hidden: Mutex<BTreeSet<String>>,
    /// The store failed at so many that no more tags are looked at.
    are_tags_left: AtomicBool,
    swept: Swept,
}

impl Sweep<'_> {
    async fn all(&mut self) -> Result<(), SweepError> {
        // What they cover keeps its tag, and is expected where it is.
        let entries = ledger::entries(self.store).await?;
        self.told = manifest::told_of_open(self.store, entries.values(), self.memory).await?;
        self.open_now(&entries).await?;
        for class in Class::ALL {
            self.class(class).await?;
        }
        let hidden = self.hidden.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.swept.hidden = hidden.len() as u64;
        unfinished(self).await
    }

    /// The next page of a day. A key that the store hides keeps nothing else from being swept.
    async fn next(&self, walk: &mut Walk<'_>, day: &str) -> Result<Option<Vec<Listed>>, SweepError> {
        match walk.next().await {
            Err(error) if is_hidden_key(&error) => {
                let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
                hidden.insert(day.to_owned());
                Ok(None)
            }
            page => Ok(page?),
        }
    }

    async fn class(&mut self, class: Class) -> Result<(), SweepError> {
        let wanted: &[Days] = match self.reach {
            Reach::Boundary => &boundary(class, self.ceilings, self.time.now),
            Reach::All => &[Days::ALL],
        };
        let (days, put_off) = self.days(class, wanted).await?;
        self.swept.put_off += put_off;
        let (send, found) = mpsc::channel(0);
        let this = &*self;
        let deleting = found
            .map(|due| this.in_rounds(due))
            .buffer_unordered(PAGES)
            .try_for_each(|()| future::ready(Ok(())));
        let ((swept, retagged), ()) = futures::try_join!(this.find(days, send), deleting)?;
        self.swept.retagged += retagged.count;
        self.swept.untagged += retagged.failed;
        self.swept.untagged_by = self.swept.untagged_by.take().or(retagged.error);
        let this = &*self;
        let read_back = stream::iter(swept).map(|day| this.read_back(day));
        let days: Vec<Swept> = read_back.buffer_unordered(DAYS).try_collect().await?;
        for day in days {
            self.swept.deleted += day.deleted;
            self.swept.bytes += day.bytes;
            self.swept.held += day.held;
            self.swept.resisted += day.resisted;
        }
        Ok(())
    }

    /// The prefixes of the days among `wanted` that have anything, of every source.
    async fn days(&self, class: Class, wanted: &[Days]) -> Result<(Vec<String>, u64), SweepError> {
        let sources = sources(self.store, class, &BTreeSet::new(), self.time.now).await?;
        let expected = expected_beside(&self.seen(), class, self.ceilings, self.time.now);
        let expected = expected.as_slice();
        let days = |source: String| async move {
            let found = days_of(self.store, class, &source, wanted, expected, self.time.now).await?;
            Ok::<_, StoreError>((source, found))
        };
        let jobs: Vec<_> = sources.visited.into_iter().map(days).collect();
        let days: Vec<_> = stream::iter(jobs).buffered(SOURCES_AT_ONCE).try_collect().await?;
        let put_off = days.iter().map(|(_, found)| found.put_off).sum();
        let prefixes = days
            .iter()
            .flat_map(|(source, found)| found.days.iter().map(|day| Key::day_prefix(class, source, *day)));
        Ok((prefixes.collect(), put_off))
    }

    /// Lists what is due, ahead of what is deleted. Returns where it was.
    async fn find(
        &self,
        days: Vec<String>,
        found: mpsc::Sender<Vec<Listed>>,
    ) -> Result<(Vec<SweptDay>, Retagged), SweepError> {
        let (mut swept, mut retagged) = (Vec::new(), Retagged::default());
        // Each is made when its turn has come: there may be thousands. The deleting side ends when nobody can send any more.
        let mut days =
            stream::iter(days).map(move |day| self.find_in(day, found.clone())).buffer_unordered(DAYS);
        while let Some((day, of_day)) = days.try_next().await? {
            swept.extend(Some(day).filter(|day| day.versions > 0));
            retagged.add(of_day);
        }
        Ok((swept, retagged))
    }

    /// The same of one day, given by its prefix.
    async fn find_in(
        &self,
        prefix: String,
        mut found: mpsc::Sender<Vec<Listed>>,
    ) -> Result<(SweptDay, Retagged), SweepError> {
        let (mut walk, mut retagged) = (Walk::new(self.store, [prefix.clone()]), Retagged::default());
        let mut day = SweptDay { prefix, versions: 0, bytes: 0 };
        while let Some(page) = self.next(&mut walk, &day.prefix).await? {
            let (due, rest) = self.due(page);
            day.versions += due.len() as u64;
            day.bytes += due.iter().map(|listed| listed.size).sum::<u64>();
            // Before the tags, which a store may take long to tell.
            if !due.is_empty() && found.send(due).await.is_err() {
                // The deleting side has stopped, and says why.
                break;
            }
            if self.reach == Reach::All && !self.are_tags_left.load(Ordering::Relaxed) {
                retagged.add(retag(self, &rest).await?);
            }
        }
        Ok((day, retagged))
    }

    /// What is to become of a version. What a manifest lists stays, also where its key has become true since it was held.
    fn fate(&self, listed: &Listed, holds: &[Cover]) -> Fate {
        match fate(listed, self.ceilings, holds, self.time.now) {
            Fate::Goes if self.is_told(listed) => Fate::Held,
            fate => fate,
        }
    }

    fn is_told(&self, listed: &Listed) -> bool {
        let stored = Stored::of(listed, self.ceilings);
        stored.is_some_and(|stored| self.memory.is_told(&self.told, &stored))
    }

    /// What of a page is over its ceiling, and what is not.
    fn due(&self, found: Vec<Listed>) -> (Vec<Listed>, Vec<Listed>) {
        let is_due = |listed: &Listed| {
            Stored::of(listed, self.ceilings).is_some_and(|stored| stored.due_at() <= self.time.now)
        };
        found.into_iter().partition(is_due)
    }

    /// What became of a day: by what a listing shows afterwards, whatever the answers were.
    async fn read_back(&self, day: SweptDay) -> Result<Swept, SweepError> {
        let (mut walk, mut became) = (Walk::new(self.store, [day.prefix.clone()]), Swept::default());
        let (mut left, mut bytes_left) = (0, 0);
        while let Some(page) = self.next(&mut walk, &day.prefix).await? {
            for listed in self.due(page).0 {
                left += 1;
                bytes_left += listed.size;
                match self.fate(&listed, &self.seen()) {
                    Fate::Held => became.held += 1,
                    _ => became.resisted += 1,
                }
            }
        }
        became.deleted = day.versions.saturating_sub(left);
        became.bytes = day.bytes.saturating_sub(bytes_left);
        Ok(became)
    }

    /// Sends the deletions, of what no hold covers, again and slower where the store could not keep up. The run ends where whole
    /// requests fail for good. A version that the store does not delete keeps none after it from being swept: what is left is
    /// counted when the day is read back.
    async fn in_rounds(&self, due: Vec<Listed>) -> Result<(), SweepError> {
        let (mut left, mut at_once) = (due, AT_ONCE);
        for round in 1..=ROUNDS {
            let (mut again, mut last_error) = (Vec::new(), None);
            for together in left.chunks(BATCH * at_once) {
                last_error = self.send(together, &mut again).await?.or(last_error);
            }
            if again.is_empty() || round == ROUNDS {
                return last_error.map_or(Ok(()), |error| Err(error.into()));
            }
            left = again;
            at_once = (at_once / 2).max(1);
            tokio::time::sleep(PAUSE * 2_u32.pow(round)).await;
        }
        Ok(())
    }

    /// Sends as much as goes at once. What failed and may be tried again is added to `again`.
    async fn send(
        &self,
        together: &[Listed],
        again: &mut Vec<Listed>,
    ) -> Result<Option<StoreError>, SweepError> {
        // Immediately before: a hold may have been declared since the page was listed.
        let holds = self.open_holds().await?;
        self.store.clock.vouches_for(self.time)?;
        let goes = together.iter().filter(|listed| self.fate(listed, &holds) == Fate::Goes);
        let goes: Vec<&Listed> = goes.collect();
        let batches = goes.chunks(BATCH).map(|batch| delete(self.store, batch));
        let mut last_error = None;
        for (batch, answer) in future::join_all(batches).await {
            match answer {
                Ok(failed) => {
                    let failed = batch.iter().filter(|listed| failed.contains(&listed.id));
                    again.extend(failed.map(|listed| (*listed).clone()));
                }
                Err(error) if error.is_retryable() => {
                    again.extend(batch.iter().map(|listed| (*listed).clone()));
                    last_error = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last_error)
    }

    /// Those of the ledger and those of the API: these last, since reading the ledger takes long enough to declare one.
    async fn open_holds(&self) -> Result<Vec<Cover>, SweepError> {
        self.open_now(&ledger::entries(self.store).await?).await
    }

    async fn open_now(&self, entries: &BTreeMap<String, Entry>) -> Result<Vec<Cover>, SweepError> {
        let mut holds = ledger::covers(entries, &BTreeSet::new());
        holds.extend(self.holds.covers().await?);
        let mut seen = self.seen();
        let new = holds.iter().filter(|hold| !seen.contains(hold));
        let new: Vec<Cover> = new.cloned().collect();
        seen.extend(new);
        Ok(holds)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Cover>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
