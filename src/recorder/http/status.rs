//! `GET /v1/status`: what the operator reads and trusts, so only over TLS and only to who shows the token.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::accept::{self, PATIENCE};
use super::tls;
use crate::contract::{FORMAT, RecorderConfig, RecorderStatus};
use crate::recorder::board::Board;
use crate::recorder::config::Current;
use crate::recorder::spool::Spool;

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
    let router = Router::new().route("/v1/status", get(answer)).with_state(status.clone());
    accept::each(listener, stop, |connection| {
        let (config, router) = (status.config.borrow().config.clone(), router.clone());
        async move {
            // Before the first configuration there is nothing to say, nor a certificate to say it with.
            if let Some(config) = config {
                converse(connection, &config, router).await;
            }
        }
    })
    .await;
}

async fn converse(connection: TcpStream, config: &RecorderConfig, router: Router) {
    let Ok(acceptor) = tls::acceptor(&config.status_api) else {
        return;
    };
    if let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(connection)).await {
        accept::answer(stream, router).await;
    }
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
        uploads_follow: status.board.uploads_follow(),
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
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
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
        for wrong in [None, Some("Bearer "), Some("Bearer 0123456789abcdeX"), Some("0123456789abcdef")] {
            assert!(!authorized(wrong), "{wrong:?}");
        }
    }
}
