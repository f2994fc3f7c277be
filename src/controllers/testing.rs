//! Example resources and reports for tests, and an API server that answers as a test says.

use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

pub(crate) use crate::api::testing::{camera, hold, policy, site};
use crate::wire::{CameraReport, FORMAT, RecorderStatus, SpoolStatus};

/// Returns the status of a recorder that follows `revision`.
pub(crate) fn recorder_status(revision: &str, now: Timestamp, cameras: Vec<CameraReport>) -> RecorderStatus {
    RecorderStatus {
        format: FORMAT,
        version: "1".into(),
        shard: 0,
        revision: revision.into(),
        uploads_follow: Some(revision.into()),
        refused: None,
        storage_problem: None,
        started: now,
        now,
        clock_ahead_ms: None,
        spool: SpoolStatus::default(),
        cameras,
    }
}

/// Returns a client of an API server that answers with a status code and a body. `answer` gets method, path with query, and body.
pub(crate) fn api_server(
    answer: impl Fn(&str, &http::Uri, Value) -> (u16, Value) + Clone + Send + 'static,
) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (code, answer) = answer(parts.method.as_str(), &parts.uri, body);
            let body = Body::from(answer.to_string().into_bytes());
            http::Response::builder().status(code).body(body).map_err(std::io::Error::other)
        }
    });
    Client::new(service, "default")
}

/// Returns a list as the API server answers it.
pub(crate) fn list_response(items: &[Value]) -> (u16, Value) {
    (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
}

/// Returns an error as the API server answers it.
pub(crate) fn error_response(code: u16, details: &Value) -> (u16, Value) {
    let reason = match code {
        400 => "BadRequest",
        403 => "Forbidden",
        404 => "NotFound",
        _ => "Conflict",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code, "message": "no", "details": details,
    });
    (code, status)
}
