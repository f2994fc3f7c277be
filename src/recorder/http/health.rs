//! `/livez`, `/readyz` and `/metrics`, plain HTTP: nothing that is told here is a secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::accept;
use crate::recorder::config::ConfigState;
use crate::recorder::spool::Spool;

/// How long it holds that the spool can be written, or cannot.
const WRITABLE_TTL: Duration = Duration::from_secs(1);
/// A disk that takes longer is not to be written to.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Health {
    pub config: watch::Receiver<ConfigState>,
    pub spool: Arc<Spool>,
    /// What is known of whether the spool can be written.
    pub writable: WritableCache,
    pub registry: Arc<Registry>,
}

pub async fn serve(listener: TcpListener, health: Health, stop: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    accept::serve_connections(listener, stop, |connection| accept::serve_http(connection, router.clone()))
        .await;
}

/// Whether the spool could be written when it was last tried. Anybody may ask, as often as they like, so a try
/// serves all who ask within [`WRITABLE_TTL`], and whoever asks meanwhile waits for it.
#[derive(Clone, Debug, Default)]
pub struct WritableCache(Arc<Mutex<Option<(Instant, bool)>>>);

impl WritableCache {
    async fn get(&self, spool: &Spool) -> bool {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, writable)) if at.elapsed() < WRITABLE_TTL => writable,
            _ => {
                // A disk that hangs is as good as none.
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
    match encode(&mut text, &health.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::recorder::http::accept::MAX_CONNECTIONS;

    #[tokio::test]
    async fn writable_check_is_cached() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("spool");
        let spool = Spool::open(root.clone()).await.unwrap();
        let writable = WritableCache::default();
        assert!(writable.get(&spool).await);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(writable.get(&spool).await, "the disk was asked again at once");
        tokio::time::sleep(WRITABLE_TTL).await;
        assert!(!writable.get(&spool).await, "the disk was not asked again");
    }

    #[tokio::test]
    async fn silent_connections_are_limited_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health {
            config: watch::channel(ConfigState::default()).1,
            spool: Spool::open(folder.path().to_owned()).await.unwrap(),
            writable: WritableCache::default(),
            registry: Arc::default(),
        };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, health, stop.clone()));
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
        assert_eq!(ask().await, "", "one more than there are places was served");
        // They are not waited for without end, and whoever comes then is served.
        let closed = timeout(accept::REQUEST_TIMEOUT * 30, async {
            for connection in &mut silent {
                let _ = connection.read(&mut [0; 256]).await;
            }
        });
        closed.await.expect("silent connections are closed");
        assert!(ask().await.starts_with("HTTP/1.1 200"));
        stop.cancel();
        serving.await.unwrap();
    }
}
