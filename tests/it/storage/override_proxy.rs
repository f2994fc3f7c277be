//! A proxy that overrides the responses for single subresources of a bucket. All other requests reach the real
//! server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Overridden responses of a subresource.
#[derive(Clone, Debug)]
pub struct Override {
    /// Status and document of a GET.
    pub get: (u16, String),
    /// Status of a PUT or DELETE. After a success the override is removed.
    pub change: u16,
}

/// A running proxy, stopped when dropped.
pub struct OverrideProxy {
    pub endpoint: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: String,
    client: Client<HttpConnector, Body>,
    /// Overrides by the subresource's name in the query.
    overrides: Mutex<BTreeMap<&'static str, Override>>,
    /// Method and path of requests that may change state.
    writes: Mutex<Vec<String>>,
}

impl OverrideProxy {
    /// Starts a proxy on a free port of this machine.
    pub async fn start(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            overrides: Mutex::default(),
            writes: Mutex::default(),
        });
        let app = axum::Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared, task }
    }

    /// Overrides a subresource's responses from now on.
    pub fn set_override(&self, subresource: &'static str, get: (u16, &str), change: u16) {
        let get = (get.0, get.1.to_owned());
        self.shared.overrides.lock().unwrap().insert(subresource, Override { get, change });
    }

    /// Denies all access to a subresource.
    pub fn deny(&self, subresource: &'static str) {
        self.set_override(subresource, (403, "<Error><Code>AccessDenied</Code></Error>"), 403);
    }

    /// Returns the requests that may have changed state since the last call.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.writes.lock().unwrap())
    }
}

impl Drop for OverrideProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// Returns the overridden response, if there is one.
    fn overridden_response(&self, method: &Method, query: &str) -> Option<Response> {
        let mut overrides = self.overrides.lock().unwrap();
        let named = |name: &&'static str| {
            query.split('&').any(|subresource| subresource.split('=').next() == Some(*name))
        };
        let name = overrides.keys().copied().find(|name| named(name))?;
        let subresource = overrides.get(name)?.clone();
        if method == Method::GET {
            let (status, document) = subresource.get;
            return Some((StatusCode::from_u16(status).unwrap(), document).into_response());
        }
        let status = StatusCode::from_u16(subresource.change).unwrap();
        if status.is_success() {
            overrides.remove(name);
        }
        let error = format!("<Error><Code>Pretended{}</Code></Error>", subresource.change);
        Some((status, if status.is_success() { String::new() } else { error }).into_response())
    }
}

async fn forward(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let path_and_query = request.uri().path_and_query().map_or("/".to_owned(), ToString::to_string);
    let query = request.uri().query().unwrap_or_default().to_owned();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        shared.writes.lock().unwrap().push(format!("{} {path_and_query}", request.method()));
    }
    if let Some(response) = shared.overridden_response(request.method(), &query) {
        return response;
    }
    // The Host header stays: it is part of what was signed.
    *request.uri_mut() = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    match shared.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
