//! The course of a pass: the same work on many versions, place by place and page by page. Within a day, several places are
//! under way at a time: while a page of one comes to its end and its next is listed, there is work on the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{HoldError, Place};
use crate::storage::client::Store;
use crate::storage::listing::{After, Listed, PAGE, page};
use crate::storage::objects::Version;

/// Versions under way at once.
pub(super) const AT_ONCE: usize = 48;
/// Places under way at once, each with one page of its versions in memory. They share [`AT_ONCE`].
const PLACES: usize = 3;

/// What was done, and how it ended.
pub(super) type Came<D> = (Vec<D>, Result<(), HoldError>);

/// What a pass does to each recording.
pub(super) trait Work: Sync {
    /// What it came to.
    type Done: Send;
    /// What is known while a page is worked on.
    type Known: Send + Sync;
    /// Before each page: looks whether it is still to be done.
    fn know(&self) -> impl Future<Output = Result<Self::Known, HoldError>> + Send;
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
    /// After each page that went well: what was put off until all else was done. It takes turns too, a version each.
    fn settle(
        &self,
        done: Vec<Self::Done>,
        _turns: &Semaphore,
    ) -> impl Future<Output = Came<Self::Done>> + Send {
        std::future::ready((done, Ok(())))
    }
}

/// Goes through the places, a day after the other, and does the work; notes what it came to, of each source in order.
///
/// One version that the store refuses stops none of the others, which are no worse off for it: each that is held counts.
/// Any other failure ends the pass: nothing is begun any more. What is under way goes on to its end either way: no request
/// is left behind that nobody waits for. The first failure is told.
pub(super) async fn each<W: Work>(
    store: &Store,
    places: &[Place],
    work: &W,
    note: impl FnMut(W::Done) + Send,
) -> Result<(), HoldError> {
    let crew = &Crew {
        store,
        work,
        turns: Arc::new(Semaphore::new(AT_ONCE)),
        has_stopped: AtomicBool::new(false),
    };
    let log = &Mutex::new(Log {
        note,
        outcome: Ok(()),
    });
    // One of a day has each source once, and so have all places if they are without days.
    for day in places.chunk_by(|one, next| one.day == next.day) {
        let prefixes: Vec<_> = day.iter().map(Place::prefix).collect();
        let place = |prefix| async move { crew.place(prefix, log).await };
        stream::iter(prefixes).for_each_concurrent(PLACES, place).await;
    }
    log.lock().unwrap_or_else(PoisonError::into_inner).outcome.clone()
}

/// What a pass has come to.
struct Log<N> {
    note: N,
    outcome: Result<(), HoldError>,
}

impl<N> Log<N> {
    fn add<D>(&mut self, (done, outcome): Came<D>)
    where
        N: FnMut(D),
    {
        done.into_iter().for_each(&mut self.note);
        if self.outcome.is_ok() {
            self.outcome = outcome;
        }
    }
}

struct Crew<'a, W> {
    store: &'a Store,
    work: &'a W,
    /// A version under way has one. Shared, since what waits for one must not borrow it across threads.
    turns: Arc<Semaphore>,
    has_stopped: AtomicBool,
}

impl<W: Work> Crew<'_, W> {
    async fn place(&self, prefix: String, log: &Mutex<Log<impl FnMut(W::Done) + Send>>) {
        let (mut after, mut carried) = (None::<After>, Vec::new());
        while !self.has_stopped() {
            let listed = page(self.store, &prefix, after.as_ref(), PAGE).await;
            let mut found = match listed.map_err(|error| self.stop(error.into())) {
                Ok(found) => found,
                Err(error) => return add(log, (Vec::new(), Err(error))),
            };
            // A page may end between a marker and what is behind it.
            found.versions.splice(0..0, std::mem::take(&mut carried));
            if let Some(last) = found.versions.last() {
                let all = found.versions.iter();
                let same = all.filter(|listed| listed.is_marker && listed.key == last.key);
                carried = same.cloned().collect();
            }
            add(log, self.page(&found.versions).await);
            match found.next {
                Some(next) => after = Some(next),
                None => return,
            }
        }
    }

    /// The work on a page, as far as it came.
    async fn page(&self, found: &[Listed]) -> Came<W::Done> {
        if self.has_stopped() {
            return (Vec::new(), Ok(()));
        }
        let known = match self.work.know().await {
            Ok(known) => known,
            Err(error) => return (Vec::new(), Err(self.stop(error))),
        };
        let (done, outcome) = in_order(self.all(found, &known).await);
        if outcome.is_err() || self.has_stopped() {
            return (done, outcome);
        }
        let (done, outcome) = self.work.settle(done, &self.turns).await;
        (done, outcome.map_err(|error| self.stop(error)))
    }

    /// What became of each version, by its number on the page.
    async fn all(&self, found: &[Listed], known: &W::Known) -> Vec<(usize, Result<W::Done, HoldError>)> {
        let versions = found.iter().filter(|listed| !listed.is_marker);
        let versions = versions.map(|listed| (listed.clone(), markers_of(found, listed)));
        let concerned = versions.filter(|(_, markers)| self.work.concerns(markers));
        let numbered: Vec<_> = (0_usize..).zip(concerned).collect();
        // Each is made when its turn has come: waiting for an answer it takes far more room than what it is about.
        let at_their_turn = stream::iter(numbered)
            .then(|one| at_its_turn(self.turns.clone(), one))
            .take_while(|_| std::future::ready(!self.has_stopped()));
        let jobs = at_their_turn.map(|(turn, (number, (listed, markers)))| async move {
            let answer = self.work.one(known, listed, markers).await;
            let answer = answer.map_err(|error| {
                if error.is_of_one() {
                    error
                } else {
                    self.stop(error)
                }
            });
            drop(turn);
            (number, answer)
        });
        jobs.buffer_unordered(AT_ONCE).collect().await
    }

    fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    fn stop(&self, error: HoldError) -> HoldError {
        self.has_stopped.store(true, Ordering::Relaxed);
        error
    }
}

fn add<D>(log: &Mutex<Log<impl FnMut(D) + Send>>, came: Came<D>) {
    log.lock().unwrap_or_else(PoisonError::into_inner).add(came);
}

async fn at_its_turn<T>(turns: Arc<Semaphore>, one: T) -> (Result<OwnedSemaphorePermit, AcquireError>, T) {
    (turns.acquire_owned().await, one)
}

/// What became of the versions of a page, in the page's order; the first failure.
fn in_order<D>(mut answers: Vec<(usize, Result<D, HoldError>)>) -> Came<D> {
    answers.sort_by_key(|(number, _)| *number);
    let (mut done, mut outcome) = (Vec::with_capacity(answers.len()), Ok(()));
    for (_, answer) in answers {
        match answer {
            Ok(one) => done.push(one),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    (done, outcome)
}

/// The delete markers of a version's key on the same page.
fn markers_of(page: &[Listed], of: &Listed) -> Vec<Version> {
    let from = page.partition_point(|listed| listed.key < of.key);
    let same = page.iter().skip(from).take_while(|listed| listed.key == of.key);
    same.filter(|listed| listed.is_marker)
        .map(Listed::version)
        .collect()
}
