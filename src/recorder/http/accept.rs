//! Who connects is met, but never by more than so many at once and never for long: what is served here must not
//! cost the recordings their memory or file descriptors.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Handshake and request, each, take no longer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_LIFETIME: Duration = Duration::from_mins(1);
/// Connections at once, of each server. Few enough to cost nothing, and more than whoever would keep the
/// kubelet's probes out can open by mistake.
pub const MAX_CONNECTIONS: usize = 256;

/// Lets `converse` meet each who connects, until told to stop. One for whom there is no place is turned away.
pub async fn serve_connections<F, C>(listener: TcpListener, stop: CancellationToken, handle: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((connection, _)) = accepted else {
            // No more file descriptors, perhaps: not a reason to spin.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let (conversation, stop) = (handle(connection), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = timeout(CONNECTION_LIFETIME, conversation) => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
}

/// Answers requests over a connection until either side has had enough.
pub async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    // An error here is the other side's going away.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}
