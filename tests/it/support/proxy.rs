//! A proxy before an S3 server that remembers what was asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A request that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub path_and_query: String,
    pub status: u16,
}

impl Seen {
    /// Whether it could change anything.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// Stops when it is dropped.
pub struct Proxy {
    pub endpoint: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: String,
    client: Client<HttpConnector, Body>,
    seen: Mutex<Vec<Seen>>,
    /// Whether the server is to look as if it were down.
    down: AtomicBool,
}

impl Proxy {
    /// Listens at `port` on the server's own host, which pods reach too.
    pub async fn start(target: &str, port: u16) -> Self {
        let host = url::Url::parse(target).unwrap().host_str().unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind((host.as_str(), port))
            .await
            .unwrap();
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            seen: Mutex::default(),
            down: AtomicBool::default(),
        });
        let app = axum::Router::new()
            .fallback(forward)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            endpoint: format!("http://{host}:{port}"),
            shared,
            task,
        }
    }

    /// Makes the server look as if it were down, or up again.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// What passed since the last time this was asked.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or("/".to_owned(), ToString::to_string);
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let method = request.method().to_string();
    // The Host header stays: it is part of what was signed.
    *request.uri_mut() = format!("{}{path_and_query}", shared.target)
        .parse::<Uri>()
        .unwrap();
    let response = match shared.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    };
    let status = response.status().as_u16();
    shared.seen.lock().unwrap().push(Seen {
        method,
        path_and_query,
        status,
    });
    response
}
