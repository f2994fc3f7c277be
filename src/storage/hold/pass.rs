//! A pass: the same work on many versions at once, place by place and page by page. Several places are under way at a
//! time: while a page of one comes to its end and the next is listed, the others keep the store busy.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{HoldError, Place};
use crate::storage::client::Store;
use crate::storage::listing::{After, Listed, PAGE, page};
use crate::storage::objects::Version;

/// Versions under way at once.
pub(super) const AT_ONCE: usize = 48;
/// Places under way at once, which share [`AT_ONCE`]. Each has a page in memory.
const PLACES: usize = 3;

/// What a pass does to each recording.
pub(super) trait Work: Sync {
    /// What it came to.
    type Done: Send;
    /// What is known while a page is worked on.
    type Known: Send + Sync;
    /// Before each page: looks whether it is still to be done.
    fn look(&self) -> impl Future<Output = Result<Self::Known, HoldError>> + Send;
    /// Whether it is about a version whose key has these delete markers.
    fn concerns(&self, _markers: &[Version]) -> bool {
        true
    }
    /// To one version, with the delete markers of its key.
    fn one(
        &self,
        known: &Self::Known,
        listed: Listed,
        markers: Vec<Version>,
    ) -> impl Future<Output = Result<Self::Done, HoldError>> + Send;
    /// After each page that went well: what was put off until all else was done.
    fn settle(&self, _known: Self::Known) -> impl Future<Output = Result<Vec<Self::Done>, HoldError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }
}

/// Goes through the places, a day after the other, and does the work; notes what it came to, of each source in order: a
/// day has each source once. After a failure no page is begun any more, and those under way go on to their end: no request
/// is left behind that nobody waits for.
pub(super) async fn each<W: Work>(
    store: &Store,
    places: &[Place],
    work: &W,
    note: impl FnMut(W::Done) + Send,
) -> Result<(), HoldError> {
    let pass = &Pass {
        store,
        work,
        turns: Arc::new(Semaphore::new(AT_ONCE)),
    };
    let course = Mutex::new(Course {
        note,
        outcome: Ok(()),
    });
    for day in places.chunk_by(|one, next| one.day == next.day) {
        let (day, course): (Vec<_>, _) = (day.iter().map(Place::prefix).collect(), &course);
        let place = |prefix| async move { pass.place(prefix, course).await };
        stream::iter(day).for_each_concurrent(PLACES, place).await;
    }
    let course = course.into_inner().unwrap_or_else(PoisonError::into_inner);
    course.outcome
}

/// How far a pass has come.
struct Course<N> {
    note: N,
    outcome: Result<(), HoldError>,
}

impl<N> Course<N> {
    fn note<D>(&mut self, (done, outcome): Came<D>)
    where
        N: FnMut(D),
    {
        done.into_iter().for_each(&mut self.note);
        if self.outcome.is_ok() {
            self.outcome = outcome;
        }
    }
}

/// What was done, and how it ended.
type Came<D> = (Vec<D>, Result<(), HoldError>);

struct Pass<'a, W> {
    store: &'a Store,
    work: &'a W,
    /// A version under way has one.
    turns: Arc<Semaphore>,
}

impl<W: Work> Pass<'_, W> {
    async fn place(&self, prefix: String, course: &Mutex<Course<impl FnMut(W::Done) + Send>>) {
        let course = || course.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut after, mut carried) = (None::<After>, Vec::new());
        while course().outcome.is_ok() {
            let mut found = match page(self.store, &prefix, after.as_ref(), PAGE).await {
                Ok(found) => found,
                Err(error) => return course().note((Vec::new(), Err(error.into()))),
            };
            // A page may end between a marker and what is behind it.
            found.versions.splice(0..0, std::mem::take(&mut carried));
            if let Some(last) = found.versions.last() {
                let all = found.versions.iter();
                let same = all.filter(|listed| listed.is_marker && listed.key == last.key);
                carried = same.cloned().collect();
            }
            let came_to = self.page(found.versions).await;
            course().note(came_to);
            match found.next {
                Some(next) => after = Some(next),
                None => return,
            }
        }
    }

    /// The work on a page, as far as it came. One that fails does not stop the others, which are no worse off for it: each
    /// version that is held counts.
    async fn page(&self, found: Vec<Listed>) -> Came<W::Done> {
        let known = match self.work.look().await {
            Ok(known) => known,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let all = found.iter().filter(|listed| !listed.is_marker);
        let all = all.map(|listed| (listed.clone(), markers_of(&found, listed)));
        let concerned = all.filter(|(_, markers)| self.work.concerns(markers));
        let concerned: Vec<_> = (0_usize..).zip(concerned).collect();
        // Each is made when its turn has come: waiting for an answer it takes far more room than what it is about.
        let concerned = stream::iter(concerned).then(|one| at_its_turn(self.turns.clone(), one));
        let known_now = &known;
        let jobs = concerned.map(|(turn, (number, (listed, markers)))| async move {
            let answer = self.work.one(known_now, listed, markers).await;
            drop(turn);
            (number, answer)
        });
        let mut answers: Vec<_> = jobs.buffer_unordered(AT_ONCE).collect().await;
        answers.sort_by_key(|(number, _)| *number);
        let (mut done, mut outcome) = (Vec::with_capacity(answers.len()), Ok(()));
        for (_, answer) in answers {
            match answer {
                Ok(one) => done.push(one),
                Err(error) => outcome = Err(error),
            }
        }
        if outcome.is_ok() {
            match self.work.settle(known).await {
                Ok(more) => done.extend(more),
                Err(error) => outcome = Err(error),
            }
        }
        (done, outcome)
    }
}

async fn at_its_turn<T>(turns: Arc<Semaphore>, one: T) -> (Result<OwnedSemaphorePermit, AcquireError>, T) {
    (turns.acquire_owned().await, one)
}

/// The delete markers of a version's key on the same page.
fn markers_of(page: &[Listed], of: &Listed) -> Vec<Version> {
    let from = page.partition_point(|listed| listed.key < of.key);
    let same = page.iter().skip(from).take_while(|listed| listed.key == of.key);
    same.filter(|listed| listed.is_marker)
        .map(Listed::version)
        .collect()
}
