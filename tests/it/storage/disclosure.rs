//! A tenant's endpoint must not disclose responses or reach other servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use toezicht::storage::{EnforceError, Probe};

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::HANG;

const SECRET: &str = "instance-secret-7f3a";

/// Starts a server that answers every request with `respond` and counts them.
async fn start_server(
    respond: impl Fn() -> axum::response::Response + Clone + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let app = axum::Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let response = respond();
        async move { response }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (endpoint, count)
}

async fn enforce_error_at(endpoint: String) -> EnforceError {
    let mut scene = Scene::new(S3Server::primary(), "discretion");
    scene.operator.endpoint = Some(endpoint.clone());
    scene.recorder.endpoint = Some(endpoint);
    scene.enforce(Probe::Run).await.unwrap_err()
}

#[tokio::test]
async fn only_the_error_code_is_disclosed() {
    let xml = |code: &str| {
        format!("<Error><Code>{code}</Code><Message>{SECRET}</Message><Resource>{SECRET}</Resource></Error>")
    };
    let long = "A".repeat(60);
    let bodies =
        [xml("AccessDenied"), xml(SECRET), xml(&long), format!("<html>{SECRET}</html>"), SECRET.to_owned()];
    for body in bodies {
        for status in [StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST, StatusCode::OK] {
            let body = body.clone();
            let (endpoint, _) = start_server(move || (status, body.clone()).into_response()).await;
            let error = enforce_error_at(endpoint).await;
            let disclosed = format!("{error} {error:?} {error}");
            assert!(!disclosed.contains(SECRET) && !disclosed.contains(&long), "{disclosed}");
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (target, redirect_count) = start_server(|| SECRET.into_response()).await;
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ] {
        let to = format!("{target}/secret");
        let body = "<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1</Endpoint></Error>";
        let (endpoint, request_count) =
            start_server(move || (status, [(header::LOCATION, to.clone())], body).into_response()).await;
        let error = enforce_error_at(endpoint).await;
        assert!(request_count.load(Ordering::SeqCst) > 0);
        assert_eq!(redirect_count.load(Ordering::SeqCst), 0, "{status} was followed");
        assert!(error.store_error().is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn silent_store_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The timeout only ends a test that hangs.
    let result =
        tokio::time::timeout(HANG, enforce_error_at(format!("http://{}", listener.local_addr().unwrap())));
    let error = result.await.expect("the request times out");
    let advice = "check spec.storage.endpoint, and that this cluster reaches it";
    assert_eq!(error.to_string(), format!("GetBucketVersioning got no answer: Timeout; {advice}"));
    assert!(error.is_retryable());
}
