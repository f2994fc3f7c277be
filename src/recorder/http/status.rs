//! `GET /v1/status`. The operator trusts it, so it is served only over TLS and only to clients with the token.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::tls;
use crate::recorder::config::ConfigState;
use crate::recorder::context::RecorderContext;
use crate::telemetry::serve::{REQUEST_TIMEOUT, serve_connections, serve_http};
use crate::wire::{FORMAT, RecorderStatus};

#[derive(Clone)]
pub struct StatusSource {
    pub config: watch::Receiver<ConfigState>,
    pub context: RecorderContext,
    pub shard: u32,
    pub started: Timestamp,
}

/// Serves until `stop`. Each connection uses the certificate of the current configuration.
pub async fn serve(listener: TcpListener, status: StatusSource, stop: CancellationToken) {
    let router = Router::new().route("/v1/status", get(get_status)).with_state(status.clone());
    serve_connections(listener, stop, |connection| {
        let (config, router) = (status.config.borrow().config.clone(), router.clone());
        async move {
            // Before the first configuration there is no certificate.
            if let Some(acceptor) = config.and_then(|config| tls::acceptor(&config.status_api))
                && let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, acceptor.accept(connection)).await
            {
                serve_http(stream, router).await;
            }
        }
    })
    .await;
}

async fn get_status(State(status): State<StatusSource>, headers: HeaderMap) -> Response {
    // Cloned, so that no lock is held during the answer.
    let current = status.config.borrow().clone();
    let Some(config) = current.config else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    if !is_authorized(&headers, config.status_api.token.reveal()) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    let RecorderContext { spool, state, .. } = &status.context;
    Json(RecorderStatus {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shard: status.shard,
        revision: config.revision.clone(),
        uploads_follow: state.uploads_revision(),
        refused: current.rejected,
        storage_problem: state.storage_problem(),
        started: status.started,
        now: Timestamp::now(),
        clock_ahead_ms: state.clock_offset_ms(),
        spool: spool.status(),
        cameras: state.camera_reports(spool),
    })
    .into_response()
}

/// Compares in constant time, so that the duration does not reveal the token.
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
