//! A reverse proxy for an S3 or Kubernetes API server that records requests and injects faults.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{oneshot, watch};

/// A request that reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxiedRequest {
    pub method: String,
    pub path_and_query: String,
    pub status: u16,
    /// Access key that signed the request, if it is signed.
    pub access_key: Option<String>,
}

/// Returns the access key of a signed request.
pub fn access_key(parts: &Parts) -> Option<String> {
    let signed = parts.headers.get("authorization")?.to_str().ok()?;
    let (_, credential) = signed.split_once("Credential=")?;
    Some(credential.split_once('/')?.0.to_owned())
}

/// A limit on the number of matching requests that are forwarded.
struct Cut {
    matches: RequestFilter,
    left: usize,
    /// Receives the last request.
    last: Option<oneshot::Sender<ProxiedRequest>>,
}

/// How a [`Cut`] treats a request.
enum Turn {
    Free,
    /// Forwarded, but its response is withheld.
    Last(oneshot::Sender<ProxiedRequest>),
    TooLate,
}

impl ProxiedRequest {
    /// Returns whether the request can change state.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// State of a server that does not work as it should, until it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Connections break before a request is applied.
    Away,
    /// Requests are not applied, and no response comes on connections that stay open.
    Silent,
    /// Requests are applied, and their responses are lost.
    ResponsesLost,
    /// Each request waits this long before it is applied.
    Slow(Duration),
}

/// A running proxy, stopped when dropped.
pub struct Proxy {
    pub endpoint: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: String,
    client: Client<HttpConnector, Body>,
    passed_requests: Mutex<Vec<ProxiedRequest>>,
    received: Mutex<Vec<(u16, String)>>,
    /// Whether the proxy answers as if the server were down.
    down: AtomicBool,
    /// Whether one request in five fails, each in another way.
    is_faulty: AtomicBool,
    requests: AtomicUsize,
    fault_count: AtomicUsize,
    /// Seconds by which the `Date` header of responses is ahead.
    ahead: AtomicI64,
    cut: Mutex<Option<Cut>>,
    denied: Mutex<Option<RequestFilter>>,
    trouble: watch::Sender<Option<Trouble>>,
}

/// Predicate that selects requests.
type RequestFilter = Box<dyn Fn(&Parts) -> bool + Send>;

/// Injected fault. The server may have applied the request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A `SlowDown` error; the request is not applied.
    SlowDown,
    /// The connection breaks before the request is applied.
    Reset,
    /// The request is applied, and the response is truncated.
    TruncatedResponse,
    /// The request is applied, and the response is lost.
    LostResponse,
    /// The request is applied, and no response comes on a connection that stays open.
    Silence,
}

impl Proxy {
    /// Starts a proxy on `port` of the server's own host, which pods can reach too.
    pub async fn start(target: &str, port: u16) -> Self {
        let host = url::Url::parse(target).unwrap().host_str().unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind((host.as_str(), port)).await.unwrap();
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            passed_requests: Mutex::default(),
            received: Mutex::default(),
            down: AtomicBool::default(),
            is_faulty: AtomicBool::default(),
            requests: AtomicUsize::default(),
            fault_count: AtomicUsize::default(),
            ahead: AtomicI64::default(),
            cut: Mutex::default(),
            denied: Mutex::default(),
            trouble: watch::Sender::default(),
        });
        let app = axum::Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint: format!("http://{host}:{port}"), shared, task }
    }

    /// Makes the proxy answer as if the server were down, or forward again.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// Makes one request in five fail, or forwards all again.
    pub fn set_faulty(&self, is_faulty: bool) {
        self.shared.is_faulty.store(is_faulty, Ordering::SeqCst);
    }

    /// Lets the server have this trouble, or none. Silent connections break when the trouble changes.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.shared.trouble.send_replace(trouble);
    }

    /// Sets the `Date` header of responses ahead by `seconds`, as a store with a wrong clock does.
    pub fn set_date_ahead(&self, seconds: i64) {
        self.shared.ahead.store(seconds, Ordering::SeqCst);
    }

    /// Forwards `requests` more requests that `matches` selects. The receiver gets the last one, which the server
    /// applies and whose response is withheld. Matching requests after it are not forwarded.
    pub fn cut_after(
        &self,
        requests: usize,
        matches: impl Fn(&Parts) -> bool + Send + 'static,
    ) -> oneshot::Receiver<ProxiedRequest> {
        let (last, receiver) = oneshot::channel();
        *self.shared.cut.lock().unwrap() =
            Some(Cut { matches: Box::new(matches), left: requests, last: Some(last) });
        receiver
    }

    /// Answers these requests with `AccessDenied`, as a store does if a permission is missing.
    pub fn deny(&self, is_denied: impl Fn(&Parts) -> bool + Send + 'static) {
        *self.shared.denied.lock().unwrap() = Some(Box::new(is_denied));
    }

    /// Forwards all requests again.
    pub fn clear_faults(&self) {
        *self.shared.cut.lock().unwrap() = None;
        *self.shared.denied.lock().unwrap() = None;
    }

    /// Returns the number of injected faults.
    pub fn fault_count(&self) -> usize {
        self.shared.fault_count.load(Ordering::SeqCst)
    }

    /// Returns all requests ever received, answered or not: client port, method and path.
    pub fn received(&self) -> Vec<(u16, String)> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Returns the requests that reached the server since the last call.
    pub fn take(&self) -> Vec<ProxiedRequest> {
        std::mem::take(&mut self.shared.passed_requests.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let path_and_query = request.uri().path_and_query().map_or("/".to_owned(), ToString::to_string);
    let received = (peer.port(), format!("{} {path_and_query}", request.method()));
    shared.received.lock().unwrap().push(received);
    let (parts, body) = request.into_parts();
    if shared.denies(&parts) {
        let body = "<Error><Code>AccessDenied</Code></Error>";
        return (StatusCode::FORBIDDEN, body).into_response();
    }
    let (access_key, turn) = (access_key(&parts), shared.turn(&parts));
    let mut request = Request::from_parts(parts, body);
    if matches!(turn, Turn::TooLate) {
        return std::future::pending().await;
    }
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let trouble = *shared.trouble.borrow();
    match trouble {
        Some(Trouble::Away) => close_connection(),
        Some(Trouble::Silent) => {
            let _ = shared.trouble.subscribe().wait_for(|now| *now != trouble).await;
            close_connection();
        }
        Some(Trouble::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Trouble::ResponsesLost) | None => {}
    }
    let fault = shared.fault();
    match fault {
        Some(Fault::SlowDown) => {
            let body = "<Error><Code>SlowDown</Code></Error>";
            return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
        }
        Some(Fault::Reset) => close_connection(),
        _ => (),
    }
    let method = request.method().to_string();
    // The Host header stays: it is part of what was signed.
    *request.uri_mut() = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    let mut response = match shared.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    };
    let ahead = shared.ahead.load(Ordering::SeqCst);
    if ahead != 0 {
        let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
        response.headers_mut().insert("date", date.parse().unwrap());
    }
    let status = response.status().as_u16();
    let passed = ProxiedRequest { method, path_and_query, status, access_key };
    shared.passed_requests.lock().unwrap().push(passed.clone());
    if let Turn::Last(last) = turn {
        let _ = last.send(passed);
        return std::future::pending().await;
    }
    if trouble == Some(Trouble::ResponsesLost) {
        close_connection();
    }
    match fault {
        None => response,
        Some(Fault::LostResponse) => close_connection(),
        Some(Fault::Silence) => std::future::pending().await,
        Some(_) => {
            let whole = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
            truncated_response(whole.slice(..whole.len() / 2))
        }
    }
}

/// Closes the connection without a response: the server drops a connection when its handler unwinds.
fn close_connection() -> ! {
    std::panic::resume_unwind(Box::new("connection closed"))
}

/// Returns a response that ends early: the connection is closed in the middle of its body.
fn truncated_response(begun: Bytes) -> Response {
    let truncated = Err(std::io::Error::other("truncated"));
    Body::from_stream(futures::stream::iter([Ok(begun), truncated])).into_response()
}

impl Shared {
    fn denies(&self, parts: &Parts) -> bool {
        let denied = self.denied.lock().unwrap();
        denied.as_ref().is_some_and(|is_denied| is_denied(parts))
    }

    fn turn(&self, parts: &Parts) -> Turn {
        let mut cut = self.cut.lock().unwrap();
        let Some(cut) = cut.as_mut().filter(|cut| (cut.matches)(parts)) else {
            return Turn::Free;
        };
        cut.left = cut.left.saturating_sub(1);
        if cut.left > 0 {
            return Turn::Free;
        }
        cut.last.take().map_or(Turn::TooLate, Turn::Last)
    }

    fn fault(&self) -> Option<Fault> {
        if !self.is_faulty.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if number % 5 != 4 {
            return None;
        }
        let all = [Fault::SlowDown, Fault::Reset, Fault::TruncatedResponse, Fault::LostResponse];
        let number = self.fault_count.fetch_add(1, Ordering::SeqCst);
        // Each silence costs five seconds of waiting.
        let is_silent = number % 9 == 8;
        Some(if is_silent { Fault::Silence } else { all[number % all.len()] })
    }
}
