//! A proxy before a server, S3's or Kubernetes' API's, that remembers what was asked and fails as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::oneshot;

/// A request that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub path_and_query: String,
    pub status: u16,
    /// Whose credentials signed it, where it is signed.
    pub access_key: Option<String>,
}

/// The access key of a signed request.
pub fn access_key(parts: &Parts) -> Option<String> {
    let signed = parts.headers.get("authorization")?.to_str().ok()?;
    let (_, credential) = signed.split_once("Credential=")?;
    Some(credential.split_once('/')?.0.to_owned())
}

/// After so many requests nothing more is let through.
struct Cut {
    counts: RequestFilter,
    left: usize,
    /// Who is told of the last one.
    last: Option<oneshot::Sender<Seen>>,
}

/// What a request is to a [`Cut`].
enum Turn {
    Free,
    /// It is done, and its answer is never given.
    Last(oneshot::Sender<Seen>),
    TooLate,
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
    arrived: Mutex<Vec<(u16, String)>>,
    /// Whether the server is to look as if it were down.
    down: AtomicBool,
    /// Whether one request in five is to fail, each in another way.
    stumbling: AtomicBool,
    requests: AtomicUsize,
    stumbled: AtomicUsize,
    /// By how many seconds answers are dated ahead.
    ahead: AtomicI64,
    cut: Mutex<Option<Cut>>,
    refused: Mutex<Option<RequestFilter>>,
}

/// Which requests something is about.
type RequestFilter = Box<dyn Fn(&Parts) -> bool + Send>;

/// How a request fails that the server may have done.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is asked to come back later; nothing was done.
    SlowDown,
    /// The connection breaks before anything was done.
    Reset,
    /// It was done, and the answer breaks off in the middle.
    HalfAnswer,
    /// It was done, and the answer is lost.
    AnswerLost,
    /// It was done, and the answer never comes, on a connection that stays.
    Silence,
}

impl Proxy {
    /// Listens at `port` on the server's own host, which pods reach too.
    pub async fn start(target: &str, port: u16) -> Self {
        let host = url::Url::parse(target).unwrap().host_str().unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind((host.as_str(), port)).await.unwrap();
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            seen: Mutex::default(),
            arrived: Mutex::default(),
            down: AtomicBool::default(),
            stumbling: AtomicBool::default(),
            requests: AtomicUsize::default(),
            stumbled: AtomicUsize::default(),
            ahead: AtomicI64::default(),
            cut: Mutex::default(),
            refused: Mutex::default(),
        });
        let app = axum::Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint: format!("http://{host}:{port}"), shared, task }
    }

    /// Makes the server look as if it were down, or up again.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// Makes one request in five fail, or lets all pass again.
    pub fn set_faulty(&self, stumbling: bool) {
        self.shared.stumbling.store(stumbling, Ordering::SeqCst);
    }

    /// Dates answers ahead, by so many seconds, as a store with a wrong clock does.
    pub fn set_date_ahead(&self, seconds: i64) {
        self.shared.ahead.store(seconds, Ordering::SeqCst);
    }

    /// Lets `requests` more of those through that `counts` says yes to. The server does the last of them, whose
    /// answer is held back for good, and of which is told; of those after it, nothing arrives.
    pub fn cut_after(
        &self,
        requests: usize,
        counts: impl Fn(&Parts) -> bool + Send + 'static,
    ) -> oneshot::Receiver<Seen> {
        let (last, told) = oneshot::channel();
        *self.shared.cut.lock().unwrap() =
            Some(Cut { counts: Box::new(counts), left: requests, last: Some(last) });
        told
    }

    /// Denies these requests, as a store does for want of a right.
    pub fn refuse(&self, is_refused: impl Fn(&Parts) -> bool + Send + 'static) {
        *self.shared.refused.lock().unwrap() = Some(Box::new(is_refused));
    }

    /// Lets all through again.
    pub fn mend(&self) {
        *self.shared.cut.lock().unwrap() = None;
        *self.shared.refused.lock().unwrap() = None;
    }

    /// How many requests failed by that.
    pub fn stumbled(&self) -> usize {
        self.shared.stumbled.load(Ordering::SeqCst)
    }

    /// All that ever arrived, answered or not: from which port, and what was asked.
    pub fn arrived(&self) -> Vec<(u16, String)> {
        self.shared.arrived.lock().unwrap().clone()
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

async fn forward(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let path_and_query = request.uri().path_and_query().map_or("/".to_owned(), ToString::to_string);
    let arrived = (peer.port(), format!("{} {path_and_query}", request.method()));
    shared.arrived.lock().unwrap().push(arrived);
    let (parts, body) = request.into_parts();
    if shared.refuses(&parts) {
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
    let fault = shared.fault();
    match fault {
        Some(Fault::SlowDown) => {
            let body = "<Error><Code>SlowDown</Code></Error>";
            return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
        }
        Some(Fault::Reset) => hang_up(),
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
    let seen = Seen { method, path_and_query, status, access_key };
    shared.seen.lock().unwrap().push(seen.clone());
    if let Turn::Last(told) = turn {
        let _ = told.send(seen);
        return std::future::pending().await;
    }
    match fault {
        None => response,
        Some(Fault::AnswerLost) => hang_up(),
        Some(Fault::Silence) => std::future::pending().await,
        Some(_) => {
            let whole = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
            broken_off(whole.slice(..whole.len() / 2))
        }
    }
}

/// Ends the connection without a word: the server drops one whose handler unwinds.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("hung up"))
}

/// An answer that ends before it is whole: the connection is closed on it.
fn broken_off(begun: Bytes) -> Response {
    let broken = Err(std::io::Error::other("broken off"));
    Body::from_stream(futures::stream::iter([Ok(begun), broken])).into_response()
}

impl Shared {
    fn refuses(&self, parts: &Parts) -> bool {
        let refused = self.refused.lock().unwrap();
        refused.as_ref().is_some_and(|is_refused| is_refused(parts))
    }

    fn turn(&self, parts: &Parts) -> Turn {
        let mut cut = self.cut.lock().unwrap();
        let Some(cut) = cut.as_mut().filter(|cut| (cut.counts)(parts)) else {
            return Turn::Free;
        };
        cut.left = cut.left.saturating_sub(1);
        if cut.left > 0 {
            return Turn::Free;
        }
        cut.last.take().map_or(Turn::TooLate, Turn::Last)
    }

    fn fault(&self) -> Option<Fault> {
        if !self.stumbling.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if number % 5 != 4 {
            return None;
        }
        let all = [Fault::SlowDown, Fault::Reset, Fault::HalfAnswer, Fault::AnswerLost];
        let number = self.stumbled.fetch_add(1, Ordering::SeqCst);
        // Each costs five seconds of waiting.
        let is_silent = number % 9 == 8;
        Some(if is_silent { Fault::Silence } else { all[number % all.len()] })
    }
}
