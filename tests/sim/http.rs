//! The network between the SDK's client and the simulated store. Requests and responses arrive after a delay, or
//! never. A client that gives up does not cancel a pending request.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::mutations::Mutation;
use super::profile::Theme;
use super::store::{Actor, Caller, StoreError};
use super::store_api::{RawResponse, StoreRequest, to_raw_response};
use super::store_kind::NetworkFault;
use super::world::World;

/// The shared world. Tasks lock it for one step at a time.
pub type Shared = Arc<Mutex<World>>;

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of requests that no reconcile exceeds.
const MAX_REQUESTS: u64 = 20_000;
/// Validity of a request's signature.
const SIGNATURE_LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// Life of a process, which may crash at a request.
#[derive(Debug, Default)]
pub struct ProcessLife {
    /// Number of requests until the crash, or `None`.
    pub left: Mutex<Option<u64>>,
    pub died: Notify,
}

impl ProcessLife {
    /// Counts a request and returns whether it is the last.
    pub fn is_last(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.as_mut() {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                *left == 0
            }
            None => false,
        }
    }
}

struct SimulatedConnector {
    world: Shared,
    actor: Actor,
    life: Arc<ProcessLife>,
}

impl fmt::Debug for SimulatedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedConnector").field("who", &self.actor).finish_non_exhaustive()
    }
}

/// Returns an HTTP client with requests by `actor` to the store of `world`.
pub fn client(world: &Shared, actor: Actor, life: &Arc<ProcessLife>) -> SharedHttpClient {
    let connector =
        SharedHttpConnector::new(SimulatedConnector { world: world.clone(), actor, life: life.clone() });
    http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone())
}

/// A request in the network.
struct Sent {
    request: StoreRequest,
    by: Actor,
    at: Timestamp,
    signed: Option<Timestamp>,
    fault: NetworkFault,
    delay_to_store: Duration,
    delay_to_client: Duration,
}

impl HttpConnector for SimulatedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name: &str| request.headers().get(name).map(str::to_owned);
        let (_, target) = request
            .uri()
            .split_once("://")
            .map_or(("", request.uri()), |(_, rest)| rest.split_at(rest.find('/').unwrap_or(rest.len())));
        let body = request.body().bytes().unwrap_or_default();
        let request = StoreRequest::parse(request.method(), target, header, body);
        let signed = header("x-amz-date").and_then(|date| {
            let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
            at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
        });
        let mut world = lock(&self.world);
        let is_last = self.life.is_last() || world.crashes_now(self.actor, &request);
        world.step += 1;
        if let Actor::Operator(n) = self.actor {
            world.requests_in_reconcile[n] += 1;
            if world.requests_in_reconcile[n] == MAX_REQUESTS {
                let description = request.describe();
                world.fail(format!("a reconcile never ends: after {MAX_REQUESTS} requests, {description}"));
            }
        }
        if world.has_violations() {
            return HttpConnectorFuture::new(std::future::pending());
        }
        if is_last {
            world.maybe_resolve_on_crash(&request);
        }
        let sent = world.send(request, self.actor, signed, is_last);
        // A crashing process may or may not have sent its last request.
        let is_sent = !is_last || world.rng.bool();
        drop(world);
        let (response, receiver) = oneshot::channel();
        if is_sent {
            tokio::spawn(transmit(self.world.clone(), sent, response));
        }
        if is_last {
            self.life.died.notify_one();
            return HttpConnectorFuture::new(std::future::pending());
        }
        HttpConnectorFuture::new(async move {
            match receiver.await {
                Ok(response) => Ok(response),
                Err(_) => Err(ConnectorError::io("the connection was lost".into())),
            }
        })
    }
}

async fn transmit(world: Shared, sent: Sent, response: oneshot::Sender<HttpResponse>) {
    sleep(sent.delay_to_store).await;
    if sent.fault == NetworkFault::Lost {
        return;
    }
    let raw = lock(&world).deliver(&sent);
    sleep(sent.delay_to_client).await;
    if sent.fault == NetworkFault::AnswerLost {
        return;
    }
    let (date, is_believed) = {
        let world = lock(&world);
        (world.response_date(sent.by), world.is_broken(Mutation::HalfBelieved))
    };
    // The client may have given up.
    let is_truncated = sent.fault == NetworkFault::Truncated && !is_believed;
    let _ = response.send(to_http_response(raw, date, is_truncated));
}

fn to_http_response(mut raw: RawResponse, date: Timestamp, is_truncated: bool) -> HttpResponse {
    if is_truncated {
        raw.body.truncate(raw.body.len() / 2);
    }
    let mut response = HttpResponse::new(StatusCode::try_from(raw.status).unwrap(), SdkBody::from(raw.body));
    let headers = response.headers_mut();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert("date", date);
    if let Some(id) = raw.version {
        headers.insert("x-amz-version-id", id);
    }
    response
}

impl World {
    /// Returns the `Date` of responses.
    fn response_date(&self, actor: Actor) -> Timestamp {
        match actor {
            Actor::Operator(n) if self.is_broken(Mutation::DatesAgree) => self.operator_now(n),
            _ => self.store_now(),
        }
    }

    fn send(&mut self, request: StoreRequest, by: Actor, signed: Option<Timestamp>, is_last: bool) -> Sent {
        let fault_rates = &self.profile.fault_rates;
        let is_of_marks = matches!(
            request,
            StoreRequest::GetTags { .. }
                | StoreRequest::PutTags { .. }
                | StoreRequest::GetHold { .. }
                | StoreRequest::PutHold { .. }
        );
        let fault_rates = match by {
            Actor::Recorder => &fault_rates.of_recorders,
            _ if is_of_marks && fault_rates.marks.per_mille > 0 => &fault_rates.marks,
            _ => &fault_rates.of_operators,
        };
        // The last request of a process is often delayed, which makes the process look dead.
        let fault =
            if is_last && self.rng.bool() { NetworkFault::Slow } else { fault_rates.fault(&mut self.rng) };
        let millis = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(1..40));
        let (mut delay_to_store, mut delay_to_client) = (millis(&mut self.rng), millis(&mut self.rng));
        if fault == NetworkFault::Slow {
            let is_long =
                matches!(self.profile.theme, Theme::Takeovers | Theme::Uploads | Theme::LateProtection);
            let long = Duration::from_millis(match self.rng.u32(if is_long { 0..2 } else { 0..4 }) {
                // It arrives after most timeouts have passed.
                0 => self.rng.u64(20_000..2_000_000),
                _ => self.rng.u64(5_000..20_000),
            });
            if self.rng.bool() {
                delay_to_store = long;
            } else {
                delay_to_client = long;
            }
        }
        let (at, description) = (self.now(), request.describe());
        self.log_trace(|| format!("{by:?} sends {description} ({fault:?})"));
        Sent { request, by, at, signed, fault, delay_to_store, delay_to_client }
    }

    /// Delivers a request to the store.
    fn deliver(&mut self, sent: &Sent) -> RawResponse {
        let now = self.store_now();
        let by = Caller { actor: sent.by, now, sent: sent.at };
        let is_forever = self.is_broken(Mutation::SignatureForever);
        let is_stale = !is_forever
            && sent.signed.is_some_and(|signed| now.duration_since(signed).abs() > SIGNATURE_LIFETIME);
        let response = match sent.fault {
            _ if is_stale => Err(StoreError(403, "RequestTimeTooSkewed")),
            NetworkFault::SlowDown => Err(StoreError(503, "SlowDown")),
            NetworkFault::BadRequest => Err(StoreError(400, "BadRequest")),
            NetworkFault::AppliedThenFailed => {
                let _ = self.serve(by, &sent.request);
                Err(StoreError(500, "InternalError"))
            }
            _ => self.serve(by, &sent.request),
        };
        self.check_effects();
        if let Actor::Operator(n) = sent.by {
            self.maybe_event(n, &sent.request);
        }
        let response = self.mutate_response(&sent.request, sent.fault, response);
        let description = sent.request.describe();
        let outcome = response.as_ref().err().copied();
        self.log_trace(|| format!("the store served {description}: {outcome:?}"));
        self.check_effects();
        to_raw_response(&self.store.kind, &sent.request, &response)
    }
}
