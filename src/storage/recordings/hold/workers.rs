//! Runs one operation on many versions, by source day and page. Within a day, several sources are in progress: while
//! one lists its next page, the workers continue with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::rules::{Key, ListedVersion, VersionRef, utc_date};
use crate::storage::recordings::day_filter::VersionLister;
use crate::storage::recordings::{HoldError, SourceDay};
use crate::storage::s3::BucketClient;
use crate::storage::s3::listing::is_unlisted_key_error;
use crate::sync::lock;

const VERSIONS_AT_ONCE: usize = 48;
/// Concurrent sources, each with one page in memory. They share [`VERSIONS_AT_ONCE`].
const DAYS_AT_ONCE: usize = 3;
/// Consecutive failures that stop a pass. A failure counts if the store has answered nothing since the request began,
/// and only the first time: then the cause is not the version.
const MAX_CONSECUTIVE_FAILURES: usize = VERSIONS_AT_ONCE;
/// Retries of a failed version, with growing pauses.
const MAX_RETRIES: u32 = 2;
const RETRY_BACKOFF: Duration = Duration::from_millis(250);

/// Operation of a pass on each version.
pub(crate) trait Operation: Sync {
    type Output: Send;
    /// State that is read before each page.
    type Snapshot: Send + Sync;
    /// Reads the state before each page, and again before deferred work. An error stops the pass.
    fn snapshot(&self) -> impl Future<Output = Result<Self::Snapshot, HoldError>> + Send;
    /// Returns whether the operation concerns a version and the delete markers of its key.
    fn applies_to(&self, listed: &ListedVersion, markers: &[VersionRef]) -> bool;
    /// Handles one version and the delete markers of its key.
    fn apply(
        &self,
        known: &Self::Snapshot,
        listed: ListedVersion,
        markers: Vec<VersionRef>,
    ) -> impl Future<Output = Self::Output> + Send;
    /// Returns the rejection or failure of a version.
    fn error<'a>(&self, done: &'a Self::Output) -> Option<&'a HoldError>;
    /// Returns whether a version needs deferred work after the rest of the page.
    fn is_deferred(&self, _done: &Self::Output) -> bool {
        false
    }
    fn apply_deferred(
        &self,
        _known: &Self::Snapshot,
        done: Self::Output,
    ) -> impl Future<Output = Self::Output> + Send {
        std::future::ready(done)
    }
}

/// Applies `work` to the versions of `places`, day by day, until the deadline. On the first day it starts at `since`.
/// Passes each output to `note`, in order within a source.
///
/// A rejected or failed version does not stop the others. Nor does a day with unlisted keys, which is added to
/// `hidden`.
///
/// # Errors
///
/// The pass ends early if a listing or snapshot fails, or many versions fail in a row. Requests in progress are
/// completed, so none remains unobserved.
pub(crate) async fn for_each_version<W: Operation>(
    store: &BucketClient,
    places: &[SourceDay],
    since: Option<Timestamp>,
    deadline: Instant,
    work: &W,
    hidden: &mut BTreeSet<SourceDay>,
    note: impl FnMut(W::Output) + Send,
) -> Result<(), HoldError> {
    let workers = Workers {
        store,
        operation: work,
        deadline,
        permits: Arc::new(Semaphore::new(VERSIONS_AT_ONCE)),
        progress: Mutex::default(),
    };
    let (note, workers_ref) = (&Mutex::new(note), &workers);
    // Each source occurs once a day, so notes of one source stay in order.
    for day in places.chunk_by(|one, next| one.day == next.day) {
        lock(&workers.progress).day = day.first().map(|place| place.day);
        let place = |place| async move { workers_ref.process_day(place, since, note).await };
        stream::iter(day).for_each_concurrent(DAYS_AT_ONCE, place).await;
    }
    let course = workers.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    hidden.extend(course.incomplete_listings);
    course.stopped_by.map_or(Ok(()), Err)
}

#[derive(Default)]
struct Progress {
    stopped_by: Option<HoldError>,
    /// Versions about which the store answered.
    answered: usize,
    /// Versions that failed for the first time.
    failed: usize,
    consecutive_failures: usize,
    incomplete_listings: BTreeSet<SourceDay>,
    /// Present day.
    day: Option<Date>,
}

struct Workers<'a, W> {
    store: &'a BucketClient,
    operation: &'a W,
    deadline: Instant,
    /// One permit for each version in progress. Shared, because a waiting task must not borrow it across threads.
    permits: Arc<Semaphore>,
    progress: Mutex<Progress>,
}

impl<W: Operation> Workers<'_, W> {
    async fn process_day(
        &self,
        place: &SourceDay,
        since: Option<Timestamp>,
        note: &Mutex<impl FnMut(W::Output) + Send>,
    ) {
        let from = since.filter(|since| utc_date(*since) == place.day).map(Key::time_prefix);
        let (mut walk, mut carried) = (VersionLister::for_day(self.store, place.prefix(), from), Vec::new());
        while !self.has_stopped() {
            let mut page = match walk.next_page().await {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) if is_unlisted_key_error(&error) => {
                    lock(&self.progress).incomplete_listings.insert(place.clone());
                    return;
                }
                Err(error) => return self.stop(error.into()),
            };
            // A page may end between a marker and the version behind it.
            page.splice(0..0, std::mem::take(&mut carried));
            if let Some(last) = page.last() {
                let all = page.iter();
                let same = all.filter(|listed| listed.is_marker && listed.key == last.key);
                carried = same.cloned().collect();
            }
            let done = self.process_page(&page).await;
            let mut note = lock(note);
            done.into_iter().for_each(&mut *note);
        }
    }

    /// Handles a page, as far as the pass continues.
    async fn process_page(&self, found: &[ListedVersion]) -> Vec<W::Output> {
        let Some(known) = self.snapshot().await else {
            return Vec::new();
        };
        let all = self.apply_all(found, &known).await;
        let (put_off, mut done): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| self.operation.is_deferred(one));
        let mut put_off = put_off.into_iter();
        while put_off.len() > 0 {
            // Not more at once: a semaphore never grants more permits than it has, and the pass would hang.
            let some: Vec<_> = put_off.by_ref().take(VERSIONS_AT_ONCE).collect();
            done.extend(self.apply_all_deferred(some).await);
        }
        done
    }

    /// Reads the state. `None`: the pass has ended.
    async fn snapshot(&self) -> Option<W::Snapshot> {
        if self.has_stopped() {
            return None;
        }
        match self.operation.snapshot().await {
            Ok(known) => Some(known),
            Err(error) => {
                self.stop(error);
                None
            }
        }
    }

    /// Applies the operation to the versions of a page, in order. Retries failed versions after all others: one lost
    /// answer must not fail a pass over a hundred thousand versions.
    async fn apply_all(&self, found: &[ListedVersion], known: &W::Snapshot) -> Vec<W::Output> {
        let versions = found.iter().filter(|listed| !listed.is_marker);
        let markers = markers_by_key(found);
        let of_key = |listed: &ListedVersion| markers.get(listed.key.as_str()).cloned().unwrap_or_default();
        let versions = versions.map(|listed| (listed.clone(), of_key(listed)));
        let concerned = versions.filter(|(listed, markers)| self.operation.applies_to(listed, markers));
        let mut left: Vec<_> = (0_usize..).zip(concerned).collect();
        let mut all = BTreeMap::new();
        for round in 0..=MAX_RETRIES {
            let done = self.apply_round(left.clone(), known, round == 0).await;
            let has_failed = |done: &W::Output| {
                let error = self.operation.error(done);
                error.is_some_and(|error| !error.is_rejection())
            };
            let failed: BTreeSet<usize> =
                done.iter().filter(|(_, done)| has_failed(done)).map(|(number, _)| *number).collect();
            all.extend(done);
            left.retain(|(number, _)| failed.contains(number));
            // If a part of the store hangs, retries would take hours and delay all other holds.
            if left.is_empty()
                || self.has_stopped()
                || lock(&self.progress).failed >= MAX_CONSECUTIVE_FAILURES
            {
                break;
            }
            if round < MAX_RETRIES {
                tokio::time::sleep(RETRY_BACKOFF * 4_u32.pow(round)).await;
            }
        }
        all.into_values().collect()
    }

    /// Applies the operation to each of `numbered`. Failures of a retry do not count as consecutive: all of these
    /// versions failed before, so the store as a whole may be healthy.
    async fn apply_round(
        &self,
        numbered: Vec<(usize, (ListedVersion, Vec<VersionRef>))>,
        known: &W::Snapshot,
        is_first: bool,
    ) -> Vec<(usize, W::Output)> {
        // Created when a permit is free: a pending request needs far more memory than its version.
        let at_their_turn = stream::iter(numbered)
            .then(|one| with_permit(self.permits.clone(), one))
            .take_while(|_| std::future::ready(!self.has_stopped()));
        let jobs = at_their_turn.map(|(turn, (number, (listed, markers)))| async move {
            let before = lock(&self.progress).answered;
            let done = self.operation.apply(known, listed, markers).await;
            if is_first {
                self.count_result(&done, before);
            }
            drop(turn);
            (number, done)
        });
        jobs.buffer_unordered(VERSIONS_AT_ONCE).collect().await
    }

    /// Runs deferred work on as many versions as there are permits, with a new snapshot.
    async fn apply_all_deferred(&self, some: Vec<W::Output>) -> Vec<W::Output> {
        // Permits before the snapshot: while waiting for them, a hold may be declared.
        let _turns = self.permits.acquire_many(u32::try_from(some.len()).unwrap_or(1)).await;
        let Some(known) = self.snapshot().await else {
            // As they are: nothing is deleted after a failed read of the holds. The next pass finds these versions
            // again.
            return some;
        };
        let jobs: Vec<_> = some
            .into_iter()
            .map(|one| async {
                let before = lock(&self.progress).answered;
                let done = self.operation.apply_deferred(&known, one).await;
                self.count_result(&done, before);
                done
            })
            .collect();
        stream::iter(jobs).buffer_unordered(VERSIONS_AT_ONCE).collect().await
    }

    /// Stops the pass after too many consecutive failures. `before` is the number of answers when the request began.
    /// Slow failures complete together, long after the store has answered other requests.
    fn count_result(&self, done: &W::Output, before: usize) {
        let mut course = lock(&self.progress);
        let Some(error) = self.operation.error(done).filter(|error| !error.is_rejection()) else {
            course.answered += 1;
            course.consecutive_failures = 0;
            return;
        };
        course.failed += 1;
        course.consecutive_failures += usize::from(before == course.answered);
        if course.consecutive_failures >= MAX_CONSECUTIVE_FAILURES {
            course.stopped_by.get_or_insert_with(|| error.clone());
        }
    }

    fn stop(&self, error: HoldError) {
        lock(&self.progress).stopped_by.get_or_insert(error);
    }

    fn has_stopped(&self) -> bool {
        let mut course = lock(&self.progress);
        if let Some(day) = course.day.filter(|_| Instant::now() >= self.deadline) {
            course.stopped_by.get_or_insert(HoldError::PassTimeout { day });
        }
        course.stopped_by.is_some()
    }
}

async fn with_permit<T>(turns: Arc<Semaphore>, one: T) -> (Result<OwnedSemaphorePermit, AcquireError>, T) {
    (turns.acquire_owned().await, one)
}

/// Returns the delete markers of a page by key.
fn markers_by_key(page: &[ListedVersion]) -> BTreeMap<&str, Vec<VersionRef>> {
    let mut markers: BTreeMap<&str, Vec<VersionRef>> = BTreeMap::new();
    for listed in page.iter().filter(|listed| listed.is_marker) {
        markers.entry(&listed.key).or_default().push(listed.version_ref());
    }
    markers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Class;
    use crate::storage::s3::StoreError;
    use crate::storage::s3::stub::{Stub, listed, versions_answer};

    /// Versions of a page, more than are in progress at once.
    const VERSIONS: u8 = 100;

    /// Operation that fails for the versions `fails`, so many times each.
    struct FlakyOperation {
        fails: BTreeSet<String>,
        answer: StoreError,
        times: usize,
        tried: Mutex<Vec<String>>,
    }

    impl Operation for FlakyOperation {
        type Output = (String, Option<HoldError>);
        type Snapshot = ();

        async fn snapshot(&self) -> Result<(), HoldError> {
            Ok(())
        }

        fn applies_to(&self, _: &ListedVersion, _: &[VersionRef]) -> bool {
            true
        }

        async fn apply(&self, (): &(), listed: ListedVersion, _: Vec<VersionRef>) -> Self::Output {
            let mut tried = self.tried.lock().unwrap();
            let before = tried.iter().filter(|key| **key == listed.key).count();
            tried.push(listed.key.clone());
            let has_failed = self.fails.contains(&listed.key) && before < self.times;
            (listed.key, has_failed.then(|| self.answer.clone().into()))
        }

        fn error<'a>(&self, done: &'a Self::Output) -> Option<&'a HoldError> {
            done.1.as_ref()
        }
    }

    fn store_error(code: &str, status: Option<u16>) -> StoreError {
        StoreError { operation: "PutObjectLegalHold", code: code.into(), status }
    }

    /// Versions of one day.
    fn versions_starting_at(start: &str, count: u8) -> Vec<ListedVersion> {
        let start = start.parse().unwrap();
        let key = |number| Key::new(Class::Video, "hal", start, 60_000, &[number; 32]).unwrap();
        (0..count).map(|number| listed(key(number), "1", start)).collect()
    }

    fn distant_deadline() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    /// Results before the deadline count, and nothing starts after it.
    #[tokio::test]
    async fn pass_stops_at_deadline() {
        let listed = versions_starting_at("2026-03-01T12:00:00Z", VERSIONS);
        let places = [SourceDay::of(&listed[0].key.parse().unwrap())];
        let stub = Stub::start(move |asked| versions_answer(asked, &listed)).await;
        for (until, is_done) in [(distant_deadline(), true), (Instant::now(), false)] {
            let work = FlakyOperation {
                fails: BTreeSet::new(),
                answer: store_error("Timeout", None),
                times: 0,
                tried: Mutex::default(),
            };
            let (mut noted, mut hidden) = (0, BTreeSet::new());
            let went = for_each_version(&stub.store(), &places, None, until, &work, &mut hidden, |_| {
                noted += 1;
            })
            .await;
            let day = places[0].day;
            let expected = if is_done { Ok(()) } else { Err(HoldError::PassTimeout { day }) };
            let many = if is_done { usize::from(VERSIONS) } else { 0 };
            assert_eq!((went, noted), (expected, many));
            assert_eq!(work.tried.into_inner().unwrap().len(), many);
        }
    }

    fn keys(listed: &[ListedVersion]) -> Vec<String> {
        listed.iter().map(|listed| listed.key.clone()).collect()
    }

    #[tokio::test]
    async fn failed_versions_are_retried_after_page() {
        let listed = versions_starting_at("2026-03-01T12:00:00Z", VERSIONS);
        let keys = keys(&listed);
        let place = SourceDay::of(&keys[0].parse().unwrap());
        let stub = Stub::start(move |asked| versions_answer(asked, &listed)).await;
        let (store, many) = (stub.store(), usize::from(VERSIONS));
        let (timeout, denied) = (store_error("Timeout", None), store_error("AccessDenied", Some(403)));
        for (answer, times, tries, is_done) in [
            (&timeout, 1, 1, true),
            (&timeout, 2, 2, true),
            (&timeout, usize::MAX, 2, false),
            // Rejected: no retry.
            (&denied, usize::MAX, 0, false),
        ] {
            let work = FlakyOperation {
                fails: [keys[3].clone()].into(),
                answer: answer.clone(),
                times,
                tried: Mutex::default(),
            };
            let (mut noted, mut hidden) = (Vec::new(), BTreeSet::new());
            let places = std::slice::from_ref(&place);
            let went =
                for_each_version(&store, places, None, distant_deadline(), &work, &mut hidden, |done| {
                    noted.push(done);
                });
            let said = format!("{answer}, {times} times");
            assert_eq!(went.await, Ok(()), "{said}");
            let (all, failed): (Vec<String>, Vec<Option<HoldError>>) = noted.into_iter().unzip();
            assert_eq!(all, keys, "each is noted once, in the page's order: {said}");
            assert_eq!(failed.iter().flatten().count(), usize::from(!is_done), "{said}");
            let tried = work.tried.into_inner().unwrap();
            let again = tried.get(many..).unwrap();
            assert_eq!(again, vec![keys[3].clone(); tries], "after all others: {said}");
        }
    }

    /// Repeated failures count once, and answers in between reset the count.
    #[tokio::test]
    async fn only_consecutive_failures_stop_pass() {
        let (first, second) = (
            versions_starting_at("2026-03-01T12:00:00Z", 40),
            versions_starting_at("2026-03-02T12:00:00Z", 2 * VERSIONS),
        );
        let places = [&first, &second].map(|listed| SourceDay::of(&listed[0].key.parse().unwrap()));
        let (first, second) = (keys(&first), keys(&second));
        let all: Vec<ListedVersion> = [
            versions_starting_at("2026-03-01T12:00:00Z", 40),
            versions_starting_at("2026-03-02T12:00:00Z", 2 * VERSIONS),
        ]
        .concat();
        let stub = Stub::start(move |asked| versions_answer(asked, &all)).await;
        let store = stub.store();
        let every_other: Vec<String> = second.iter().step_by(2).cloned().collect();
        let timeout = store_error("Timeout", None);
        for (fails, ends) in [
            (first.clone(), false),
            (every_other, false),
            ([first, second.clone()].concat(), true),
            (second, true),
        ] {
            let work = FlakyOperation {
                fails: fails.iter().cloned().collect(),
                answer: timeout.clone(),
                times: usize::MAX,
                tried: Mutex::default(),
            };
            let (mut failed, mut hidden) = (0, BTreeSet::new());
            let went = for_each_version(
                &store,
                &places,
                None,
                distant_deadline(),
                &work,
                &mut hidden,
                |(_, error): (String, Option<HoldError>)| failed += usize::from(error.is_some()),
            );
            let expected = if ends { Err(timeout.clone().into()) } else { Ok(()) };
            assert_eq!(went.await, expected, "{} fail", fails.len());
            assert!(ends || failed == fails.len(), "{failed} of {}", fails.len());
        }
    }
}
