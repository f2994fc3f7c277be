//! The leader's Kubernetes client, with the fence at two levels.
//!
//! * A layer refuses every request that is not a read, right before it is sent. It is *below* the retries, so that it
//!   checks each retry too. It gives the caller a clear answer, `NotLeader`.
//! * The socket refuses every byte. Between the layer's check and the bytes on the wire lie connecting, TLS and a queue,
//!   and the process can be stopped in any of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::client::retry::RetryPolicy;
use kube::{Client, Config};
use tower::ServiceBuilder;
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;
use tower::timeout::TimeoutLayer;
use tower::util::MapResponse;

use super::fence::Fence;
use super::silent_body::SilenceLimitLayer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of TCP keep-alives: a quiet watch sends nothing, and would not notice that its peer is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Time for the peer to acknowledge what was sent. Without it, the kernel repeats a request to a dead API server for a quarter of
/// an hour, and the reconcile keeps its permit.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for the beginning of an answer. A watch answers at once, so this does not bound it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests that may wait for a connection, so that a slow API server cannot exhaust the memory.
const MAX_QUEUED_REQUESTS: usize = 256;
/// Retries of a request that the API server sheds (429, 503, 504), within about five seconds. Longer waits belong to the
/// controllers' backoff.
const MAX_RETRIES: u32 = 5;

/// Builds a client that sends no write while `fence` is closed.
pub fn fenced_client(config: &Config, fence: &Fence) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    // The connector on top of this one adds TLS for https.
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let socket_fence = fence.clone();
    let socket = MapResponse::new(tcp, move |inner| FencedStream { inner, fence: socket_fence.clone() });
    let https = config.rustls_https_connector_with_connector(socket)?;
    let retry = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2), MAX_RETRIES, true)
        .map_err(|error| kube::Error::Service(error.into()))?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(retry))
        .layer(BufferLayer::new(MAX_QUEUED_REQUESTS))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        // Below the retries and the buffer, as the module requires.
        .layer(fence.clone().write_filter())
        .layer(SilenceLimitLayer)
        .layer(TimeoutLayer::new(RESPONSE_TIMEOUT))
        .service(HttpClient::builder(TokioExecutor::new()).build(https));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// A connection that sends no byte while the fence is closed.
struct FencedStream<S> {
    inner: S,
    fence: Fence,
}

impl<S: Connection> Connection for FencedStream<S> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

impl<S: Read + Unpin> Read for FencedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: Write + Unpin> Write for FencedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The default of `poll_write_vectored` calls this function too, so no write bypasses the check.
        self.fence.check().map_err(io::Error::other)?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has no buffer of its own: every byte has passed `poll_write`.
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future;
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::leader::clock::Clock;
    use crate::leader::clock::mock::MockClock;
    use crate::leader::fence::NotLeader;

    #[tokio::test]
    async fn closed_fence_stops_writes_on_open_connection() {
        let clock = Arc::new(MockClock::at(100));
        let fence = Fence::new(clock.clone());
        fence.extend(clock.now().plus(Duration::from_secs(10)));
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = FencedStream { inner: TokioIo::new(near), fence };
        future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"PUT /a")).await.unwrap();
        clock.advance(Duration::from_mins(1));
        let refused =
            future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b" HTTP/1.1")).await.unwrap_err();
        let cause = refused.into_inner().unwrap();
        assert!(cause.is::<NotLeader>(), "{cause}");
        drop(stream);
        let mut arrived = Vec::new();
        far.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, b"PUT /a");
    }
}
