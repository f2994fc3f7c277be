//! A server that has more, or shows less, than the real one behind it: single parts of a bucket's configuration are
//! answered for it, the rest is the real server's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// What is answered to questions about a part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Status and document of a GET.
    pub get: (u16, String),
    /// Status of a PUT or DELETE. After one of success the real server answers again.
    pub change: u16,
}

/// Stops when it is dropped.
pub struct Pretend {
    pub endpoint: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: String,
    client: Client<HttpConnector, Body>,
    /// By the name of the part in the query.
    parts: Mutex<BTreeMap<&'static str, Part>>,
    /// Method and query of what could change anything.
    writes: Mutex<Vec<String>>,
}

impl Pretend {
    /// Listens at a free port on this machine.
    pub async fn start(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            parts: Mutex::default(),
            writes: Mutex::default(),
        });
        let app = axum::Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared, task }
    }

    /// Answers for a part from now on.
    pub fn answer(&self, part: &'static str, get: (u16, &str), change: u16) {
        let get = (get.0, get.1.to_owned());
        self.shared.parts.lock().unwrap().insert(part, Part { get, change });
    }

    /// The operator may not read a part.
    pub fn hide(&self, part: &'static str) {
        self.answer(part, (403, "<Error><Code>AccessDenied</Code></Error>"), 403);
    }

    /// What could have changed anything since this was last asked.
    pub fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.writes.lock().unwrap())
    }
}

impl Drop for Pretend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// The answer that is not the real server's.
    fn own(&self, method: &Method, query: &str) -> Option<Response> {
        let mut parts = self.parts.lock().unwrap();
        let named = |name: &&'static str| query.split('&').any(|part| part.split('=').next() == Some(*name));
        let name = parts.keys().copied().find(|name| named(name))?;
        let part = parts.get(name)?.clone();
        if method == Method::GET {
            let (status, document) = part.get;
            return Some((StatusCode::from_u16(status).unwrap(), document).into_response());
        }
        let status = StatusCode::from_u16(part.change).unwrap();
        if status.is_success() {
            parts.remove(name);
        }
        let error = format!("<Error><Code>Pretended{}</Code></Error>", part.change);
        Some((status, if status.is_success() { String::new() } else { error }).into_response())
    }
}

async fn forward(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let path_and_query = request.uri().path_and_query().map_or("/".to_owned(), ToString::to_string);
    let query = request.uri().query().unwrap_or_default().to_owned();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        shared.writes.lock().unwrap().push(format!("{} {path_and_query}", request.method()));
    }
    if let Some(response) = shared.own(request.method(), &query) {
        return response;
    }
    // The Host header stays: it is part of what was signed.
    *request.uri_mut() = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    match shared.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
