//! `GET /v1/status`. The operator trusts it, so it is served only over TLS and only to clients with the token.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::tls;
use crate::recorder::config::ConfigState;
use crate::recorder::context::RecorderContext;
use crate::sync::lock;
use crate::telemetry::serve::{REQUEST_TIMEOUT, serve_connections, serve_http};
use crate::wire::{FORMAT, RecorderStatus, StatusApi, TIME_HEADER};

/// Time for which a connection may be idle: twice the interval at which the operator queries, so that it need not repeat the
/// handshake.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time (RFC 3339 with nanoseconds and an offset).
const MAX_TIME_LENGTH: usize = 40;

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
    let acceptors = Arc::new(AcceptorCache::default());
    serve_connections(listener, stop, |connection| {
        let (config, router) = (status.config.borrow().config.clone(), router.clone());
        let acceptors = Arc::clone(&acceptors);
        async move {
            // Before the first configuration there is no certificate.
            if let Some(acceptor) = config.and_then(|config| acceptors.get(&config.status_api))
                && let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, acceptor.accept(connection)).await
            {
                serve_http(stream, router, IDLE_TIMEOUT).await;
            }
        }
    })
    .await;
}

/// The acceptor of the current certificate. It has the TLS sessions that clients can resume.
#[derive(Default)]
struct AcceptorCache(Mutex<Option<(StatusApi, TlsAcceptor)>>);

impl AcceptorCache {
    fn get(&self, api: &StatusApi) -> Option<TlsAcceptor> {
        let mut cached = lock(&self.0);
        if cached.as_ref().is_none_or(|(of, _)| of != api) {
            *cached = Some((api.clone(), tls::acceptor(api)?));
        }
        cached.as_ref().map(|(_, acceptor)| acceptor.clone())
    }
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
    let RecorderContext { spool, state, clock, .. } = &status.context;
    // Only now: anyone else could end the retention of the spool with a time in the future.
    if let Some(time) = operator_time(&headers) {
        clock.read_operator(time, Instant::now());
    }
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
        clock_ahead_ms: clock.lead().and_then(|lead| i64::try_from(lead.as_millis()).ok()),
        spool: spool.status(),
        cameras: state.camera_reports(spool),
    })
    .into_response()
}

fn operator_time(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(TIME_HEADER)?.to_str().ok()?;
    (text.len() <= MAX_TIME_LENGTH).then(|| text.parse().ok())?
}

/// Compares in constant time, so that the duration does not reveal the token.
fn is_authorized(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    shown.is_some_and(|shown| shown.as_bytes().ct_eq(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::recorder::spool::Spool;
    use crate::wire::RecorderConfig;

    const TOKEN: &str = "0123456789abcdef";

    async fn status_source(folder: &tempfile::TempDir) -> StatusSource {
        let config: RecorderConfig = serde_json::from_value(serde_json::json!({
            "format": 1, "revision": "r1", "namespace": "test", "site": "test",
            "storage": {
                "region": "x", "bucket": "x", "pathStyle": true, "accessKeyId": "x", "secretAccessKey": "x",
            },
            "segmentDurationMs": 60_000, "videoCeilingMs": 60_000, "spoolBytes": 1000, "cameras": [],
            "statusApi": {"certPem": "", "keyPem": "", "token": TOKEN},
        }))
        .unwrap();
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        StatusSource {
            config: watch::channel(ConfigState { config: Some(Arc::new(config)), ..Default::default() }).1,
            context: RecorderContext::new(spool, watch::channel(SignedDuration::ZERO).1),
            shard: 0,
            started: Timestamp::now(),
        }
    }

    #[tokio::test]
    async fn only_an_authorized_request_gives_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let source = status_source(&folder).await;
        let clock = Arc::clone(&source.context.clock);
        let hour_behind = (Timestamp::now() - SignedDuration::from_hours(1)).to_string();
        for (token, time, expected) in [
            ("wrong", hour_behind.as_str(), None),
            (TOKEN, "yesterday", None),
            (TOKEN, hour_behind.as_str(), Some(3600)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            headers.insert(TIME_HEADER, time.parse().unwrap());
            get_status(State(source.clone()), headers).await;
            assert_eq!(clock.lead().map(|lead| lead.as_secs()), expected, "{token} {time}");
        }
    }

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
