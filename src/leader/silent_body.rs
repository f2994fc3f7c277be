//! A limit on the silence of an answer's body. TCP does not notice a peer that acknowledges bytes and sends none, such as a proxy
//! in front of a frozen API server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::TryFutureExt;
use futures::future::MapOk;
use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Layer, Service};

/// Time without a byte after which an answer counts as broken.
const MAX_SILENCE: Duration = Duration::from_secs(30);
/// The same for a watch, in which the API server sends a bookmark about every minute if nothing changes.
const MAX_WATCH_SILENCE: Duration = Duration::from_secs(100);

/// Limits the silence of the bodies that a service answers.
#[derive(Clone, Copy, Debug)]
pub struct SilenceLimitLayer;

impl<S> Layer<S> for SilenceLimitLayer {
    type Service = SilenceLimit<S>;

    fn layer(&self, inner: S) -> SilenceLimit<S> {
        SilenceLimit { inner }
    }
}

#[derive(Clone, Debug)]
pub struct SilenceLimit<S> {
    inner: S,
}

type LimitBody<B> = Box<dyn FnOnce(Response<B>) -> Response<LimitedBody<B>> + Send>;

impl<S, A, B> Service<Request<A>> for SilenceLimit<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: 'static,
{
    type Response = Response<LimitedBody<B>>;
    type Error = S::Error;
    type Future = MapOk<S::Future, LimitBody<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let limit = if is_watch(request.uri()) { MAX_WATCH_SILENCE } else { MAX_SILENCE };
        let limit_body: LimitBody<B> =
            Box::new(move |answer| answer.map(|inner| LimitedBody { inner, limit, timer: None }));
        self.inner.call(request).map_ok(limit_body)
    }
}

fn is_watch(uri: &http::Uri) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| matches!(parameter, "watch=true" | "watch=1"))
}

/// A body that fails after a silence.
pub struct LimitedBody<B> {
    inner: B,
    limit: Duration,
    /// Runs while the body is silent.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let end = || Box::pin(tokio::time::sleep_until(Instant::now() + this.limit));
        let timer = this.timer.get_or_insert_with(end);
        ready!(timer.as_mut().poll(cx));
        // Of this kind, because a watch whose connection ended continues where it was. Any other error makes it list again.
        let message = format!("no byte within {}s", this.limit.as_secs());
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tower::ServiceExt;

    use super::*;

    /// Returns the time after which a body ends that sends a byte after each of `pauses`, and then nothing.
    async fn ends_after(path: &'static str, pauses: &[u64]) -> (u64, io::ErrorKind) {
        let pauses: Vec<Duration> = pauses.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
        let service = tower::service_fn(move |_: Request<()>| {
            let bytes = stream::iter(pauses.clone()).then(async |pause| {
                tokio::time::sleep(pause).await;
                Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x")))
            });
            let body = StreamBody::new(bytes.chain(stream::pending())).boxed_unsync();
            std::future::ready(Ok::<_, BoxError>(Response::new(body)))
        });
        let began = Instant::now();
        let request = Request::get(path).body(()).unwrap();
        let answer = SilenceLimitLayer.layer(service).oneshot(request).await.unwrap();
        let error = answer.into_body().collect().await.unwrap_err();
        (began.elapsed().as_secs(), error.downcast::<io::Error>().unwrap().kind())
    }

    #[tokio::test(start_paused = true)]
    async fn silent_answer_ends() {
        let broken = io::ErrorKind::UnexpectedEof;
        assert_eq!(ends_after("/api/v1/pods?limit=500", &[]).await, (30, broken));
        assert_eq!(ends_after("/api/v1/pods", &[20, 29]).await, (79, broken));
        assert_eq!(ends_after("/api/v1/pods?limit=1&watch=true", &[60, 75]).await, (235, broken));
        assert_eq!(ends_after("/api/v1/pods?fieldSelector=watch=true1", &[]).await, (30, broken));
    }
}
