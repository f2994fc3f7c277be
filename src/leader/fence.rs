//! The right to write: only the leader has it, and only while its lease certainly lasts.
//!
//! A Lease alone does not ensure that. A process may be stopped (SIGSTOP, a paused virtual machine, a node out of
//! memory) and continue a minute later. Then it still believes that it leads: its timers have not fired yet, and its
//! tasks are in the middle of a write. So the right to write is not a flag, which somebody would have had to clear in
//! time. It is an instant on a clock that ran on meanwhile, and every write compares it with the clock:
//! [`Fence::write_filter`] for the API server, [`Fence::guard`] at every step of a storage call.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use http::{Method, Request};
use tokio_util::sync::CancellationToken;
use tower::filter::FilterLayer;

use super::clock::{BootClock, BootInstant, Clock};

use crate::sync::lock;

/// This process does not lead, or cannot be sure that it still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead, so it writes nothing")]
pub struct NotLeader;

/// The right to write, until an instant that each renewal moves. Clones share one state.
#[derive(Clone)]
pub struct Fence {
    clock: Arc<dyn Clock>,
    until: Arc<Mutex<Option<BootInstant>>>,
    leadership_lost: CancellationToken,
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Fence {
    /// Makes a fence that is closed until [`Self::extend`].
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, until: Arc::default(), leadership_lost: CancellationToken::new() }
    }

    /// Makes a fence that stays open, for a process without rivals, such as a test.
    pub fn always_open() -> Self {
        let fence = Self::new(Arc::new(BootClock));
        fence.extend(BootInstant::since_boot(Duration::MAX));
        fence
    }

    /// Opens the fence until `until`: the start of the last answered renewal plus the renew deadline. A closed
    /// fence stays closed.
    pub fn extend(&self, until: BootInstant) {
        *lock(&self.until) = Some(until);
    }

    /// Closes the fence permanently: no process leads twice.
    pub fn close(&self) {
        self.leadership_lost.cancel();
    }

    /// Returns whether this process may write now.
    pub fn is_open(&self) -> bool {
        let until = *lock(&self.until);
        !self.leadership_lost.is_cancelled() && until.is_some_and(|until| self.clock.now() < until)
    }

    /// Returns [`NotLeader`] unless this process may write now.
    pub fn check(&self) -> Result<(), NotLeader> {
        if self.is_open() { Ok(()) } else { Err(NotLeader) }
    }

    /// Returns a token that [`Self::close`] cancels.
    pub fn leadership_lost(&self) -> &CancellationToken {
        &self.leadership_lost
    }

    /// Runs `work` while the fence is open. Every poll checks the fence first, and drops the work once it is closed. So
    /// work that was interrupted by a stop of the process takes no further step.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, NotLeader> {
        let mut work = Box::pin(work);
        let guarded = poll_fn(|context| match self.check() {
            Ok(()) => work.as_mut().poll(context).map(Ok),
            Err(refused) => Poll::Ready(Err(refused)),
        });
        tokio::select! {
            biased;
            () = self.leadership_lost.cancelled() => Err(NotLeader),
            output = guarded => output,
        }
    }

    /// Returns a layer that passes only reads to the API server while the fence is closed.
    pub fn write_filter<B>(
        self,
    ) -> FilterLayer<impl FnMut(Request<B>) -> Result<Request<B>, NotLeader> + Clone> {
        FilterLayer::new(move |request: Request<B>| {
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
            if is_read { Ok(request) } else { self.check().map(|()| request) }
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::{BoxError, Layer, Service};

    use super::*;
    use crate::leader::clock::mock::MockClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn fence() -> (Arc<MockClock>, Fence) {
        let clock = Arc::new(MockClock::at(100));
        (clock.clone(), Fence::new(clock))
    }

    async fn send(fence: &Fence, method: Method) -> Result<(), BoxError> {
        let inner = tower::service_fn(|_: Request<()>| async { Ok::<_, BoxError>(()) });
        let request = Request::builder().method(method).body(())?;
        fence.clone().write_filter().layer(inner).call(request).await
    }

    #[tokio::test]
    async fn non_leader_may_only_read() {
        let (clock, fence) = fence();
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for write in writes.clone() {
            assert!(send(&fence, write).await.unwrap_err().is::<NotLeader>());
        }
        assert!(send(&fence, Method::GET).await.is_ok());
        fence.extend(clock.now().plus(10 * SECOND));
        for write in writes {
            assert!(send(&fence, write).await.is_ok());
        }
    }

    #[test]
    fn fence_closes_at_deadline() {
        let (clock, fence) = fence();
        fence.extend(clock.now().plus(10 * SECOND));
        clock.advance(9 * SECOND);
        assert!(fence.is_open());
        clock.advance(SECOND);
        assert!(!fence.is_open(), "the deadline itself is too late");
    }

    #[tokio::test]
    async fn closed_fence_ignores_late_renewal() {
        let (clock, fence) = fence();
        fence.extend(clock.now().plus(10 * SECOND));
        fence.clone().close();
        fence.extend(clock.now().plus(10 * SECOND));
        assert_eq!(fence.check(), Err(NotLeader));
        assert_eq!(fence.guard(async {}).await, Err(NotLeader));
    }

    #[tokio::test]
    async fn guarded_work_stops_after_process_freeze() {
        let (clock, fence) = fence();
        fence.extend(clock.now().plus(10 * SECOND));
        let steps = Mutex::new(Vec::new());
        let work = async {
            steps.lock().unwrap().push("read");
            clock.advance(60 * SECOND);
            tokio::task::yield_now().await;
            steps.lock().unwrap().push("delete");
        };
        assert_eq!(fence.guard(work).await, Err(NotLeader));
        assert_eq!(*steps.lock().unwrap(), ["read"]);
    }
}
