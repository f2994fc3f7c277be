//! A proxy before an S3 store that makes the store behave as other stores do: a rule answers in its place, or changes what
//! it is asked; another changes what it answers. A signature stays valid where the body is not part of what a store
//! verifies (SeaweedFS).

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Nothing that is configured is longer.
const MOST: usize = 4 << 20;

/// A request, as rules see it.
pub struct Asked {
    pub method: Method,
    /// Names of the subresources and parameters.
    pub names: Vec<String>,
    pub body: Bytes,
}

impl Asked {
    pub fn asks(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The policy that is put.
    pub fn policy(&self) -> Option<String> {
        (self.method == Method::PUT && self.asks("policy")).then(|| self.text())
    }
}

/// What becomes of a request.
pub enum Act {
    Pass,
    /// The store is asked something else.
    Instead(String),
    /// The store is not asked.
    Answer(u16, String),
}

/// An error as S3 tells it.
pub fn refusal(status: u16, code: &str) -> Act {
    Act::Answer(status, format!("<Error><Code>{code}</Code></Error>"))
}

type Before = Box<dyn Fn(&Asked) -> Act + Send + Sync>;
type After = Box<dyn Fn(&Asked, String) -> String + Send + Sync>;

/// Stops when it is dropped.
pub struct Liar {
    pub endpoint: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: String,
    client: Client<HttpConnector, Body>,
    before: Before,
    after: After,
    /// Policies that were put, as they came.
    policies: Mutex<Vec<String>>,
}

impl Liar {
    /// Listens at a free port on this machine.
    pub async fn start(
        target: &str,
        before: impl Fn(&Asked) -> Act + Send + Sync + 'static,
        after: impl Fn(&Asked, String) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            before: Box::new(before),
            after: Box::new(after),
            policies: Mutex::default(),
        });
        let app = axum::Router::new()
            .fallback(forward)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            endpoint,
            shared,
            task,
        }
    }

    /// Policies that were put since this was last asked.
    pub fn policies(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.policies.lock().unwrap())
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or("/".to_owned(), ToString::to_string);
    let query = request.uri().query().unwrap_or_default();
    let names = query
        .split('&')
        .map(|part| part.split('=').next().unwrap_or_default().to_owned());
    let names = names.collect();
    let (mut parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method.clone(),
        names,
        body: to_bytes(body, MOST).await.unwrap(),
    };
    shared.policies.lock().unwrap().extend(asked.policy());
    let body = match (shared.before)(&asked) {
        Act::Answer(status, body) => {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        Act::Instead(text) => Bytes::from(text),
        Act::Pass => asked.body.clone(),
    };
    // The Host header stays: it is part of what was signed.
    parts.uri = format!("{}{path_and_query}", shared.target)
        .parse::<Uri>()
        .unwrap();
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    let Ok(answer) = shared
        .client
        .request(Request::from_parts(parts, Body::from(body)))
        .await
    else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if asked.method == Method::HEAD {
        return answer.map(Body::new).into_response();
    }
    let (mut parts, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), MOST).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRANSFER_ENCODING);
    let body = match std::str::from_utf8(&body) {
        Ok(text) => Bytes::from((shared.after)(&asked, text.to_owned())),
        Err(_) => body,
    };
    Response::from_parts(parts, Body::from(body))
}
