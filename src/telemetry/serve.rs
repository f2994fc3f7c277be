//! A bounded HTTP server. It limits the number and lifetime of connections, so that clients cannot exhaust the process's
//! memory or file descriptors.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Limit of a TLS handshake, and of the head of a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that keeps its connection open for longer must not keep one of [`MAX_CONNECTIONS`].
const CONNECTION_LIFETIME: Duration = Duration::from_mins(1);
/// Simultaneous connections of one server: few enough to cost little, and more than a faulty client opens by mistake,
/// since such a client would keep the kubelet's probes out.
pub const MAX_CONNECTIONS: usize = 256;

/// Serves `router` over plain HTTP until `stop`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_connections(listener, stop, |connection| serve_http(connection, router.clone(), REQUEST_TIMEOUT))
        .await;
}

/// Runs `handle` for each connection until `stop`. At the limit, a new connection displaces the oldest: a probe of the kubelet is
/// answered at once, so clients that only keep connections open cannot keep it out.
pub async fn serve_connections<F, C>(listener: TcpListener, stop: CancellationToken, handle: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let mut open: VecDeque<CancellationToken> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((connection, _)) = accepted else {
            // Perhaps no file descriptor is free. Without a pause, this loop would spin until one is.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        open.retain(|connection| !connection.is_cancelled());
        // Closed, not queued: waiting connections would hold file descriptors too.
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.cancel();
        }
        let (conversation, ended) = (handle(connection), stop.child_token());
        open.push_back(ended.clone());
        tokio::spawn(async move {
            // Also if the conversation panics.
            let _ended = ended.clone().drop_guard();
            tokio::select! {
                _ = timeout(CONNECTION_LIFETIME, conversation) => {}
                () = ended.cancelled() => {}
            }
        });
    }
}

/// Answers requests over one connection until either side closes it, or no request comes for `idle`.
pub async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    idle: Duration,
) {
    // An error here means that the client went away.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

/// Answers with metrics in the format of `OpenMetrics`.
pub fn open_metrics(text: Result<String, fmt::Error>) -> Response {
    match text {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn silent_connections_are_limited_and_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/livez", get(async || "ok\n"));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router, stop.clone()));
        let ask = async || {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            connection.write_all(request).await.unwrap();
            let mut answer = String::new();
            let _ = connection.read_to_string(&mut answer).await;
            answer
        };
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask().await.starts_with("HTTP/1.1 200"), "silent connections keep a probe out");
        let first = timeout(REQUEST_TIMEOUT / 2, silent[0].read(&mut [0; 256])).await;
        assert!(first.is_ok(), "the oldest is closed at once");
        let closed = timeout(REQUEST_TIMEOUT * 30, async {
            for connection in &mut silent {
                let _ = connection.read(&mut [0; 256]).await;
            }
        });
        closed.await.expect("silent connections are closed");
        stop.cancel();
        serving.await.unwrap();
    }
}
