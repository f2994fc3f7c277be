//! A proxy that makes a server behave like other S3 implementations.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::scene::Scene;
use crate::support::settings::S3Server;

/// Maximum size of a body in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Returns a response to a request, or `None` to forward it.
pub type Responder = Arc<dyn Fn(&Parts, &[u8]) -> Option<(u16, String)> + Send + Sync>;

/// Returns status and code of a rejected request, or `None` to forward it.
type Rejection = fn(&Parts, &[u8]) -> Option<(u16, &'static str)>;

/// A deviation of another implementation.
#[derive(Clone)]
pub enum Quirk {
    /// Rejects requests with an S3 error.
    Reject(Rejection),
    /// Answers requests with a document.
    Respond(Responder),
    /// Changes the server's response.
    Rewrite(fn(&Parts, String) -> String),
}

/// Returns a scene that reaches the server through the proxy, which runs as long as the test's runtime.
pub async fn scene_with_quirks(mut server: S3Server, prefix: &str, quirks: Vec<Quirk>) -> Scene {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::new(QuirkProxyState {
        target: server.endpoint.trim_end_matches('/').to_owned(),
        client: Client::builder(TokioExecutor::new()).build_http(),
        quirks,
    });
    let app = axum::Router::new().fallback(forward).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    server.path_style = true;
    let mut scene = Scene::new(server, prefix);
    scene.operator.endpoint = Some(endpoint.clone());
    scene.recorder.endpoint = Some(endpoint);
    scene
}

struct QuirkProxyState {
    target: String,
    client: Client<HttpConnector, Body>,
    quirks: Vec<Quirk>,
}

/// Returns whether a request is for this subresource.
pub fn is_for_subresource(parts: &Parts, name: &str) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|part| part.split('=').next() == Some(name))
}

/// Returns whether a request is a write.
pub fn is_put_or_post(parts: &Parts) -> bool {
    matches!(parts.method, Method::PUT | Method::POST)
}

/// Returns whether a request is for an object itself, not for a subresource of it.
pub fn is_object(parts: &Parts) -> bool {
    let is_below_bucket = parts.uri.path().trim_matches('/').contains('/');
    let object_subresources = ["legal-hold", "tagging", "retention", "acl"];
    is_below_bucket && !object_subresources.iter().any(|part| is_for_subresource(parts, part))
}

/// Returns whether a request has this header.
pub fn has_header(parts: &Parts, name: &str) -> bool {
    parts.headers.contains_key(name)
}

async fn forward(State(shared): State<Arc<QuirkProxyState>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    for quirk in &shared.quirks {
        let response = match quirk {
            Quirk::Reject(rule) => {
                let document = |(status, code)| (status, format!("<Error><Code>{code}</Code></Error>"));
                rule(&parts, &body[..]).map(document)
            }
            Quirk::Respond(rule) => rule(&parts, &body[..]),
            Quirk::Rewrite(_) => None,
        };
        if let Some((status, document)) = response {
            return (StatusCode::from_u16(status).unwrap(), document).into_response();
        }
    }
    let path_and_query = parts.uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
    let original = parts.clone();
    // The Host header stays: it is part of what was signed.
    parts.uri = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    let response = match shared.client.request(Request::from_parts(parts, Body::from(body))).await {
        Ok(response) => response.map(Body::new),
        Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
    };
    let (mut head, body) = response.into_parts();
    let mut document: Bytes = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    for quirk in &shared.quirks {
        if let (Quirk::Rewrite(rule), Ok(text)) = (quirk, String::from_utf8(document.to_vec())) {
            document = rule(&original, text).into();
        }
    }
    if original.method != Method::HEAD {
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
    }
    Response::from_parts(head, Body::from(document))
}
