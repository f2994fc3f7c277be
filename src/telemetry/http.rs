//! Probes and metrics over plain HTTP: `/livez`, `/readyz`, `/metrics`. They show no resource's name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::OperatorMetrics;
use super::readiness::Readiness;
use crate::leader::ElectionState;
use crate::leader::clock::Clock;

/// A process whose elector has not even tried for this long is stuck, and is better started anew. Six tries
/// that each run into the renew deadline fit in.
const STUCK_AFTER: Duration = Duration::from_mins(1);

/// Why probes are not served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the probe server failed: {0}")]
    Serve(#[source] std::io::Error),
}

#[derive(Clone)]
pub struct ProbeState {
    pub readiness: Readiness,
    pub metrics: Arc<OperatorMetrics>,
    pub election: watch::Receiver<ElectionState>,
    /// For the age of the elector's last try.
    pub clock: Arc<dyn Clock>,
}

/// Binds `address` now, so that a taken port is an error at start.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(address).await.map_err(|source| HttpError::Listen { address, source })
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    probes: ProbeState,
    stop: CancellationToken,
) -> Result<(), HttpError> {
    axum::serve(listener, router(probes))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(HttpError::Serve)
}

fn router(probes: ProbeState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

async fn livez(State(probes): State<ProbeState>) -> impl IntoResponse {
    let tried = probes.election.borrow().last_attempt;
    match tried.map(|moment| moment.until(probes.clock.now())) {
        Some(age) if age > STUCK_AFTER => {
            let body = format!("the elector has been silent for {} s\n", age.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
        // Not tried yet: it waits for the custom resources, which is no reason to start anew.
        _ => (StatusCode::OK, "ok\n".to_owned()),
    }
}

async fn readyz(State(probes): State<ProbeState>) -> impl IntoResponse {
    let missing = probes.readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let names: Vec<&'static str> = missing.into_iter().map(Into::into).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("missing: {}\n", names.join(", ")))
}

async fn metrics(State(probes): State<ProbeState>) -> impl IntoResponse {
    match probes.metrics.encode() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::leader::clock::mock::MockClock;
    use crate::telemetry::readiness::ReadinessGate;

    async fn get_path(probes: &ProbeState, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(probes.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn probes() -> (Arc<MockClock>, watch::Sender<ElectionState>, ProbeState) {
        let clock = Arc::new(MockClock::at(1000));
        let (sender, election) = watch::channel(ElectionState::default());
        let probes = ProbeState {
            readiness: Readiness::requiring([ReadinessGate::Election]),
            metrics: Arc::new(OperatorMetrics::new()),
            election,
            clock: clock.clone(),
        };
        (clock, sender, probes)
    }

    #[tokio::test]
    async fn readyz_lists_missing_gates() {
        let (_, _sender, probes) = probes();
        let answer = get_path(&probes, "/readyz").await;
        assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, "missing: Election\n".into()));
        probes.readiness.open(ReadinessGate::Election);
        assert_eq!(get_path(&probes, "/readyz").await, (StatusCode::OK, "ready\n".into()));
    }

    #[tokio::test]
    async fn livez_fails_only_when_elector_is_stuck() {
        let (clock, sender, probes) = probes();
        assert_eq!(get_path(&probes, "/livez").await.0, StatusCode::OK);
        sender.send_modify(|election| election.last_attempt = Some(clock.now()));
        clock.advance(STUCK_AFTER);
        assert_eq!(get_path(&probes, "/livez").await.0, StatusCode::OK);
        clock.advance(Duration::from_secs(1));
        assert_eq!(get_path(&probes, "/livez").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (_, _sender, probes) = probes();
        let (status, body) = get_path(&probes, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("# TYPE toezicht_leader gauge") && body.ends_with("# EOF\n"), "{body}");
    }
}
