//! The operator's probes and metrics over plain HTTP: `/livez`, `/readyz`, `/metrics`. The probes show no resource's
//! name.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use super::metrics::OperatorTelemetry;
use super::serve::open_metrics;
use crate::leader::ElectionState;
use crate::leader::clock::Clock;

/// Time without an election attempt after which a restart is the remedy. Six attempts that each reach the renew deadline
/// take as long.
const STUCK_AFTER: Duration = Duration::from_mins(1);

#[derive(Clone)]
pub struct Probes {
    pub telemetry: Arc<OperatorTelemetry>,
    pub election: watch::Receiver<ElectionState>,
    pub clock: Arc<dyn Clock>,
}

pub fn router(probes: Probes) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

async fn livez(State(probes): State<Probes>) -> Response {
    let attempted = probes.election.borrow().last_attempt;
    match attempted.map(|moment| moment.until(probes.clock.now())) {
        Some(age) if age > STUCK_AFTER => {
            let body = format!("no election attempt for {} s\n", age.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
        // Before its first attempt the elector waits for the custom resources. A restart would not help.
        _ => "ok\n".into_response(),
    }
}

async fn readyz(State(probes): State<Probes>) -> Response {
    let missing = probes.telemetry.readiness.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let names: Vec<&'static str> = missing.into_iter().map(Into::into).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("missing: {}\n", names.join(", "))).into_response()
}

async fn metrics(State(probes): State<Probes>) -> Response {
    open_metrics(probes.telemetry.encode())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::leader::clock::mock::MockClock;
    use crate::telemetry::readiness::ReadinessGate;

    async fn get_path(probes: &Probes, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(probes.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn probes() -> (Arc<MockClock>, watch::Sender<ElectionState>, Probes) {
        let clock = Arc::new(MockClock::at(1000));
        let (sender, election) = watch::channel(ElectionState::default());
        let probes =
            Probes { telemetry: Arc::new(OperatorTelemetry::default()), election, clock: clock.clone() };
        (clock, sender, probes)
    }

    #[tokio::test]
    async fn readyz_lists_missing_gates() {
        let (_, _sender, probes) = probes();
        probes.telemetry.readiness.open(ReadinessGate::CustomResources);
        let answer = get_path(&probes, "/readyz").await;
        assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, "missing: Election\n".into()));
        probes.telemetry.readiness.open(ReadinessGate::Election);
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
