//! Who may write: only the leader, and only while its lease surely holds.
//!
//! A process that was stopped and thawed does not know that it was gone: its tasks run on where they were,
//! before the lease task learns that another leads. So the right to write is not a flag but an instant on
//! the monotonic clock, which runs on while the process is stopped, and it is looked at again at every
//! write: by [`FenceLayer`] for the API server, by [`Fence::guard`] at every poll of a storage call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tower::{BoxError, Layer, Service};

/// This process does not lead, or cannot be sure that it still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead, so it writes nothing")]
pub struct NotLeader;

/// The right to write, until an instant that the lease moves.
#[derive(Clone, Debug)]
pub struct Fence {
    origin: Instant,
    /// Milliseconds after `origin` until which writing is allowed.
    until: Arc<AtomicU64>,
    lost: CancellationToken,
}

impl Fence {
    /// A fence that lets nothing through until [`Self::extend`], and nothing ever again once `lost` is cancelled.
    pub fn new(lost: CancellationToken) -> Self {
        Self {
            origin: Instant::now(),
            until: Arc::new(AtomicU64::new(0)),
            lost,
        }
    }

    /// A fence that stays open: for a process that is alone, such as a test.
    pub fn open() -> Self {
        let fence = Self::new(CancellationToken::new());
        fence.until.store(u64::MAX, Ordering::SeqCst);
        fence
    }

    /// Lets writes through until `until`: the start of the last successful renewal plus the renew deadline.
    pub fn extend(&self, until: Instant) {
        let millis =
            u64::try_from(until.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX);
        self.until.fetch_max(millis, Ordering::SeqCst);
    }

    /// Whether this process may write now.
    pub fn holds(&self) -> bool {
        !self.lost.is_cancelled()
            && self.origin.elapsed() < Duration::from_millis(self.until.load(Ordering::SeqCst))
    }

    /// [`NotLeader`] unless this process may write now.
    pub fn check(&self) -> Result<(), NotLeader> {
        if self.holds() { Ok(()) } else { Err(NotLeader) }
    }

    /// Is cancelled when leadership is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Runs `work` while the fence holds: it is looked at before every step, and the work is dropped when it
    /// no longer does.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, NotLeader> {
        let guarded = Guarded {
            fence: self,
            work: Box::pin(work),
        };
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(NotLeader),
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
        Fenced {
            inner,
            fence: self.0.clone(),
        }
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
        let reads = matches!(
            *request.method(),
            http::Method::GET | http::Method::HEAD | http::Method::OPTIONS
        );
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

    async fn answer(fence: &Fence, method: http::Method) -> Result<(), BoxError> {
        let inner = tower::service_fn(|_: http::Request<()>| async { Ok::<_, BoxError>(()) });
        let request = http::Request::builder().method(method).body(())?;
        FenceLayer(fence.clone()).layer(inner).call(request).await
    }

    #[tokio::test]
    async fn a_replica_that_does_not_lead_may_only_read() {
        let fence = Fence::new(CancellationToken::new());
        assert!(answer(&fence, http::Method::GET).await.is_ok());
        assert!(answer(&fence, http::Method::PATCH).await.is_err());
        fence.extend(Instant::now() + Duration::from_secs(60));
        assert!(answer(&fence, http::Method::PATCH).await.is_ok());
    }

    #[tokio::test]
    async fn the_right_to_write_ends_by_itself_and_at_once_when_lost() {
        let fence = Fence::new(CancellationToken::new());
        fence.extend(Instant::now() + Duration::from_millis(30));
        assert!(fence.holds());
        let endless = fence.guard(async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert_eq!(endless.await, Err::<(), _>(NotLeader));

        fence.extend(Instant::now() + Duration::from_secs(60));
        assert!(fence.holds());
        fence.lost().cancel();
        assert_eq!(fence.guard(async {}).await, Err(NotLeader));
    }
}
