//! An endpoint that a tenant chose must not become a way to see or reach something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use toezicht::storage::{EnforceError, Probe};

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::HANG;

const SECRET: &str = "instance-secret-7f3a";

/// A server that answers everything in one way, and counts.
async fn server(
    answer: impl Fn() -> axum::response::Response + Clone + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let app = axum::Router::new().fallback(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let response = answer();
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
            let (endpoint, _) = server(move || (status, body.clone()).into_response()).await;
            let error = enforce_error_at(endpoint).await;
            let told = format!("{error} {error:?} {error}");
            assert!(!told.contains(SECRET) && !told.contains(&long), "{told}");
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (inner, reached) = server(|| SECRET.into_response()).await;
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ] {
        let to = format!("{inner}/secret");
        let body = "<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1</Endpoint></Error>";
        let (endpoint, asked) =
            server(move || (status, [(header::LOCATION, to.clone())], body).into_response()).await;
        let error = enforce_error_at(endpoint).await;
        assert!(asked.load(Ordering::SeqCst) > 0);
        assert_eq!(reached.load(Ordering::SeqCst), 0, "{status} was followed");
        assert!(error.store_error().is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn silent_store_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Else it hangs.
    let given_up =
        tokio::time::timeout(HANG, enforce_error_at(format!("http://{}", listener.local_addr().unwrap())));
    let error = given_up.await.expect("it is given up");
    assert_eq!(error.to_string(), "GetBucketVersioning got no answer: Timeout");
    assert!(error.is_retryable());
}
