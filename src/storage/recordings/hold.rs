//! Places and releases legal holds.
//!
//! A version that an open hold covers gets a legal hold, then its tag. A version that no hold covers any more gets its
//! default tag, then loses its legal hold. If it is past its ceiling, it is deleted.
//!
//! Both are passes over days and sources, oldest day first. A pass reads the protection of each version and writes only
//! differences. So it can be interrupted anywhere, and a pass without writes proves that all versions are compliant.

pub mod coverage;
pub mod manifest;
pub mod manifest_format;
#[cfg(test)]
mod manifest_tests;
pub mod memory_budget;
#[cfg(test)]
mod modified_time_tests;
pub(crate) mod pass_deadline;
mod place;
pub(crate) mod place_input;
pub mod protection_cache;
mod release;
pub(crate) mod unchecked;
pub(crate) mod verified_protections;
pub(crate) mod workers;

pub use self::place::{PlaceReport, place};
pub use self::place_input::PlaceInput;
pub use self::release::{Release, ReleaseReport};
pub use self::unchecked::Unchecked;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use self::protection_cache::ManifestVersions;
use super::day_filter::list_source_days;
use super::sources::list_sources;
use crate::api::Ceilings;
use crate::rules::hold::expiry::{days_of_window, expected_days};
use crate::rules::{CameraSelector, Class, DayFilter, HoldScope};
use crate::storage::recordings::SourceDay;
use crate::storage::s3::{BucketClient, StoreError};

/// Days of one source that are listed directly, without first looking for days with objects.
const MAX_DAYS_WITHOUT_LOOKUP: usize = 7;
/// Concurrent sources in the search for days.
const SOURCES_AT_ONCE: usize = 8;

struct CandidateDays {
    /// Oldest day first; each source once a day.
    days: Vec<SourceDay>,
    /// Parts that cannot be checked.
    unchecked: Unchecked,
}

impl CandidateDays {
    /// Adds the days of versions in manifests: a held version stays on its day, even if no scope covers it now.
    fn add_manifest_days(&mut self, told: &[Arc<ManifestVersions>]) {
        self.days.extend(told.iter().flat_map(|told| told.days()).cloned());
        self.days.sort_unstable();
        self.days.dedup();
    }
}

/// Returns the days on which `scopes` may have versions, within `lately` if given. `is_every_day`: keys may be
/// implausible, so every day counts.
///
/// Sources that a scope names are visited even if the store does not list them.
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
            // Cameras are known to the operator, so unlisted video sources are visited too.
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

/// Returns the days of one source to list. A few days are listed directly. Of many, only those with objects.
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
        // One day beyond the limit suffices to exceed it. The window may have centuries.
        few.extend(from.series(1.day()).take_while(|day| *day <= to).take(MAX_DAYS_WITHOUT_LOOKUP + 1));
        if few.len() > MAX_DAYS_WITHOUT_LOOKUP {
            return Ok(list_source_days(store, class, source, wanted, wanted, now).await?.days);
        }
    }
    Ok(few)
}

#[cfg(test)]
mod tests {
    use crate::rules::{PROTOCOL_CEILINGS, RetentionTerms, Window};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::storage::recordings::HoldError;
    use crate::storage::s3::stub::{Stub, error_answer, versions_answer};
    use jiff::SignedDuration;

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

    /// A bucket that lists a new folder under `calls/` on each page and has nothing else.
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
        let terms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);
        let (cameras, memory) = Default::default();
        let task = PlaceInput {
            scopes: &covers,
            cameras: &cameras,
            terms: &terms,
            since: None,
            is_every_day: false,
            verified_at: &[],
            manifests: &[],
            closing_scopes: &[],
            cache: &memory,
            trusted_since: None,
            is_verifying: false,
        };
        let placed = place(&stub.connection(), &task, Timestamp::now()).await.unwrap();
        let refused: Vec<_> = placed
            .coverage
            .iter()
            .map(|coverage| coverage.errors.as_ref().map(|refused| refused.first_error.clone()))
            .collect();
        assert_eq!(refused, [Some(HoldError::TooManySources), None]);
        // No version was rejected, so manifests can still be written.
        assert_eq!(placed.errors, None);
        assert_eq!(placed.coverage[0].errors.as_ref().unwrap().versions, 0);
    }
}
