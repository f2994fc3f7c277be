//! Who may write: only the leader, and only while its lease surely holds.
//!
//! A Lease alone does not do it. A process that is stopped (SIGSTOP, a paused virtual machine, a node out of
//! memory) and goes on a minute later still believes what it believed before: its timers have not fired yet,
//! its tasks are in the middle of a write. So the right to write is not a flag that somebody would have had
//! to change in time but an instant on a clock that runs on meanwhile, and it is looked at again at every
//! write: by [`FenceLayer`] for the API server, by [`Fence::guard`] at every step of a storage call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tower::{BoxError, Layer, Service};

use super::clock::{BootClock, BootInstant, Clock};

/// This process does not lead, or cannot be sure that it still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead, so it writes nothing")]
pub struct NotLeader;

/// The right to write, until an instant that the lease moves. Copies are one and the same fence.
#[derive(Clone)]
pub struct Fence {
    clock: Arc<dyn Clock>,
    until: Arc<Mutex<Option<BootInstant>>>,
    leadership_lost: CancellationToken,
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").field("holds", &self.is_open()).finish_non_exhaustive()
    }
}

impl Fence {
    /// A fence that lets nothing through until [`Self::extend`].
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, until: Arc::default(), leadership_lost: CancellationToken::new() }
    }

    /// A fence that stays open: for a process that is alone, such as a test.
    pub fn always_open() -> Self {
        let fence = Self::new(Arc::new(BootClock));
        fence.extend(BootInstant::since_boot(Duration::MAX));
        fence
    }

    /// Lets writes through until `until`: the start of the last renewal that was answered plus the renew
    /// deadline. Without effect once closed.
    pub fn extend(&self, until: BootInstant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Lets nothing through any more, for good: one process does not win leadership twice.
    pub fn close(&self) {
        self.leadership_lost.cancel();
    }

    /// Whether this process may write now.
    pub fn is_open(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        !self.leadership_lost.is_cancelled() && until.is_some_and(|until| self.clock.now() < until)
    }

    /// [`NotLeader`] unless this process may write now.
    pub fn check(&self) -> Result<(), NotLeader> {
        if self.is_open() { Ok(()) } else { Err(NotLeader) }
    }

    /// Is cancelled when the fence is closed.
    pub fn leadership_lost(&self) -> &CancellationToken {
        &self.leadership_lost
    }

    /// Runs `work` while the fence holds: it is looked at before every step, and the work is dropped when it
    /// no longer does. So work that was in the middle of something when the process was stopped takes no
    /// further step.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, NotLeader> {
        let guarded = Guarded { fence: self, work: Box::pin(work) };
        tokio::select! {
            biased;
            () = self.leadership_lost.cancelled() => Err(NotLeader),
            output = guarded => output,
        }
    }
}

/// See [`Fence::guard`].
struct Guarded<'a, F> {
    fence: &'a Fence,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Result<F::Output, NotLeader>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(refused) = self.fence.check() {
            return Poll::Ready(Err(refused));
        }
        self.work.as_mut().poll(context).map(Ok)
    }
}

/// Lets only reads through to the API server while the fence does not hold.
#[derive(Clone, Debug)]
pub struct FenceLayer(pub Fence);

impl<S> Layer<S> for FenceLayer {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Fenced { inner, fence: self.0.clone() }
    }
}

/// See [`FenceLayer`].
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    inner: S,
    fence: Fence,
}

impl<S, B> Service<http::Request<B>> for Fenced<S>
where
    S: Service<http::Request<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let reads =
            matches!(*request.method(), http::Method::GET | http::Method::HEAD | http::Method::OPTIONS);
        if !reads && let Err(refused) = self.fence.check() {
            return Box::pin(async move { Err(refused.into()) });
        }
        let response = self.inner.call(request);
        Box::pin(async move { response.await.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::clock::mock::MockClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn fence() -> (Arc<MockClock>, Fence) {
        let clock = Arc::new(MockClock::at(100));
        (clock.clone(), Fence::new(clock))
    }

    async fn send(fence: &Fence, method: http::Method) -> Result<(), BoxError> {
        let inner = tower::service_fn(|_: http::Request<()>| async { Ok::<_, BoxError>(()) });
        let request = http::Request::builder().method(method).body(())?;
        FenceLayer(fence.clone()).layer(inner).call(request).await
    }

    #[tokio::test]
    async fn non_leader_may_only_read() {
        let (clock, fence) = fence();
        let writes = [http::Method::POST, http::Method::PUT, http::Method::PATCH, http::Method::DELETE];
        for write in writes.clone() {
            assert!(send(&fence, write).await.unwrap_err().is::<NotLeader>());
        }
        assert!(send(&fence, http::Method::GET).await.is_ok());
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
        assert!(!fence.is_open(), "at the deadline it is over");
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
