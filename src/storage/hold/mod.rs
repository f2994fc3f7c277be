//! Placing and releasing: what open holds cover gets a legal hold, then its tag; what no hold covers any more gets its
//! tag back, then its legal hold goes, then, where it is over its ceiling, the version itself.
//!
//! Both are passes over the days and sources in question, the oldest first. A pass reads the marks of each version and
//! writes those that differ; so it can be stopped anywhere, and one that wrote nothing has proved that all is as it must
//! be.

pub mod coverage;
pub mod manifest;
#[cfg(test)]
mod manifest_tests;
pub mod memory;
#[cfg(test)]
mod moved_tests;
pub(crate) mod order;
mod pass;
mod place;
mod read_marks;
mod release;
pub mod room;
mod task;
mod turn;
mod unseen;

pub use place::{Placed, place};
pub use release::{Release, Released};
pub use task::Task;
pub use unseen::Unseen;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use self::memory::Told;
use super::aging::{days_of_window, expected};
use super::client::{Store, TargetError};
use super::date::ClocksDisagree;
use super::error::StoreError;
use super::key::Key;
use super::sources::sources;
use super::sweep::HoldsUnknown;
use super::walk::{Days, day_of, days_of};
use crate::api::Ceilings;
use crate::protocol::cover::{Cover, Sources};
use crate::protocol::recording::Class;

/// Days of one source that are listed without being looked for first.
const FEW_DAYS: usize = 7;
/// Sources whose days are looked for at once.
const SOURCES_AT_ONCE: usize = 8;

/// Why a pass has not done all, or why a version was refused. What was written was right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The clocks are too far apart to delete by.
    #[error(transparent)]
    Clock(#[from] ClocksDisagree),
    /// Which holds are open is not known.
    #[error(transparent)]
    Holds(#[from] HoldsUnknown),
    /// Nobody declares whose calls there are, so that any source may be a telephone's.
    #[error(
        "TooManySources: not all folders under calls/ can be visited in one pass: delete those that no telephone of yours made \
         (docs/audit.md, UnvisitedSource)"
    )]
    UnvisitedCalls,
    /// The store leaves a key out of its listings.
    #[error(
        "ListingHidesKey: the store does not list a recording of one of the sources, which is there: delete the versions that hide \
         it (docs/audit.md, HiddenKey)"
    )]
    HiddenKey,
    /// There are more versions than there is room for in this process's memory.
    #[error(
        "TooManyVersions: {count} recordings or more are covered, each of which is held, but this operator's memory has no room to tell \
         whether one is lost: raise its memory limit (resources.limits.memory), or find out who made them (docs/threat-model.md)"
    )]
    NoRoom {
        /// How many were found.
        count: u64,
    },
    /// A pass was ended so that others have their turn.
    #[error(
        "TurnOver: there is more to look at than fits between two sweeps; it came to {day}, and goes on at once"
    )]
    TurnOver {
        /// The day of recordings that it was about.
        day: Date,
    },
    /// What another open hold has is not known, and may be what is to be released.
    #[error(
        "UnknownManifest: the manifest of the open hold {hold:?}, which is about the same source, is not known: {why}"
    )]
    Untold {
        /// Its name.
        hold: String,
        /// Why.
        why: String,
    },
    /// A hold is released, and its manifest or its entry in the ledger is not ended.
    #[error("the recordings are released, and the hold's manifest and ledger entry are still to be ended: {}", .0.safe_message())]
    NotEnded(StoreError),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl HoldError {
    /// The store has said no for good: to wait is no help, and asking again no hurry. A version that is not there any more is
    /// not refused.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_refusal() && !error.is_absent(),
            Self::Target(_)
            | Self::Clock(_)
            | Self::Holds(_)
            | Self::UnvisitedCalls
            | Self::HiddenKey
            | Self::NoRoom { .. }
            | Self::TurnOver { .. }
            | Self::Untold { .. }
            | Self::NotEnded(_) => false,
        }
    }

    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Clock(_) => "clock",
            Self::Holds(_) => "holds_unknown",
            Self::UnvisitedCalls => "too_many_sources",
            Self::HiddenKey => "hidden_key",
            Self::NoRoom { .. } => "too_many_versions",
            Self::TurnOver { .. } => "turn_over",
            Self::Untold { .. } => "unknown_manifest",
            Self::NotEnded(error) | Self::Storage(error) => error.category(),
        }
    }
}

/// Versions of which the store refused something, or failed at it though it was tried again, and which stay as they are; or
/// what was not looked at ([`Unseen`]). All others were done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How many; none: something was not looked at.
    pub versions: u64,
    /// What the store answered at one of them: the first that failed, or else the first that it refused. Or what was not looked
    /// at.
    pub first: HoldError,
}

impl Refused {
    /// Whether it is about versions. Where it is not, something was not looked at, and has its turn.
    pub const fn is_of_versions(&self) -> bool {
        self.versions > 0
    }

    /// By this answer, of no version yet.
    pub fn by(error: &HoldError) -> Self {
        Self { versions: 0, first: error.clone() }
    }

    /// Whether the store failed, rather than refuse it: then waiting may be enough.
    pub fn is_failure(&self) -> bool {
        match &self.first {
            HoldError::NotEnded(error) => !error.is_refusal(),
            first => self.is_of_versions() && !first.is_refusal(),
        }
    }

    fn count(&mut self, error: &HoldError) {
        self.versions += 1;
        if self.first.is_refusal() {
            self.first = error.clone();
        }
    }

    fn note(all: &mut Option<Self>, error: &HoldError) {
        all.get_or_insert_with(|| Self::by(error)).count(error);
    }
}

/// A pass that ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BrokenOff<D> {
    /// What ended it.
    pub error: HoldError,
    /// What it had done.
    pub done: D,
}

impl<D> BrokenOff<D> {
    /// `done`, if that was all.
    fn unless(outcome: Result<(), HoldError>, done: D) -> Result<D, Box<Self>> {
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => Err(Box::new(Self { error, done })),
        }
    }

    /// What was done, and whether that was all.
    pub fn apart(outcome: Result<D, Box<Self>>) -> (D, Result<(), HoldError>) {
        match outcome {
            Ok(done) => (done, Ok(())),
            Err(broken_off) => (broken_off.done, Err(broken_off.error)),
        }
    }
}

/// One day of one source, where at least one of the windows may have something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    day: Date,
    class: Class,
    source: String,
}

impl Place {
    fn of(key: &Key) -> Self {
        Self { day: day_of(key.start()), class: key.class(), source: key.source().to_owned() }
    }

    fn prefix(&self) -> String {
        Key::day_prefix(self.class, &self.source, self.day)
    }
}

/// Where holds may have something.
struct Places {
    /// The oldest day first; within a day, each source once.
    all: Vec<Place>,
    /// What cannot be looked at.
    unseen: Unseen,
}

impl Places {
    /// Where something is that was held before, whatever is visited now.
    fn add(&mut self, told: &[Arc<Told>]) {
        self.all.extend(told.iter().flat_map(|told| told.places()).cloned());
        self.all.sort_unstable();
        self.all.dedup();
    }
}

/// Where `covers` may have something, on days of `lately` if that is given. `everywhere`: keys may not be true, so every day
/// counts.
///
/// Sources that a cover names are visited directly, whatever the store lists.
async fn places(
    store: &Store,
    covers: &[Cover],
    everywhere: bool,
    lately: Option<Days>,
    ceilings: &Ceilings,
    now: Timestamp,
) -> Result<Places, StoreError> {
    let (mut all, mut unseen) = (BTreeSet::new(), Unseen::default());
    for class in Class::ALL {
        let about: Vec<&Cover> = covers.iter().filter(|cover| class == Class::Video || cover.calls).collect();
        if about.is_empty() {
            continue;
        }
        let mut named = BTreeSet::new();
        let mut is_every_source = class == Class::Calls;
        for cover in &about {
            match &cover.sources {
                Sources::Named(cameras) if class == Class::Video => named.extend(cameras.iter().cloned()),
                _ => is_every_source = true,
            }
        }
        let visited = if is_every_source {
            let found = sources(store, class, &named, now).await?;
            // Recordings of cameras are of those that the operator knows.
            unseen.calls |= class == Class::Calls && !found.is_whole();
            found.visited
        } else {
            named.into_iter().collect()
        };
        let of_source = |source: String| {
            let covers = about.iter().filter(|cover| cover.is_about(class, &source));
            let mut held: Vec<Days> = covers.map(|cover| days_of_window(&cover.window, now)).collect();
            async move {
                let days = match (lately, everywhere) {
                    (None, true) => {
                        held.push(expected(class, ceilings, now));
                        days_of(store, class, &source, &[Days::ALL], &held, now).await?.days
                    }
                    (Some(lately), true) => wanted_days(store, class, &source, &[lately], now).await?,
                    (lately, false) => {
                        let lately = lately.unwrap_or(Days::ALL);
                        let held: Vec<Days> = held.into_iter().filter_map(|days| days.and(lately)).collect();
                        wanted_days(store, class, &source, &held, now).await?
                    }
                };
                Ok::<_, StoreError>((source, days))
            }
        };
        let jobs: Vec<_> = visited.into_iter().map(of_source).collect();
        let mut found = stream::iter(jobs).buffer_unordered(SOURCES_AT_ONCE);
        while let Some((source, days)) = found.try_next().await? {
            all.extend(days.into_iter().map(|day| Place { day, class, source: source.clone() }));
        }
    }
    Ok(Places { all: all.into_iter().collect(), unseen })
}

/// The days to list of one source. A few are listed at once; of many, those that have anything are found first.
async fn wanted_days(
    store: &Store,
    class: Class,
    source: &str,
    wanted: &[Days],
    now: Timestamp,
) -> Result<BTreeSet<Date>, StoreError> {
    let mut few = BTreeSet::new();
    for days in wanted {
        let (Some(from), Some(to)) = (days.from, days.to) else {
            return Ok(days_of(store, class, source, wanted, wanted, now).await?.days);
        };
        few.extend(from.series(1.day()).take_while(|day| *day <= to).take(FEW_DAYS + 1));
        if few.len() > FEW_DAYS {
            return Ok(days_of(store, class, source, wanted, wanted, now).await?.days);
        }
    }
    Ok(few)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::stub::{Stub, error, versions};
    use super::*;
    use jiff::SignedDuration;

    use crate::api;
    use crate::protocol::Window;

    #[test]
    fn a_failure_is_no_refusal() {
        for (code, status, is_refusal) in [
            ("Timeout", None, false),
            ("SlowDown", Some(503), false),
            ("NoSuchVersion", Some(404), false),
            ("AccessDenied", Some(403), true),
        ] {
            let error =
                HoldError::from(StoreError { operation: "PutObjectLegalHold", code: code.into(), status });
            assert_eq!(error.is_refusal(), is_refusal, "{code}");
        }
    }

    /// However often it is asked, there are more folders under `calls/`; and nothing else in the bucket.
    async fn endless_calls() -> Stub {
        let pages = Arc::new(AtomicU64::new(0));
        Stub::start(move |asked| {
            if asked.method != "GET" || asked.parameter("versions").is_none() {
                return error(404, "NoSuchKey");
            }
            let has = |name: &str, value: &str| asked.parameter(name).as_deref() == Some(value);
            if !has("prefix", "calls/") || !has("delimiter", "/") {
                return versions(asked, &[]);
            }
            let folder = format!("calls/a{:06}/", pages.fetch_add(1, Ordering::Relaxed));
            let text = format!(
                "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{folder}</NextKeyMarker>\
                 <CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes></ListVersionsResult>"
            );
            (200, text)
        })
        .await
    }

    #[tokio::test]
    async fn nothing_is_claimed_of_calls_among_more_folders_than_are_visited() {
        let stub = endless_calls().await;
        let window = Window::new(Timestamp::now() - SignedDuration::from_hours(1), None);
        let covers = [true, false].map(|calls| Cover { sources: Sources::All, calls, window });
        let ceilings = Ceilings { video: api::Days(28), calls: api::Days(7) };
        let (cameras, memory) = Default::default();
        let task = Task {
            covers: &covers,
            cameras: &cameras,
            ceilings: &ceilings,
            embargo: None,
            since: None,
            everywhere: false,
            proved_at: &[],
            told: &[],
            closing: &[],
            memory: &memory,
            trusted_since: None,
            is_verifying: false,
        };
        let placed = place(&stub.target(), &task, Timestamp::now()).await.unwrap();
        let refused: Vec<_> = placed
            .coverage
            .iter()
            .map(|coverage| coverage.refused.as_ref().map(|refused| refused.first.clone()))
            .collect();
        assert_eq!(refused, [Some(HoldError::UnvisitedCalls), None]);
        // It is refused by nobody, and keeps no manifest from being written.
        assert_eq!(placed.refused, None);
        assert_eq!(placed.coverage[0].refused.as_ref().unwrap().versions, 0);
    }
}
