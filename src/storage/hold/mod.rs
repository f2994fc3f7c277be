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

pub use place::{PlaceReport, place};
pub use release::{Release, ReleaseReport};
pub use task::PlaceInput;
pub use unseen::Unchecked;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use self::memory::ManifestVersions;
use super::aging::{days_of_window, expected_days};
use super::client::{BucketClient, TargetError};
use super::date::ClockSkew;
use super::error::StoreError;
use super::key::Key;
use super::sources::list_sources;
use super::sweep::OpenHoldsError;
use super::walk::{DayFilter, list_source_days, utc_date};
use crate::api::Ceilings;
use crate::protocol::cover::{CameraSelector, HoldScope};
use crate::protocol::recording::Class;

/// Days of one source that are listed without being looked for first.
const MAX_DAYS_WITHOUT_LOOKUP: usize = 7;
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
    Clock(#[from] ClockSkew),
    /// Which holds are open is not known.
    #[error(transparent)]
    Holds(#[from] OpenHoldsError),
    /// Nobody declares whose calls there are, so that any source may be a telephone's.
    #[error(
        "TooManySources: not all folders under calls/ can be visited in one pass: delete those that no telephone of yours made \
         (docs/how-to/audit-a-bucket.md, UnvisitedSource)"
    )]
    TooManySources,
    /// The store leaves a key out of its listings.
    #[error(
        "ListingOmitsKey: the store does not list a recording of one of the sources, which is there: delete the versions that hide \
         it (docs/how-to/audit-a-bucket.md, HiddenKey)"
    )]
    UnlistedKey,
    /// There are more versions than there is room for in this process's memory.
    #[error(
        "TooManyVersions: {count} recordings or more are covered, each of which is held, but this operator's memory has no room to tell \
         whether one is lost: raise its memory limit (resources.limits.memory), or find out who made them (docs/threat-model.md)"
    )]
    TooManyVersions {
        /// How many were found.
        count: u64,
    },
    /// A pass was ended so that others have their turn.
    #[error(
        "PassTimeout: there is more to look at than fits between two sweeps; it came to {day}, and goes on at once"
    )]
    PassTimeout {
        /// The day of recordings that it was about.
        day: Date,
    },
    /// What another open hold has is not known, and may be what is to be released.
    #[error(
        "UnknownManifest: the manifest of the open hold {hold:?}, which is about the same source, is not known: {reason}"
    )]
    UnknownManifest {
        /// Its name.
        hold: String,
        /// Why.
        reason: String,
    },
    /// A hold is released, and its manifest or its entry in the ledger is not ended.
    #[error("the recordings are released, and the hold's manifest and ledger entry are still to be ended: {}", .0.safe_message())]
    CleanupFailed(StoreError),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl HoldError {
    /// The store has said no for good: to wait is no help, and asking again no hurry. A version that is not there any more is
    /// not refused.
    pub(crate) fn is_rejection(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_rejection() && !error.is_not_found(),
            Self::Target(_)
            | Self::Clock(_)
            | Self::Holds(_)
            | Self::TooManySources
            | Self::UnlistedKey
            | Self::TooManyVersions { .. }
            | Self::PassTimeout { .. }
            | Self::UnknownManifest { .. }
            | Self::CleanupFailed(_) => false,
        }
    }

    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Clock(_) => "clock",
            Self::Holds(_) => "holds_unknown",
            Self::TooManySources => "too_many_sources",
            Self::UnlistedKey => "hidden_key",
            Self::TooManyVersions { .. } => "too_many_versions",
            Self::PassTimeout { .. } => "turn_over",
            Self::UnknownManifest { .. } => "unknown_manifest",
            Self::CleanupFailed(error) | Self::Storage(error) => error.category(),
        }
    }
}

/// Versions of which the store refused something, or failed at it though it was tried again, and which stay as they are; or
/// what was not looked at ([`Unseen`]). All others were done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassErrors {
    /// How many; none: something was not looked at.
    pub versions: u64,
    /// What the store answered at one of them: the first that failed, or else the first that it refused. Or what was not looked
    /// at.
    pub first_error: HoldError,
}

impl PassErrors {
    /// Whether it is about versions. Where it is not, something was not looked at, and has its turn.
    pub const fn has_versions(&self) -> bool {
        self.versions > 0
    }

    /// By this answer, of no version yet.
    pub fn without_versions(error: &HoldError) -> Self {
        Self { versions: 0, first_error: error.clone() }
    }

    /// Whether the store failed, rather than refuse it: then waiting may be enough.
    pub fn is_transient(&self) -> bool {
        match &self.first_error {
            HoldError::CleanupFailed(error) => !error.is_rejection(),
            first => self.has_versions() && !first.is_rejection(),
        }
    }

    fn add(&mut self, error: &HoldError) {
        self.versions += 1;
        if self.first_error.is_rejection() {
            self.first_error = error.clone();
        }
    }

    fn add_to(all: &mut Option<Self>, error: &HoldError) {
        all.get_or_insert_with(|| Self::without_versions(error)).add(error);
    }
}

/// A pass that ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Incomplete<D> {
    /// What ended it.
    pub error: HoldError,
    /// What it had done.
    pub report: D,
}

impl<D> Incomplete<D> {
    /// `done`, if that was all.
    fn from_result(outcome: Result<(), HoldError>, done: D) -> Result<D, Box<Self>> {
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => Err(Box::new(Self { error, report: done })),
        }
    }

    /// What was done, and whether that was all.
    pub fn into_parts(outcome: Result<D, Box<Self>>) -> (D, Result<(), HoldError>) {
        match outcome {
            Ok(done) => (done, Ok(())),
            Err(broken_off) => (broken_off.report, Err(broken_off.error)),
        }
    }
}

/// One day of one source, where at least one of the windows may have something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceDay {
    day: Date,
    class: Class,
    source: String,
}

impl SourceDay {
    fn of(key: &Key) -> Self {
        Self { day: utc_date(key.start()), class: key.class(), source: key.source().to_owned() }
    }

    fn prefix(&self) -> String {
        Key::day_prefix(self.class, &self.source, self.day)
    }
}

/// Where holds may have something.
struct CandidateDays {
    /// The oldest day first; within a day, each source once.
    days: Vec<SourceDay>,
    /// What cannot be looked at.
    unchecked: Unchecked,
}

impl CandidateDays {
    /// Where something is that was held before, whatever is visited now.
    fn add_manifest_days(&mut self, told: &[Arc<ManifestVersions>]) {
        self.days.extend(told.iter().flat_map(|told| told.days()).cloned());
        self.days.sort_unstable();
        self.days.dedup();
    }
}

/// Where `covers` may have something, on days of `lately` if that is given. `everywhere`: keys may not be true, so every day
/// counts.
///
/// Sources that a cover names are visited directly, whatever the store lists.
async fn candidate_days(
    store: &BucketClient,
    scopes: &[HoldScope],
    is_every_day: bool,
    lately: Option<DayFilter>,
    ceilings: &Ceilings,
    now: Timestamp,
) -> Result<CandidateDays, StoreError> {
    let (mut all, mut unchecked) = (BTreeSet::new(), Unchecked::default());
    for class in Class::ALL {
        let about: Vec<&HoldScope> =
            scopes.iter().filter(|cover| class == Class::Video || cover.calls).collect();
        if about.is_empty() {
            continue;
        }
        let mut named = BTreeSet::new();
        let mut is_every_source = class == Class::Calls;
        for cover in &about {
            match &cover.cameras {
                CameraSelector::Named(cameras) if class == Class::Video => {
                    named.extend(cameras.iter().cloned());
                }
                _ => is_every_source = true,
            }
        }
        let visited = if is_every_source {
            let listed = list_sources(store, class, &named, now).await?;
            // Recordings of cameras are of those that the operator knows.
            unchecked.has_unvisited_calls |= class == Class::Calls && !listed.is_complete();
            listed.visited
        } else {
            named.into_iter().collect()
        };
        let of_source = |source: String| {
            let covers = about.iter().filter(|cover| cover.includes_source(class, &source));
            let mut held: Vec<DayFilter> = covers.map(|cover| days_of_window(&cover.window, now)).collect();
            async move {
                let days = match (lately, is_every_day) {
                    (None, true) => {
                        held.push(expected_days(class, ceilings, now));
                        list_source_days(store, class, &source, &[DayFilter::ALL], &held, now).await?.days
                    }
                    (Some(lately), true) => days_to_list(store, class, &source, &[lately], now).await?,
                    (lately, false) => {
                        let lately = lately.unwrap_or(DayFilter::ALL);
                        let held: Vec<DayFilter> =
                            held.into_iter().filter_map(|days| days.intersect(lately)).collect();
                        days_to_list(store, class, &source, &held, now).await?
                    }
                };
                Ok::<_, StoreError>((source, days))
            }
        };
        let jobs: Vec<_> = visited.into_iter().map(of_source).collect();
        let mut found = stream::iter(jobs).buffer_unordered(SOURCES_AT_ONCE);
        while let Some((source, days)) = found.try_next().await? {
            all.extend(days.into_iter().map(|day| SourceDay { day, class, source: source.clone() }));
        }
    }
    Ok(CandidateDays { days: all.into_iter().collect(), unchecked })
}

/// The days to list of one source. A few are listed at once; of many, those that have anything are found first.
async fn days_to_list(
    store: &BucketClient,
    class: Class,
    source: &str,
    wanted: &[DayFilter],
    now: Timestamp,
) -> Result<BTreeSet<Date>, StoreError> {
    let mut few = BTreeSet::new();
    for days in wanted {
        let (Some(from), Some(to)) = (days.from, days.to) else {
            return Ok(list_source_days(store, class, source, wanted, wanted, now).await?.days);
        };
        few.extend(from.series(1.day()).take_while(|day| *day <= to).take(MAX_DAYS_WITHOUT_LOOKUP + 1));
        if few.len() > MAX_DAYS_WITHOUT_LOOKUP {
            return Ok(list_source_days(store, class, source, wanted, wanted, now).await?.days);
        }
    }
    Ok(few)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::stub::{Stub, error_answer, versions_answer};
    use super::*;
    use jiff::SignedDuration;

    use crate::api;
    use crate::protocol::Window;

    #[test]
    fn transient_errors_are_not_rejections() {
        for (code, status, is_refusal) in [
            ("Timeout", None, false),
            ("SlowDown", Some(503), false),
            ("NoSuchVersion", Some(404), false),
            ("AccessDenied", Some(403), true),
        ] {
            let error =
                HoldError::from(StoreError { operation: "PutObjectLegalHold", code: code.into(), status });
            assert_eq!(error.is_rejection(), is_refusal, "{code}");
        }
    }

    /// However often it is asked, there are more folders under `calls/`; and nothing else in the bucket.
    async fn endless_calls() -> Stub {
        let pages = Arc::new(AtomicU64::new(0));
        Stub::start(move |asked| {
            if asked.method != "GET" || asked.query_parameter("versions").is_none() {
                return error_answer(404, "NoSuchKey");
            }
            let has = |name: &str, value: &str| asked.query_parameter(name).as_deref() == Some(value);
            if !has("prefix", "calls/") || !has("delimiter", "/") {
                return versions_answer(asked, &[]);
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
    async fn hold_on_calls_is_unverified_if_folders_are_skipped() {
        let stub = endless_calls().await;
        let window = Window::new(Timestamp::now() - SignedDuration::from_hours(1), None);
        let covers = [true, false].map(|calls| HoldScope { cameras: CameraSelector::All, calls, window });
        let ceilings = Ceilings { video: api::Days(28), calls: api::Days(7) };
        let (cameras, memory) = Default::default();
        let task = PlaceInput {
            scopes: &covers,
            cameras: &cameras,
            ceilings: &ceilings,
            embargo: None,
            since: None,
            is_every_day: false,
            verified_at: &[],
            manifests: &[],
            closing_scopes: &[],
            cache: &memory,
            trusted_since: None,
            is_verifying: false,
        };
        let placed = place(&stub.target(), &task, Timestamp::now()).await.unwrap();
        let refused: Vec<_> = placed
            .coverage
            .iter()
            .map(|coverage| coverage.errors.as_ref().map(|refused| refused.first_error.clone()))
            .collect();
        assert_eq!(refused, [Some(HoldError::TooManySources), None]);
        // It is refused by nobody, and keeps no manifest from being written.
        assert_eq!(placed.errors, None);
        assert_eq!(placed.coverage[0].errors.as_ref().unwrap().versions, 0);
    }
}
