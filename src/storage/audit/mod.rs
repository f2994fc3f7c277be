//! The audit: whether the promises are kept, from what is in the bucket alone, whatever the controllers believe. Reads
//! only, in memory that grows with what is held alone; who does not trust the operator can run it with credentials of their own.

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

pub use self::tally::{Findings, Found, Tally};
use self::tally::{Holds, Newer, Rules};
pub use super::aging::is_at_boundary;
use super::aging::{Stored, boundary, expected_beside};
use super::client::{Purpose, Store, TargetError};
use super::date::ClocksDisagree;
use super::each::ask_each;
use super::error::StoreError;
use super::foreign::look;
use super::hold::memory::Memory;
use super::hold::{HoldError, manifest};
use super::key::Key;
use super::ledger;
use super::listing::{Listed, is_hidden_key};
use super::marks;
use super::probe::canary::is_canary;
use super::simulated;
use super::sources::sources;
use super::sweep::Reach;
use super::walk::{Days, Walk, days_of};
use crate::api::{Ceilings, past};
use crate::contract::StorageTarget;
use crate::protocol::recording::Class;

/// How long a hold may be under way to its place.
const PLACING: SignedDuration = SignedDuration::from_mins(10);
/// Reads of marks at once.
const AT_ONCE: usize = 32;
/// Sources whose days are looked for at once.
const SOURCES_AT_ONCE: usize = 8;
/// Sources that are walked at once, each with two pages of versions in memory. Their reads share [`AT_ONCE`].
const WALKS: usize = 4;

/// What is audited, and by what.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The ceilings (article 6).
    pub ceilings: Ceilings,
    /// How old a recording must be to be readable (article 4.2); `None`: the site has live viewing.
    pub embargo: Option<SignedDuration>,
    /// How much of the bucket.
    pub reach: Reach,
    /// Of how many versions that no hold covers the marks of one are read: 1 reads all.
    pub one_in: u32,
    /// The holds that the cluster knows, by UID, and whether their incident is resolved; `None`: nobody asked it.
    pub known: Option<BTreeMap<String, bool>>,
    /// By what versions are told apart. It knows nothing yet: an audit reads manifests itself.
    pub memory: Arc<Memory>,
}

/// Why an audit ended early: nothing is known then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The clocks are too far apart to tell what is over its ceiling.
    #[error(
        "this machine's clock and the store's are {} s apart: what is over its ceiling cannot be told; put the wrong one right",
        .0.apart.as_secs()
    )]
    Clock(#[from] ClocksDisagree),
    /// What a manifest lists cannot be told apart from what nothing explains.
    #[error("{0}")]
    NoRoom(HoldError),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl AuditError {
    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Clock(_) => "clock",
            Self::NoRoom(error) => error.category(),
            Self::Storage(error) => error.category(),
        }
    }
}

/// Audits a bucket as whoever may list its versions, read their tags and legal holds, and the ledger.
pub async fn audit(reader: &StorageTarget, scope: &Scope, now: Timestamp) -> Result<Tally, AuditError> {
    let store = Store::new(reader, Purpose::Configure)?;
    let mut tally = Tally::default();
    let holds = holds(&store, scope, &mut tally, now).await?;
    store.clock.check()?;
    let rules = Rules { ceilings: &scope.ceilings, holds: &holds, embargo: scope.embargo, now };
    let audit = Audit {
        store: &store,
        rules: &rules,
        one_in: scope.one_in.max(1),
        salt: simulated::salt(),
        tally: Mutex::new(tally),
        reads: Semaphore::new(AT_ONCE),
    };
    for class in Class::ALL {
        let wanted: &[Days] = match scope.reach {
            Reach::All => &[Days::ALL],
            Reach::Boundary => &boundary(class, &scope.ceilings, now),
        };
        let sources = stream::iter(audit.days(class, wanted).await?.into_iter().map(Ok));
        let walk = |days| audit.walk(days);
        sources.try_for_each_concurrent(WALKS, walk).await?;
    }
    if scope.reach == Reach::All {
        audit.strangers().await?;
    }
    store.clock.check()?;
    Ok(audit.tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What the ledger has open, and what of that is neither being placed nor being released. A hold that only the ledger
/// knows is told of.
async fn holds(store: &Store, scope: &Scope, tally: &mut Tally, now: Timestamp) -> Result<Holds, AuditError> {
    let entries = ledger::entries(store).await?;
    let mut holds = Holds { memory: scope.memory.clone(), ..Holds::default() };
    let memory = holds.memory.clone();
    let told_of = |entry| manifest::told_of_open(store, std::iter::once(entry), &memory);
    for entry in entries.values().filter(|entry| entry.is_open()) {
        let known = scope.known.as_ref().map(|known| known.get(&entry.uid));
        if known == Some(None) {
            tally.add(Found::OrphanedHold, &entry.name);
        }
        let is_resolved = match known {
            Some(known) => known.is_some_and(|is_resolved| *is_resolved),
            None => entry.resolved_at.is_some(),
        };
        let told = told_of(entry).await?;
        if let Some(error) = told.iter().find_map(|told| told.shortage()) {
            return Err(AuditError::NoRoom(error));
        }
        holds.told.extend(told.iter().cloned());
        if !is_resolved {
            holds.unresolved.push(entry.cover());
            holds.unresolved_told.extend(told);
        }
        if !is_resolved && past(entry.accepted_at, now).is_none_or(|at| now.duration_since(at) > PLACING) {
            holds.settled.push(entry.cover());
        }
        holds.open.push(entry.cover());
    }
    Ok(holds)
}

struct Audit<'a> {
    store: &'a Store,
    rules: &'a Rules<'a>,
    one_in: u32,
    /// Nobody can foresee which versions are looked at.
    salt: [u64; 2],
    tally: Mutex<Tally>,
    /// Whoever reads marks has one of its permits.
    reads: Semaphore,
}

impl Audit<'_> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of every source, the prefixes of the days among `wanted` that have anything.
    async fn days(&self, class: Class, wanted: &[Days]) -> Result<Vec<Vec<String>>, StoreError> {
        let now = self.rules.now;
        let expected = expected_beside(&self.rules.holds.open, class, self.rules.ceilings, now);
        let expected = expected.as_slice();
        let sources = sources(self.store, class, &BTreeSet::new(), now).await?;
        self.tally().add_foreign(Found::UnparsableKey, &sources.foreign);
        for source in &sources.put_off {
            self.tally().add(Found::UnvisitedSource, source);
        }
        if sources.is_cut {
            self.tally().add(Found::UnvisitedSource, class.prefix());
        }
        let days = |source: String| async move {
            let found = days_of(self.store, class, &source, wanted, expected, now).await?;
            Ok::<_, StoreError>((source, found))
        };
        let jobs: Vec<_> = sources.visited.into_iter().map(days).collect();
        let mut found = stream::iter(jobs).buffered(SOURCES_AT_ONCE);
        let mut all = Vec::new();
        while let Some((source, found)) = found.try_next().await? {
            self.tally().add_foreign(Found::UnparsableKey, &found.foreign);
            for _ in 0..found.put_off {
                self.tally().add(Found::UnvisitedDay, &source);
            }
            let days = found.days.into_iter();
            all.push(days.map(|day| Key::day_prefix(class, &source, day)).collect());
        }
        Ok(all)
    }

    /// Goes through days of one source.
    async fn walk(&self, days: Vec<String>) -> Result<(), StoreError> {
        let mut walk = Walk::new(self.store, days);
        let (mut newer, mut found) = (None, walk.next().await?);
        while let Some(page) = found {
            let chosen = self.page(&page, &mut newer);
            // The next page is fetched while the marks of this one are read.
            let (next, inspected) = futures::join!(walk.next(), self.inspect(chosen));
            inspected?;
            found = match next {
                Err(error) if is_hidden_key(&error) => None,
                next => next?,
            };
        }
        let mut tally = self.tally();
        tally.add_foreign(Found::UnparsableKey, &walk.foreign);
        tally.add_foreign(Found::CrowdedKey, &walk.crowded_keys);
        tally.add_foreign(Found::HiddenKey, &walk.hidden);
        Ok(())
    }

    /// Whatever is in the bucket and is neither a recording, nor the ledger's, nor the probe's.
    async fn strangers(&self) -> Result<(), StoreError> {
        self.strangers_under("", true, is_ours).await?;
        self.strangers_under("probe/", false, is_canary).await
    }

    async fn strangers_under(
        &self,
        prefix: &str,
        by_folder: bool,
        is_known: fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let is_all = look(self.store, prefix, by_folder, |page| {
            let keys = page.versions.iter().map(|listed| &listed.key);
            let others = page.folders.iter().chain(keys).filter(|key| !is_known(key));
            others.for_each(|key| self.tally().add(Found::ForeignKey, key));
        });
        if !is_all.await? {
            self.tally().add(Found::ForeignKey, &format!("{prefix}…"));
        }
        Ok(())
    }

    /// Counts a page, and chooses whose marks are read: of all that are held, and of a sample of the rest.
    fn page<'l>(&self, found: &'l [Listed], newer: &mut Option<Newer>) -> Vec<(Stored<'l>, bool)> {
        let (mut chosen, mut tally) = (Vec::new(), self.tally());
        for listed in found {
            let recording = tally::listed(&mut tally, self.rules, listed, newer.as_ref());
            *newer = Some(Newer::of(listed));
            if let Some((stored, is_held)) = recording
                && (is_held || self.is_sampled(&listed.id))
            {
                chosen.push((stored, is_held));
            }
        }
        chosen
    }

    fn is_sampled(&self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.salt, id).hash(&mut hasher);
        hasher.finish().is_multiple_of(u64::from(self.one_in))
    }

    /// Reads marks, and counts them. Those that cannot be read are told.
    async fn inspect(&self, chosen: Vec<(Stored<'_>, bool)>) -> Result<(), StoreError> {
        let read = |(stored, is_held): (_, bool)| async move {
            let _turn = self.reads.acquire().await;
            let Stored { listed, .. } = &stored;
            let marks = marks::read(self.store, &listed.version()).await;
            ((stored, is_held), marks)
        };
        let unread = ask_each(chosen, AT_ONCE, read, |(stored, is_held), marks| {
            // What is gone since it was listed has no marks.
            if let Some(marks) = marks {
                tally::inspected(&mut self.tally(), self.rules, &stored, is_held, &marks);
            }
        });
        let unread = unread.await?;
        for ((stored, _), error) in &unread {
            let key = &stored.listed.key;
            self.tally().add(Found::UnreadMarks, &format!("{key}: {}", error.safe_message()));
        }
        Ok(())
    }
}

/// Whether a key or folder at the root of a bucket is one of ours.
fn is_ours(key: &str) -> bool {
    let folders = Class::ALL.iter().map(|class| class.prefix());
    folders.chain(["ledger/", "probe/"]).any(|folder| key == folder)
}
