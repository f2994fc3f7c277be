//! A proxy before a server that makes it behave as servers of other makes do.

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

/// The longest body that passes, in bytes.
const MOST: usize = 1024 * 1024;

/// Gives an answer to a request, or lets it through.
pub type Answers = Arc<dyn Fn(&Parts, &[u8]) -> Option<(u16, String)> + Send + Sync>;

/// The status and code with which a request is refused; `None`: it is not.
type Refusal = fn(&Parts, &[u8]) -> Option<(u16, &'static str)>;

/// How a server of another make behaves.
#[derive(Clone)]
pub enum Lie {
    /// Answers these requests itself, with an S3 error.
    Refuse(Refusal),
    /// Answers these requests itself, with a document.
    Answer(Answers),
    /// Changes the document of the server's answer.
    Rewrite(fn(&Parts, String) -> String),
}

/// A server seen through the proxy. It lasts as long as the test's runtime.
pub async fn lying(mut server: S3Server, prefix: &str, lies: Vec<Lie>) -> Scene {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::new(Shared {
        target: server.endpoint.trim_end_matches('/').to_owned(),
        client: Client::builder(TokioExecutor::new()).build_http(),
        lies,
    });
    let app = axum::Router::new().fallback(forward).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    server.path_style = true;
    let mut scene = Scene::new(server, prefix);
    scene.operator.endpoint = Some(endpoint.clone());
    scene.recorder.endpoint = Some(endpoint);
    scene
}

struct Shared {
    target: String,
    client: Client<HttpConnector, Body>,
    lies: Vec<Lie>,
}

/// Whether a request is for this subresource.
pub fn asks(parts: &Parts, name: &str) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|part| part.split('=').next() == Some(name))
}

/// Whether a request writes.
pub fn writes(parts: &Parts) -> bool {
    matches!(parts.method, Method::PUT | Method::POST)
}

/// Whether a request is for an object, and not for a part of it.
pub fn is_object(parts: &Parts) -> bool {
    let is_below_bucket = parts.uri.path().trim_matches('/').contains('/');
    let parts_of_it = ["legal-hold", "tagging", "retention", "acl"];
    is_below_bucket && !parts_of_it.iter().any(|part| asks(parts, part))
}

/// Whether a request has a header.
pub fn has(parts: &Parts, name: &str) -> bool {
    parts.headers.contains_key(name)
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MOST).await.unwrap();
    for lie in &shared.lies {
        let answer = match lie {
            Lie::Refuse(rule) => {
                let document = |(status, code)| (status, format!("<Error><Code>{code}</Code></Error>"));
                rule(&parts, &body[..]).map(document)
            }
            Lie::Answer(rule) => rule(&parts, &body[..]),
            Lie::Rewrite(_) => None,
        };
        if let Some((status, document)) = answer {
            return (StatusCode::from_u16(status).unwrap(), document).into_response();
        }
    }
    let path_and_query = parts.uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
    let asked = parts.clone();
    // The Host header stays: it is part of what was signed.
    parts.uri = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    let answer = match shared.client.request(Request::from_parts(parts, Body::from(body))).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
    };
    let (mut head, body) = answer.into_parts();
    let mut document: Bytes = to_bytes(body, MOST).await.unwrap();
    for lie in &shared.lies {
        if let (Lie::Rewrite(rule), Ok(text)) = (lie, String::from_utf8(document.to_vec())) {
            document = rule(&asked, text).into();
        }
    }
    if asked.method != Method::HEAD {
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
    }
    Response::from_parts(head, Body::from(document))
}
