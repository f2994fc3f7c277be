//! The fence: nothing is written unless this process is certain to be the leader *now*.
//!
//! A Lease alone does not do it. A process that is stopped (SIGSTOP, a paused virtual machine, a node out of
//! memory) and goes on a minute later still believes what it believed before: its timers have not fired yet,
//! its tasks are in the middle of a write. So every write asks the fence first, and the fence looks at the
//! clock, not at a flag that somebody would have had to change in time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use super::clock::{Clock, Moment};

/// Why a write was not made: this process is not, or may no longer be, the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not written: this process is not certain to be the leader")]
pub struct Fenced;

/// Open while this process is certain to be the leader. Copies are one and the same fence.
#[derive(Clone)]
pub struct Fence {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never led yet.
    NotYet,
    /// Leads until then, unless renewed.
    Until(Moment),
    /// Leads no more, and will not again: the process ends.
    Closed,
}

impl Fence {
    /// A fence that lets nothing through until [`Fence::extend`].
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::new(Mutex::new(State::NotYet)) }
    }

    /// The lease was renewed: this process leads until `until`. Without effect once closed.
    pub fn extend(&self, until: Moment) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != State::Closed {
            *state = State::Until(until);
        }
    }

    /// Lets nothing through any more, for good: leadership is not won twice by one process.
    pub fn close(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Closed;
    }

    /// Whether something may be written now.
    pub fn check(&self) -> Result<(), Fenced> {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            State::Until(until) if self.clock.now() < until => Ok(()),
            _ => Err(Fenced),
        }
    }

    /// Runs `work` as long as the fence is open: it is asked before every step, so work that was in the
    /// middle of something when the process was stopped takes no further step. For storage calls, whose
    /// requests are made somewhere deep inside `work`.
    pub fn guard<F: Future>(&self, work: F) -> Guarded<F> {
        Guarded { fence: self.clone(), work: Box::pin(work) }
    }
}

/// See [`Fence::guard`].
#[must_use = "nothing happens until it is awaited"]
pub struct Guarded<F> {
    fence: Fence,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Fenced>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(fenced) = self.fence.check() {
            return Poll::Ready(Err(fenced));
        }
        self.work.as_mut().poll(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::clock::mock::MockClock;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fence() -> (Arc<MockClock>, Fence) {
        let clock = Arc::new(MockClock::at(100));
        (clock.clone(), Fence::new(clock))
    }

    #[test]
    fn is_shut_before_the_first_renewal_and_after_the_deadline() {
        let (clock, fence) = fence();
        assert_eq!(fence.check(), Err(Fenced));
        fence.extend(clock.now().plus(10 * SECOND));
        assert_eq!(fence.check(), Ok(()));
        clock.advance(9 * SECOND);
        assert_eq!(fence.check(), Ok(()));
        clock.advance(SECOND);
        assert_eq!(fence.check(), Err(Fenced), "at the deadline it is over");
    }

    #[test]
    fn once_closed_no_late_renewal_opens_it() {
        let (clock, fence) = fence();
        fence.extend(clock.now().plus(10 * SECOND));
        fence.clone().close();
        fence.extend(clock.now().plus(10 * SECOND));
        assert_eq!(fence.check(), Err(Fenced));
    }

    #[tokio::test]
    async fn work_in_progress_takes_no_step_after_a_freeze() {
        let (clock, fence) = fence();
        fence.extend(clock.now().plus(10 * SECOND));
        let steps = Arc::new(Mutex::new(Vec::new()));
        let work = {
            let (clock, steps) = (clock.clone(), steps.clone());
            async move {
                steps.lock().unwrap().push("read");
                clock.advance(60 * SECOND);
                tokio::task::yield_now().await;
                steps.lock().unwrap().push("delete");
            }
        };
        assert_eq!(fence.guard(work).await, Err(Fenced));
        assert_eq!(*steps.lock().unwrap(), ["read"]);
    }

    #[tokio::test]
    async fn work_within_the_deadline_is_left_alone() {
        let (clock, fence) = fence();
        fence.extend(clock.now().plus(10 * SECOND));
        assert_eq!(fence.guard(async { 7 }).await, Ok(7));
    }
}
