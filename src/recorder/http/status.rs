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

use super::accept::{self, REQUEST_TIMEOUT};
use super::tls;
use crate::recorder::config::ConfigState;
use crate::recorder::spool::Spool;
use crate::recorder::state::RecorderState;
use crate::wire::{FORMAT, RecorderConfig, RecorderStatus};

/// What the status is made of.
#[derive(Clone)]
pub struct StatusSource {
    pub config: watch::Receiver<ConfigState>,
    pub state: Arc<RecorderState>,
    pub spool: Arc<Spool>,
    pub shard: u32,
    pub started: Timestamp,
}

/// Serves until told to stop. Each connection is met with the certificate of the configuration then in force.
pub async fn serve(listener: TcpListener, status: StatusSource, stop: CancellationToken) {
    let router = Router::new().route("/v1/status", get(get_status)).with_state(status.clone());
    accept::serve_connections(listener, stop, |connection| {
        let (config, router) = (status.config.borrow().config.clone(), router.clone());
        async move {
            // Before the first configuration there is nothing to say, nor a certificate to say it with.
            if let Some(config) = config {
                serve_tls(connection, &config, router).await;
            }
        }
    })
    .await;
}

async fn serve_tls(connection: TcpStream, config: &RecorderConfig, router: Router) {
    let Ok(acceptor) = tls::acceptor(&config.status_api) else {
        return;
    };
    if let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, acceptor.accept(connection)).await {
        accept::serve_http(stream, router).await;
    }
}

async fn get_status(State(status): State<StatusSource>, headers: HeaderMap) -> Response {
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
        uploads_follow: status.state.uploads_revision(),
        refused: current.rejected,
        started: status.started,
        now: Timestamp::now(),
        clock_ahead_ms: status.state.clock_offset_ms(),
        spool: status.spool.status(),
        cameras: status.state.camera_reports(&status.spool),
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
    fn only_the_exact_token_is_authorized() {
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
