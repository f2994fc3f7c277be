//! `GET /v1/status`: what the operator reads and trusts, so only over TLS and only to who shows the token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::tls;
use crate::contract::{FORMAT, RecorderConfig, RecorderStatus};
use crate::recorder::board::Board;
use crate::recorder::config::Current;
use crate::recorder::spool::Spool;

/// Handshake and request, each, take no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection lives no longer.
const CONNECTION: Duration = Duration::from_mins(1);
/// Connections at once.
const AT_ONCE: usize = 32;

/// What the status is made of.
#[derive(Clone)]
pub struct Status {
    /// The configuration.
    pub config: watch::Receiver<Current>,
    /// The cameras.
    pub board: Arc<Board>,
    /// The spool.
    pub spool: Arc<Spool>,
    /// Which pod this is.
    pub shard: u32,
    /// When the process started.
    pub started: Timestamp,
}

/// Serves until told to stop. Each connection is met with the certificate of the configuration then in force.
pub async fn serve(listener: TcpListener, status: Status, stop: CancellationToken) {
    let router = Router::new()
        .route("/v1/status", get(answer))
        .with_state(status.clone());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((connection, _)) = accepted else {
            // No more file descriptors, perhaps: not a reason to spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Before the first configuration there is nothing to say, nor a certificate to say it with.
        let Some(config) = status.config.borrow().config.clone() else {
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = timeout(CONNECTION, converse(connection, &config, router)) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn converse(connection: TcpStream, config: &RecorderConfig, router: Router) {
    let Ok(acceptor) = tls::acceptor(&config.status_api) else {
        return;
    };
    let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(connection)).await else {
        return;
    };
    // An error here is the other side's going away.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

async fn answer(State(status): State<Status>, headers: HeaderMap) -> Response {
    let current = status.config.borrow().clone();
    let Some(config) = current.config else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    if !is_authorized(&headers, config.status_api.token.reveal()) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    Json(RecorderStatus {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shard: status.shard,
        revision: config.revision.clone(),
        refused: current.refused,
        started: status.started,
        now: Timestamp::now(),
        clock_ahead_ms: status.board.clock_ahead_ms(),
        spool: status.spool.status(),
        cameras: status.board.report(&status.spool),
    })
    .into_response()
}

/// How long the comparison takes tells nothing of where the texts differ.
fn is_authorized(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    shown.is_some_and(|shown| shown.as_bytes().ct_eq(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let authorized = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (header::AUTHORIZATION, value.parse().unwrap())));
            is_authorized(&headers, "0123456789abcdef")
        };
        assert!(authorized(Some("Bearer 0123456789abcdef")));
        for wrong in [
            None,
            Some("Bearer "),
            Some("Bearer 0123456789abcdeX"),
            Some("0123456789abcdef"),
        ] {
            assert!(!authorized(wrong), "{wrong:?}");
        }
    }
}
