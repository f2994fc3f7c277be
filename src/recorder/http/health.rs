//! `/healthz`, `/readyz` and `/metrics`, plain HTTP: nothing that is told here is a secret.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::recorder::config::Current;
use crate::recorder::spool::Spool;

/// What is asked.
#[derive(Clone)]
pub struct Health {
    /// The configuration.
    pub config: watch::Receiver<Current>,
    /// The spool.
    pub spool: Arc<Spool>,
    /// All metrics.
    pub registry: Arc<Registry>,
}

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, health: Health, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(error = %error.kind(), "health and metrics are not served any more");
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    if health.config.borrow().config.is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no configuration\n").into_response();
    }
    if !health.spool.is_writable().await {
        return (StatusCode::SERVICE_UNAVAILABLE, "the spool cannot be written\n").into_response();
    }
    "ok\n".into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &health.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
