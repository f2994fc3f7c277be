//! The audit: whether the promises are kept, from what is in the bucket alone, whatever the controllers believe. Reads
//! only, in constant memory; who does not trust the operator can run it with credentials of their own.

mod tally;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

pub use self::tally::{Findings, Found, Tally};
use self::tally::{Holds, Newer, Rules};
pub use super::aging::is_at_boundary;
use super::aging::{Stored, boundary};
use super::client::{Purpose, Store, TargetError};
use super::error::StoreError;
use super::ledger;
use super::listing::{After, Listed, PAGE, page};
use super::marks::{self, Marks};
use super::simulated;
use super::sweep::Reach;
use super::walk::{Days, Step, step};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::recording::Class;

/// How long a hold may be under way to its place.
const PLACING: SignedDuration = SignedDuration::from_mins(10);
/// Reads of marks at once.
const AT_ONCE: usize = 32;

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
}

/// Why an audit ended early: nothing is known then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl AuditError {
    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Storage(error) => error.category(),
        }
    }
}

/// Audits a bucket as whoever may list its versions, read their tags and legal holds, and the ledger.
pub async fn audit(reader: &StorageTarget, scope: &Scope, now: Timestamp) -> Result<Tally, AuditError> {
    let store = Store::new(reader, Purpose::Configure)?;
    let mut tally = Tally::default();
    let holds = holds(&store, scope, &mut tally, now).await?;
    let rules = Rules {
        ceilings: &scope.ceilings,
        holds: &holds,
        embargo: scope.embargo,
        now,
    };
    let audit = Audit {
        store: &store,
        rules: &rules,
        one_in: scope.one_in.max(1),
        salt: simulated::salt(),
    };
    match scope.reach {
        Reach::All => audit.walk("", &[Days::ALL], &mut tally).await?,
        Reach::Boundary => {
            for class in Class::ALL {
                let days = boundary(class, &scope.ceilings, now);
                audit.walk(class.prefix(), &days, &mut tally).await?;
            }
        }
    }
    Ok(tally)
}

/// What the ledger has open, and what of that is neither being placed nor being released. A hold that only the ledger
/// knows is told of.
async fn holds(store: &Store, scope: &Scope, tally: &mut Tally, now: Timestamp) -> Result<Holds, StoreError> {
    let entries = ledger::entries(store).await?;
    let mut holds = Holds::default();
    for entry in entries.values().filter(|entry| entry.is_open()) {
        let known = scope.known.as_ref().map(|known| known.get(&entry.uid));
        if known == Some(None) {
            tally.add(Found::OrphanedHold, &entry.name);
        }
        let is_resolved = known.flatten().is_some_and(|is_resolved| *is_resolved);
        if !is_resolved && now.duration_since(entry.accepted_at) > PLACING {
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
}

impl Audit<'_> {
    async fn walk(&self, prefix: &str, days: &[Days], tally: &mut Tally) -> Result<(), StoreError> {
        let (mut newer, mut found) = (None, page(self.store, prefix, None, PAGE).await?);
        loop {
            let (chosen, jump) = self.page(&found.versions, days, &mut newer, tally);
            let next = match jump.map(After::key) {
                Some(jump) => Some(jump),
                None => found.next.clone(),
            };
            // The next page is fetched while the marks of this one are read.
            let ahead = async {
                match &next {
                    Some(after) => page(self.store, prefix, Some(after), PAGE).await.map(Some),
                    None => Ok(None),
                }
            };
            let (ahead, inspected) = futures::join!(ahead, self.inspect(chosen, tally));
            inspected?;
            match ahead? {
                Some(ahead) => found = ahead,
                None => return Ok(()),
            }
        }
    }

    /// Counts a page, and chooses whose marks are read: of all that are held, and of a sample of the rest.
    fn page<'l>(
        &self,
        found: &'l [Listed],
        days: &[Days],
        newer: &mut Option<Newer>,
        tally: &mut Tally,
    ) -> (Vec<(Stored<'l>, bool)>, Option<String>) {
        let mut chosen = Vec::new();
        for listed in found {
            if let Step::JumpTo(text) = step(&listed.key, days) {
                return (chosen, Some(text));
            }
            let recording = tally::listed(tally, self.rules, listed, newer.as_ref());
            *newer = Some(Newer::of(listed));
            if let Some((stored, is_held)) = recording
                && (is_held || self.is_sampled(&listed.id))
            {
                chosen.push((stored, is_held));
            }
        }
        (chosen, None)
    }

    fn is_sampled(&self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.salt, id).hash(&mut hasher);
        hasher.finish().is_multiple_of(u64::from(self.one_in))
    }

    async fn read<'l>(
        &self,
        stored: Stored<'l>,
        is_held: bool,
    ) -> Result<(Stored<'l>, bool, Option<Marks>), StoreError> {
        let marks = marks::read(self.store, &stored.listed.version()).await?;
        Ok((stored, is_held, marks))
    }

    async fn inspect(&self, chosen: Vec<(Stored<'_>, bool)>, tally: &mut Tally) -> Result<(), StoreError> {
        let reads: Vec<_> = chosen
            .into_iter()
            .map(|(stored, is_held)| self.read(stored, is_held))
            .collect();
        let mut answers = stream::iter(reads).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            // What is gone since it was listed has no marks.
            if let (stored, is_held, Some(marks)) = answer? {
                tally::inspected(tally, self.rules, &stored, is_held, &marks);
            }
        }
        Ok(())
    }
}
