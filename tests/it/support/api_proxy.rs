//! A proxy for the Kubernetes API server that fails as API servers do: it restarts, no longer has a version, freezes, is behind,
//! and has objects in unknown forms.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Collected};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use kube::Client;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::cluster::kubeconfig_for;

/// Changes an object on its way to the client.
type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;
/// Selects requests.
type RequestFilter = Box<dyn Fn(&Parts) -> bool + Send>;

/// Form of the answer to a watch from a version that the API server no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneForm {
    /// The HTTP status 410.
    Status,
    /// An event of type ERROR in a stream that began with 200.
    Event,
}

/// Order to an open watch.
#[derive(Clone, Copy, Debug)]
enum Order {
    End,
    /// Delivers nothing more, and stays open.
    Freeze,
    /// Delivers what it held back, if it may.
    Deliver,
}

/// Faults of the watches and lists of one kind.
#[derive(Clone, Default)]
struct KindFaults {
    /// Watches are answered with 503.
    is_unwatchable: bool,
    /// Watches from an older version are answered with 410.
    gone_before: Option<(u64, GoneForm)>,
    /// Number of events by which watches are behind.
    lag: usize,
    edit: Option<Edit>,
    /// Answer to the lists of watchers.
    old_list: Option<Value>,
}

impl Shared {
    fn turn(&self, parts: &Parts) -> Turn {
        let is_write = parts.method != "GET" && !parts.uri.path().contains("/leases/");
        let mut cut = self.cut.lock().unwrap();
        let Some(cut) = cut.as_mut().filter(|_| is_write) else { return Turn::Free };
        cut.left = cut.left.saturating_sub(1);
        if cut.left > 0 {
            return Turn::Free;
        }
        cut.last.take().map_or(Turn::TooLate, Turn::Last)
    }
}

impl KindFaults {
    /// Returns `event` as the client gets it; `None`: not at all.
    fn pass(&self, mut event: Value, is_first: bool) -> Option<Value> {
        if event["type"] == "BOOKMARK" {
            // It would skip the events that are held back.
            return is_first.then_some(event);
        }
        if let Some(edit) = &self.edit {
            edit(&mut event["object"]);
        }
        Some(event)
    }
}

/// A limit on the number of writes that are forwarded.
struct Cut {
    left: usize,
    /// Receives the last write.
    last: Option<oneshot::Sender<String>>,
}

/// How a [`Cut`] treats a request.
enum Turn {
    Free,
    /// Forwarded, but its answer is withheld.
    Last(oneshot::Sender<String>),
    TooLate,
}

struct OpenWatch {
    kind: String,
    orders: Sender<Order>,
}

struct Shared {
    client: Client,
    faults: Mutex<HashMap<String, KindFaults>>,
    watches: Mutex<Vec<OpenWatch>>,
    /// Requests whose answers stop amid their bodies.
    stalled: Mutex<Option<RequestFilter>>,
    /// Stopped answers that the client still waits for.
    stalled_count: AtomicUsize,
    cut: Mutex<Option<Cut>>,
    replay_count: AtomicUsize,
    /// Method, path and query of each request.
    requests: Mutex<Vec<String>>,
    connections: Mutex<Connections>,
}

struct Connections {
    is_down: bool,
    accepted: usize,
    /// Ends the open connections.
    end: CancellationToken,
}

/// A running proxy, stopped when dropped.
pub struct ApiProxy {
    /// Path of a kubeconfig for the proxy.
    pub kubeconfig: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl ApiProxy {
    /// Starts a proxy for the API server of `client`, with the rights of `client` for everybody on this machine.
    pub async fn start(client: Client) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(
            &path,
            kubeconfig_for(&format!("http://{}", listener.local_addr().unwrap())).to_string(),
        )
        .unwrap();
        let connections = Connections { is_down: false, accepted: 0, end: CancellationToken::new() };
        let shared = Arc::new(Shared {
            client,
            faults: Mutex::default(),
            watches: Mutex::default(),
            stalled: Mutex::default(),
            stalled_count: AtomicUsize::default(),
            cut: Mutex::default(),
            replay_count: AtomicUsize::default(),
            requests: Mutex::default(),
            connections: Mutex::new(connections),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { kubeconfig: path.display().to_string(), shared, task, _folder: folder }
    }

    /// Drops all connections, and each new one at once; or accepts them again.
    pub fn set_down(&self, is_down: bool) {
        let mut connections = self.shared.connections.lock().unwrap();
        connections.is_down = is_down;
        if is_down {
            std::mem::take(&mut connections.end).cancel();
        }
    }

    /// Returns the number of connections that were attempted so far.
    pub fn connection_count(&self) -> usize {
        self.shared.connections.lock().unwrap().accepted
    }

    /// Returns the requests so far: method, path and query.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Ends the watches of the kind `plural`, and answers new ones with 503.
    pub fn begin_gap(&self, plural: &str) {
        self.change(plural, |faults| faults.is_unwatchable = true);
        self.order(plural, Order::End);
    }

    /// Allows watches of the kind again, but not from a version before `version`.
    pub fn end_gap(&self, plural: &str, version: u64, form: GoneForm) {
        self.change(plural, |faults| {
            faults.is_unwatchable = false;
            faults.gone_before = Some((version, form));
        });
    }

    /// Delivers nothing more to the open watches of the kind, which stay open.
    pub fn freeze_watches(&self, plural: &str) {
        self.order(plural, Order::Freeze);
    }

    /// Forwards the requests that `matches` selects, and stops amid the bodies of their answers. `None`: none any more.
    pub fn stall(&self, matches: Option<RequestFilter>) {
        *self.shared.stalled.lock().unwrap() = matches;
    }

    /// Returns the number of stopped answers that the operator still waits for.
    pub fn stalled_count(&self) -> usize {
        self.shared.stalled_count.load(Ordering::SeqCst)
    }

    /// Forwards `writes` more writes, without those of Leases. The receiver gets the last one, which the API server applies and
    /// whose answer is withheld. Writes after it are not forwarded.
    pub fn cut_after(&self, writes: usize) -> oneshot::Receiver<String> {
        let (last, receiver) = oneshot::channel();
        *self.shared.cut.lock().unwrap() = Some(Cut { left: writes, last: Some(last) });
        receiver
    }

    /// Forwards all writes again.
    pub fn clear_cut(&self) {
        *self.shared.cut.lock().unwrap() = None;
    }

    /// Holds the last `events` of each watch of the kind back.
    pub fn set_lag(&self, plural: &str, events: usize) {
        self.change(plural, |faults| faults.lag = events);
        self.order(plural, Order::Deliver);
    }

    /// Changes each object of the kind on its way to the client.
    pub fn edit(&self, plural: &str, edit: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.change(plural, |faults| faults.edit = Some(Arc::new(edit)));
    }

    /// Answers the lists of watchers of the kind with `list`; `None`: as the API server does.
    pub fn replay_list(&self, plural: &str, list: Option<Value>) {
        self.change(plural, |faults| faults.old_list = list);
    }

    /// Returns the number of lists that were answered with an old one.
    pub fn replay_count(&self) -> usize {
        self.shared.replay_count.load(Ordering::SeqCst)
    }

    fn change(&self, plural: &str, change: impl FnOnce(&mut KindFaults)) {
        change(self.shared.faults.lock().unwrap().entry(plural.to_owned()).or_default());
    }

    fn order(&self, plural: &str, order: Order) {
        let mut watches = self.shared.watches.lock().unwrap();
        watches.retain(|watch| !watch.orders.is_closed());
        for watch in watches.iter().filter(|watch| watch.kind == plural) {
            // It may end at this moment.
            let _ = watch.orders.try_send(order);
        }
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.set_down(true);
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let end = {
            let mut connections = shared.connections.lock().unwrap();
            connections.accepted += 1;
            if connections.is_down {
                continue;
            }
            connections.end.clone()
        };
        let serving = serve(connection, shared.clone());
        tokio::spawn(async move { end.run_until_cancelled(serving).await });
    }
}

async fn serve(connection: TcpStream, shared: Arc<Shared>) {
    let app = axum::Router::new().fallback(forward).with_state(shared);
    // The client may end the connection at any time.
    let _ =
        http1::Builder::new().serve_connection(TokioIo::new(connection), TowerToHyperService::new(app)).await;
}

/// Kind of the objects of a request, as the plural in its path.
fn plural(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(2);
    parts.next().map(str::to_owned)
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    shared.requests.lock().unwrap().push(format!("{} {target}", parts.method));
    let kind = plural(parts.uri.path()).unwrap_or_default();
    let faults = shared.faults.lock().unwrap().get(&kind).cloned().unwrap_or_default();
    let query: HashMap<_, _> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let is_watch = query.contains_key("watch");
    if is_watch && faults.is_unwatchable {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let version = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    if is_watch
        && let Some((oldest, form)) = faults.gone_before
        && version < oldest
    {
        return gone(form);
    }
    // Only watchers read in pages.
    if parts.method == "GET"
        && !is_watch
        && query.get("limit").is_some_and(|limit| limit != "1")
        && let Some(list) = &faults.old_list
    {
        shared.replay_count.fetch_add(1, Ordering::SeqCst);
        return json_response(StatusCode::OK, list);
    }
    let turn = shared.turn(&parts);
    if matches!(turn, Turn::TooLate) {
        return std::future::pending().await;
    }
    let write = format!("{} {target}", parts.method);
    let is_stalled = shared.stalled.lock().unwrap().as_ref().is_some_and(|matches| matches(&parts));
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let request = Request::from_parts(parts, kube::client::Body::from(body));
    let Ok(answer) = shared.client.send(request).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if is_watch && answer.status().is_success() {
        return watch(&shared, kind, answer);
    }
    let (parts, body) = answer.into_parts();
    let mut bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    if let Turn::Last(last) = turn {
        let _ = last.send(write);
        return std::future::pending().await;
    }
    if is_stalled {
        return stalled(shared, parts.status, bytes);
    }
    if let Some(edit) = &faults.edit
        && let Ok(mut document) = serde_json::from_slice::<Value>(&bytes)
    {
        match document.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => items.iter_mut().for_each(|object| edit(object)),
            None => edit(&mut document),
        }
        bytes = document.to_string().into();
    }
    let mut response = (parts.status, bytes).into_response();
    if let Some(type_) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, type_.clone());
    }
    response
}

fn json_response(status: StatusCode, document: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

fn gone(form: GoneForm) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version",
    });
    match form {
        GoneForm::Status => json_response(StatusCode::GONE, &status),
        GoneForm::Event => json_response(StatusCode::OK, &json!({"type": "ERROR", "object": status})),
    }
}

/// An answer that has stopped.
struct Stalled(Arc<Shared>);

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.stalled_count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the first half of `bytes`, and then nothing on a connection that stays open.
fn stalled(shared: Arc<Shared>, status: StatusCode, bytes: Bytes) -> Response {
    shared.stalled_count.fetch_add(1, Ordering::SeqCst);
    let open = Stalled(shared);
    let begun = bytes.slice(..bytes.len() / 2);
    let body = stream::iter([begun]).chain(stream::pending()).map(move |part| {
        let _open = &open;
        Ok::<_, std::io::Error>(part)
    });
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

fn watch(shared: &Arc<Shared>, kind: String, answer: Response<kube::client::Body>) -> Response {
    let (orders, received) = mpsc::channel(16);
    shared.watches.lock().unwrap().push(OpenWatch { kind: kind.clone(), orders });
    let (sender, lines) = mpsc::channel::<Bytes>(16);
    let lines = stream::unfold(lines, async |mut lines| Some((lines.recv().await?, lines)));
    tokio::spawn(forward_events(shared.clone(), kind, answer, received, sender));
    Body::from_stream(lines.map(Ok::<_, std::io::Error>)).into_response()
}

async fn forward_events(
    shared: Arc<Shared>,
    kind: String,
    answer: Response<kube::client::Body>,
    mut orders: Receiver<Order>,
    client: Sender<Bytes>,
) {
    let mut chunks = answer.into_body().into_data_stream();
    let (mut begun, mut held_back) = (Vec::new(), VecDeque::new());
    loop {
        tokio::select! {
            () = client.closed() => return,
            order = orders.recv() => match order {
                Some(Order::Freeze) => return client.closed().await,
                Some(Order::Deliver) => {}
                Some(Order::End) | None => return,
            },
            chunk = chunks.next() => {
                let Some(Ok(chunk)) = chunk else { return };
                begun.extend_from_slice(&chunk);
                while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = begun.drain(..=end).collect();
                    let event = serde_json::from_slice(&line).unwrap();
                    let faults = shared.faults.lock().unwrap().get(&kind).cloned().unwrap_or_default();
                    held_back.extend(faults.pass(event, held_back.is_empty()));
                }
            }
        }
        let lag = shared.faults.lock().unwrap().get(&kind).map_or(0, |faults| faults.lag);
        while held_back.len() > lag
            && let Some(event) = held_back.pop_front()
        {
            if client.send(format!("{event}\n").into()).await.is_err() {
                return;
            }
        }
    }
}
