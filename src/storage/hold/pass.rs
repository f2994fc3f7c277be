//! The course of a pass: the same work on many versions, place by place and page by page. Within a day, several places are
//! under way at a time: while a page of one comes to its end and its next is listed, there is work on the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{HoldError, Place};
use crate::storage::client::Store;
use crate::storage::key::Key;
use crate::storage::listing::{Listed, is_hidden_key};
use crate::storage::objects::Version;
use crate::storage::walk::{Walk, day_of};

/// Versions under way at once.
const AT_ONCE: usize = 48;
/// Places under way at once, each with one page of its versions in memory. They share [`AT_ONCE`].
const PLACES: usize = 3;
/// Versions that fail after one another, each begun since the store last said anything of another: then it is not about these. What
/// fails again counts once.
const IN_A_ROW: usize = AT_ONCE;
/// How often what failed is tried again, each time after a longer pause.
const AGAIN: u32 = 2;
const PAUSE: Duration = Duration::from_millis(250);

/// What a pass does to each recording.
pub(super) trait Work: Sync {
    /// What it came to.
    type Done: Send;
    /// What is known while versions are worked on.
    type Known: Send + Sync;
    /// Before each page, and before what was put off: looks whether it is still to be done.
    fn know(&self) -> impl Future<Output = Result<Self::Known, HoldError>> + Send;
    /// Whether it is about a version, whose key has these delete markers.
    fn concerns(&self, listed: &Listed, markers: &[Version]) -> bool;
    /// To one version, with the delete markers of its key.
    fn one(
        &self,
        known: &Self::Known,
        listed: Listed,
        markers: Vec<Version>,
    ) -> impl Future<Output = Self::Done> + Send;
    /// What kept it from being done: a refusal or a failure.
    fn error<'a>(&self, done: &'a Self::Done) -> Option<&'a HoldError>;
    /// Whether there is more to it, which is put off until all else of the page is done.
    fn is_put_off(&self, _done: &Self::Done) -> bool {
        false
    }
    /// What was put off.
    fn settle(&self, _known: &Self::Known, done: Self::Done) -> impl Future<Output = Self::Done> + Send {
        std::future::ready(done)
    }
}

/// Goes through the places, a day after the other, of the first only from `since` on, and does the work, until its turn is over;
/// notes what it came to, of each source in order.
///
/// One version that is refused, or that fails, stops none of the others, which are no worse off for it: each that is held
/// counts. Nor does a day in which the store hides a key: it is added to `hidden`.
///
/// # Errors
///
/// A pass ends early when a listing fails, or what must be known is not, or many versions fail in a row: then nothing is begun
/// any more. What is under way is finished either way: no request is left behind that nobody waits for.
pub(super) async fn each<W: Work>(
    store: &Store,
    places: &[Place],
    since: Option<Timestamp>,
    until: Instant,
    work: &W,
    hidden: &mut BTreeSet<Place>,
    note: impl FnMut(W::Done) + Send,
) -> Result<(), HoldError> {
    let crew =
        Crew { store, work, until, turns: Arc::new(Semaphore::new(AT_ONCE)), course: Mutex::default() };
    let (note, crew_now) = (&Mutex::new(note), &crew);
    // A day has each source once.
    for day in places.chunk_by(|one, next| one.day == next.day) {
        crew.course().day = day.first().map(|place| place.day);
        let place = |place| async move { crew_now.place(place, since, note).await };
        stream::iter(day).for_each_concurrent(PLACES, place).await;
    }
    let course = crew.course.into_inner().unwrap_or_else(PoisonError::into_inner);
    hidden.extend(course.hidden);
    course.stopped_by.map_or(Ok(()), Err)
}

#[derive(Default)]
struct Course {
    /// What ended the pass early.
    stopped_by: Option<HoldError>,
    /// Versions of which the store said something.
    answered: usize,
    /// Those that failed for the first time.
    failed: usize,
    failed_in_a_row: usize,
    hidden: BTreeSet<Place>,
    /// The day that it is about.
    day: Option<Date>,
}

struct Crew<'a, W> {
    store: &'a Store,
    work: &'a W,
    until: Instant,
    /// A version under way has one. Shared, since what waits for one must not borrow it across threads.
    turns: Arc<Semaphore>,
    course: Mutex<Course>,
}

impl<W: Work> Crew<'_, W> {
    async fn place(&self, place: &Place, since: Option<Timestamp>, note: &Mutex<impl FnMut(W::Done) + Send>) {
        let from = since.filter(|since| day_of(*since) == place.day).map(Key::clock);
        let (mut walk, mut carried) = (Walk::of_day(self.store, place.prefix(), from), Vec::new());
        while !self.has_stopped() {
            let mut found = match walk.next().await {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) if is_hidden_key(&error) => {
                    self.course().hidden.insert(place.clone());
                    return;
                }
                Err(error) => return self.stop(error.into()),
            };
            // A page may end between a marker and what is behind it.
            found.splice(0..0, std::mem::take(&mut carried));
            if let Some(last) = found.last() {
                let all = found.iter();
                let same = all.filter(|listed| listed.is_marker && listed.key == last.key);
                carried = same.cloned().collect();
            }
            let done = self.page(&found).await;
            let mut note = note.lock().unwrap_or_else(PoisonError::into_inner);
            done.into_iter().for_each(&mut *note);
        }
    }

    /// The work on a page, as far as it came.
    async fn page(&self, found: &[Listed]) -> Vec<W::Done> {
        let Some(known) = self.know().await else {
            return Vec::new();
        };
        let all = self.all(found, &known).await;
        let (put_off, mut done): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| self.work.is_put_off(one));
        let mut put_off = put_off.into_iter();
        while put_off.len() > 0 {
            let some: Vec<_> = put_off.by_ref().take(AT_ONCE).collect();
            done.extend(self.settle(some).await);
        }
        done
    }

    /// What is known now; `None`: the pass has ended.
    async fn know(&self) -> Option<W::Known> {
        if self.has_stopped() {
            return None;
        }
        match self.work.know().await {
            Ok(known) => Some(known),
            Err(error) => {
                self.stop(error);
                None
            }
        }
    }

    /// What became of each version of a page, in the page's order. Those that failed are tried again when all others are done:
    /// one answer that is lost must not void a pass over a hundred thousand versions.
    async fn all(&self, found: &[Listed], known: &W::Known) -> Vec<W::Done> {
        let versions = found.iter().filter(|listed| !listed.is_marker);
        let markers = markers(found);
        let of_key = |listed: &Listed| markers.get(listed.key.as_str()).cloned().unwrap_or_default();
        let versions = versions.map(|listed| (listed.clone(), of_key(listed)));
        let concerned = versions.filter(|(listed, markers)| self.work.concerns(listed, markers));
        let mut left: Vec<_> = (0_usize..).zip(concerned).collect();
        let mut all = BTreeMap::new();
        for round in 0..=AGAIN {
            let done = self.once(left.clone(), known, round == 0).await;
            let has_failed = |done: &W::Done| {
                let error = self.work.error(done);
                error.is_some_and(|error| !error.is_refusal())
            };
            let failed: BTreeSet<usize> =
                done.iter().filter(|(_, done)| has_failed(done)).map(|(number, _)| *number).collect();
            all.extend(done);
            left.retain(|(number, _)| failed.contains(number));
            // Where a share of the store hangs, asking again and again would take hours, in which no other hold is placed.
            if left.is_empty() || self.has_stopped() || self.course().failed >= IN_A_ROW {
                break;
            }
            if round < AGAIN {
                tokio::time::sleep(PAUSE * 4_u32.pow(round)).await;
            }
        }
        all.into_values().collect()
    }

    /// Does the work on each of `numbered`; `is_first`: for the first time. Of those that are tried again every one had failed: that
    /// they fail after one another says nothing of the store.
    async fn once(
        &self,
        numbered: Vec<(usize, (Listed, Vec<Version>))>,
        known: &W::Known,
        is_first: bool,
    ) -> Vec<(usize, W::Done)> {
        // Each is made when its turn has come: waiting for an answer it takes far more room than what it is about.
        let at_their_turn = stream::iter(numbered)
            .then(|one| at_its_turn(self.turns.clone(), one))
            .take_while(|_| std::future::ready(!self.has_stopped()));
        let jobs = at_their_turn.map(|(turn, (number, (listed, markers)))| async move {
            let before = self.course().answered;
            let done = self.work.one(known, listed, markers).await;
            if is_first {
                self.judge(&done, before);
            }
            drop(turn);
            (number, done)
        });
        jobs.buffer_unordered(AT_ONCE).collect().await
    }

    /// Does what was put off, of as many as may be under way at once: by what is known when their turn has come.
    async fn settle(&self, some: Vec<W::Done>) -> Vec<W::Done> {
        let _turns = self.turns.acquire_many(u32::try_from(some.len()).unwrap_or(1)).await;
        let Some(known) = self.know().await else {
            return some;
        };
        let jobs: Vec<_> = some
            .into_iter()
            .map(|one| async {
                let before = self.course().answered;
                let done = self.work.settle(&known, one).await;
                self.judge(&done, before);
                done
            })
            .collect();
        stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await
    }

    /// Ends the pass where too many failures follow each other. `before`: of how many the store had said something when this one was
    /// begun. What is slow to fail comes to its end together, long after others that it says something of.
    fn judge(&self, done: &W::Done, before: usize) {
        let mut course = self.course();
        let Some(error) = self.work.error(done).filter(|error| !error.is_refusal()) else {
            course.answered += 1;
            course.failed_in_a_row = 0;
            return;
        };
        course.failed += 1;
        course.failed_in_a_row += usize::from(before == course.answered);
        if course.failed_in_a_row >= IN_A_ROW {
            course.stopped_by.get_or_insert_with(|| error.clone());
        }
    }

    fn stop(&self, error: HoldError) {
        self.course().stopped_by.get_or_insert(error);
    }

    fn has_stopped(&self) -> bool {
        let mut course = self.course();
        if let Some(day) = course.day.filter(|_| Instant::now() >= self.until) {
            course.stopped_by.get_or_insert(HoldError::TurnOver { day });
        }
        course.stopped_by.is_some()
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn at_its_turn<T>(turns: Arc<Semaphore>, one: T) -> (Result<OwnedSemaphorePermit, AcquireError>, T) {
    (turns.acquire_owned().await, one)
}

/// The delete markers of a page, by their key.
fn markers(page: &[Listed]) -> BTreeMap<&str, Vec<Version>> {
    let mut markers: BTreeMap<&str, Vec<Version>> = BTreeMap::new();
    for listed in page.iter().filter(|listed| listed.is_marker) {
        markers.entry(&listed.key).or_default().push(listed.version());
    }
    markers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::recording::Class;
    use crate::storage::error::StoreError;
    use crate::storage::stub::{Stub, versions};

    /// Versions of a page: more than are under way at once.
    const VERSIONS: u8 = 100;

    /// Work of which the versions `fails` get this answer so many times.
    struct Flaky {
        fails: BTreeSet<String>,
        answer: StoreError,
        times: usize,
        tried: Mutex<Vec<String>>,
    }

    impl Work for Flaky {
        type Done = (String, Option<HoldError>);
        type Known = ();

        async fn know(&self) -> Result<(), HoldError> {
            Ok(())
        }

        fn concerns(&self, _: &Listed, _: &[Version]) -> bool {
            true
        }

        async fn one(&self, (): &(), listed: Listed, _: Vec<Version>) -> Self::Done {
            let mut tried = self.tried.lock().unwrap();
            let before = tried.iter().filter(|key| **key == listed.key).count();
            tried.push(listed.key.clone());
            let has_failed = self.fails.contains(&listed.key) && before < self.times;
            (listed.key, has_failed.then(|| self.answer.clone().into()))
        }

        fn error<'a>(&self, done: &'a Self::Done) -> Option<&'a HoldError> {
            done.1.as_ref()
        }
    }

    fn answered(code: &str, status: Option<u16>) -> StoreError {
        StoreError { operation: "PutObjectLegalHold", code: code.into(), status }
    }

    /// So many versions of one day.
    fn of_day(start: &str, count: u8) -> Vec<Listed> {
        let start = start.parse().unwrap();
        let key = |number| Key::new(Class::Video, "hal", start, 60_000, &[number; 32]).unwrap();
        let listed = |number| Listed {
            key: key(number).to_string(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: start,
            size: 1,
            etag: "e".into(),
        };
        (0..count).map(listed).collect()
    }

    fn far_off() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    /// What was done in its turn counts, and nothing is begun after it.
    #[tokio::test]
    async fn a_pass_ends_with_its_turn() {
        let listed = of_day("2026-03-01T12:00:00Z", VERSIONS);
        let places = [Place::of(&listed[0].key.parse().unwrap())];
        let stub = Stub::start(move |asked| versions(asked, &listed)).await;
        for (until, is_done) in [(far_off(), true), (Instant::now(), false)] {
            let work = Flaky {
                fails: BTreeSet::new(),
                answer: answered("Timeout", None),
                times: 0,
                tried: Mutex::default(),
            };
            let (mut noted, mut hidden) = (0, BTreeSet::new());
            let went = each(&stub.store(), &places, None, until, &work, &mut hidden, |_| {
                noted += 1;
            })
            .await;
            let day = places[0].day;
            let expected = if is_done { Ok(()) } else { Err(HoldError::TurnOver { day }) };
            let many = if is_done { usize::from(VERSIONS) } else { 0 };
            assert_eq!((went, noted), (expected, many));
            assert_eq!(work.tried.into_inner().unwrap().len(), many);
        }
    }

    fn keys(listed: &[Listed]) -> Vec<String> {
        listed.iter().map(|listed| listed.key.clone()).collect()
    }

    #[tokio::test]
    async fn a_version_that_failed_is_tried_again_when_the_page_is_done() {
        let listed = of_day("2026-03-01T12:00:00Z", VERSIONS);
        let keys = keys(&listed);
        let place = Place::of(&keys[0].parse().unwrap());
        let stub = Stub::start(move |asked| versions(asked, &listed)).await;
        let (store, many) = (stub.store(), usize::from(VERSIONS));
        let (timeout, denied) = (answered("Timeout", None), answered("AccessDenied", Some(403)));
        for (answer, times, tries, is_done) in [
            (&timeout, 1, 1, true),
            (&timeout, 2, 2, true),
            (&timeout, usize::MAX, 2, false),
            // It is refused: to ask again is no help.
            (&denied, usize::MAX, 0, false),
        ] {
            let work = Flaky {
                fails: [keys[3].clone()].into(),
                answer: answer.clone(),
                times,
                tried: Mutex::default(),
            };
            let (mut noted, mut hidden) = (Vec::new(), BTreeSet::new());
            let places = std::slice::from_ref(&place);
            let went = each(&store, places, None, far_off(), &work, &mut hidden, |done| {
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

    /// Those that fail again count once, and so do not those of which the store says something between.
    #[tokio::test]
    async fn many_versions_that_fail_end_a_pass_only_where_nothing_else_is_answered() {
        let (first, second) =
            (of_day("2026-03-01T12:00:00Z", 40), of_day("2026-03-02T12:00:00Z", 2 * VERSIONS));
        let places = [&first, &second].map(|listed| Place::of(&listed[0].key.parse().unwrap()));
        let (first, second) = (keys(&first), keys(&second));
        let all: Vec<Listed> =
            [of_day("2026-03-01T12:00:00Z", 40), of_day("2026-03-02T12:00:00Z", 2 * VERSIONS)].concat();
        let stub = Stub::start(move |asked| versions(asked, &all)).await;
        let store = stub.store();
        let every_other: Vec<String> = second.iter().step_by(2).cloned().collect();
        let timeout = answered("Timeout", None);
        for (fails, ends) in [
            (first.clone(), false),
            (every_other, false),
            ([first, second.clone()].concat(), true),
            (second, true),
        ] {
            let work = Flaky {
                fails: fails.iter().cloned().collect(),
                answer: timeout.clone(),
                times: usize::MAX,
                tried: Mutex::default(),
            };
            let (mut failed, mut hidden) = (0, BTreeSet::new());
            let went = each(
                &store,
                &places,
                None,
                far_off(),
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
