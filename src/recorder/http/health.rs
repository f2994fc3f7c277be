//! `/livez`, `/readyz` and `/metrics` over plain HTTP. None of them shows a secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::recorder::config::ConfigState;
use crate::recorder::spool::Spool;
use crate::telemetry::serve::open_metrics;

/// Age up to which the result of a test write is used again.
const WRITABLE_TTL: Duration = Duration::from_secs(1);
/// A disk that takes longer counts as not writable.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Health {
    pub config: watch::Receiver<ConfigState>,
    pub spool: Arc<Spool>,
    pub writable: WritableCache,
    pub registry: Arc<Registry>,
}

pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

/// Result of the last test write to the spool. Any client may ask at any rate, so one write answers all requests within
/// [`WRITABLE_TTL`], and requests during a write wait for it.
#[derive(Clone, Debug, Default)]
pub struct WritableCache(Arc<Mutex<Option<(Instant, bool)>>>);

impl WritableCache {
    async fn get(&self, spool: &Spool) -> bool {
        // Held during the write, so that concurrent requests cause one write.
        let mut last = self.0.lock().await;
        match *last {
            Some((at, writable)) if at.elapsed() < WRITABLE_TTL => writable,
            _ => {
                let writable = timeout(WRITE_TIMEOUT, spool.is_writable()).await.unwrap_or(false);
                *last = Some((Instant::now(), writable));
                writable
            }
        }
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    if health.config.borrow().config.is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no configuration\n").into_response();
    }
    if !health.writable.get(&health.spool).await {
        return (StatusCode::SERVICE_UNAVAILABLE, "the spool cannot be written\n").into_response();
    }
    "ok\n".into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    let mut text = String::new();
    open_metrics(encode(&mut text, &health.registry).map(|()| text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writable_check_is_cached() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("spool");
        let spool = Spool::open(root.clone()).await.unwrap();
        let writable = WritableCache::default();
        assert!(writable.get(&spool).await);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(writable.get(&spool).await, "the result is used again");
        tokio::time::sleep(WRITABLE_TTL).await;
        assert!(!writable.get(&spool).await, "an old result is not used again");
    }
}
