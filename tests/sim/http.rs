//! The network between the SDK's client and the simulated store: what is sent arrives after a while, or never, and so do
//! answers. Whoever gives up waiting does not call back what is under way.

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

use super::ask::{Ask, RawResponse, written};
use super::kind::NetworkFault;
use super::mutations::Mutation;
use super::store::{By, No, Who};
use super::temper::Theme;
use super::world::World;

/// All that there is, of which a step at a time is taken.
pub type Shared = Arc<Mutex<World>>;

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More requests than any look takes.
const MOST: u64 = 20_000;
/// How long a signature is valid.
const SIGNATURE_LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// One process that asks: it may die at a request.
#[derive(Debug, Default)]
pub struct ProcessLife {
    /// So many more requests, and it is dead; `None`: it lives.
    pub left: Mutex<Option<u64>>,
    pub died: Notify,
}

impl ProcessLife {
    /// Counts a request; whether it is the last.
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

struct Line {
    world: Shared,
    who: Who,
    life: Arc<ProcessLife>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("who", &self.who).finish_non_exhaustive()
    }
}

/// A client for `who`, whose requests go to the store of `world`.
pub fn client(world: &Shared, who: Who, life: &Arc<ProcessLife>) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Line { world: world.clone(), who, life: life.clone() });
    http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone())
}

/// What is known of a request when it is sent.
struct Sent {
    ask: Ask,
    by: Who,
    at: Timestamp,
    signed: Option<Timestamp>,
    mishap: NetworkFault,
    there: Duration,
    back: Duration,
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name: &str| request.headers().get(name).map(str::to_owned);
        let (_, target) = request
            .uri()
            .split_once("://")
            .map_or(("", request.uri()), |(_, rest)| rest.split_at(rest.find('/').unwrap_or(rest.len())));
        let body = request.body().bytes().unwrap_or_default();
        let ask = Ask::read(request.method(), target, header, body);
        let signed = header("x-amz-date").and_then(|date| {
            let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
            at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
        });
        let mut world = lock(&self.world);
        let is_last = self.life.is_last() || world.crashes_now(self.who, &ask);
        world.step += 1;
        if let Who::Operator(n) = self.who {
            world.asked[n] += 1;
            if world.asked[n] == MOST {
                let told = ask.told();
                world.fail(format!("a look never ends: after {MOST} requests, {told}"));
            }
        }
        if world.is_over() {
            return HttpConnectorFuture::new(std::future::pending());
        }
        if is_last {
            world.maybe_resolve_on_crash(&ask);
        }
        let sent = world.send(ask, self.who, signed, is_last);
        // One that dies may have sent it, or not.
        let is_sent = !is_last || world.rng.bool();
        drop(world);
        let (answer, answered) = oneshot::channel();
        if is_sent {
            tokio::spawn(carry(self.world.clone(), sent, answer));
        }
        if is_last {
            self.life.died.notify_one();
            return HttpConnectorFuture::new(std::future::pending());
        }
        HttpConnectorFuture::new(async move {
            match answered.await {
                Ok(answer) => Ok(answer),
                Err(_) => Err(ConnectorError::io("the connection was lost".into())),
            }
        })
    }
}

async fn carry(world: Shared, sent: Sent, answer: oneshot::Sender<HttpResponse>) {
    sleep(sent.there).await;
    if sent.mishap == NetworkFault::Lost {
        return;
    }
    let wire = lock(&world).arrive(&sent);
    sleep(sent.back).await;
    if sent.mishap == NetworkFault::AnswerLost {
        return;
    }
    let (date, is_believed) = {
        let world = lock(&world);
        (world.date(sent.by), world.is_broken(Mutation::HalfBelieved))
    };
    // Who asked may have given up.
    let is_cut = sent.mishap == NetworkFault::Truncated && !is_believed;
    let _ = answer.send(response(wire, date, is_cut));
}

fn response(mut wire: RawResponse, date: Timestamp, is_cut: bool) -> HttpResponse {
    if is_cut {
        wire.body.truncate(wire.body.len() / 2);
    }
    let mut response =
        HttpResponse::new(StatusCode::try_from(wire.status).unwrap(), SdkBody::from(wire.body));
    let headers = response.headers_mut();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert("date", date);
    if let Some(id) = wire.version {
        headers.insert("x-amz-version-id", id);
    }
    response
}

impl World {
    /// What an answer says that the time is.
    fn date(&self, who: Who) -> Timestamp {
        match who {
            Who::Operator(n) if self.is_broken(Mutation::DatesAgree) => self.operator_now(n),
            _ => self.store_now(),
        }
    }

    fn send(&mut self, ask: Ask, by: Who, signed: Option<Timestamp>, is_last: bool) -> Sent {
        let weather = &self.temper.weather;
        let is_of_marks = matches!(
            ask,
            Ask::GetTags { .. } | Ask::PutTags { .. } | Ask::GetHold { .. } | Ask::PutHold { .. }
        );
        let weather = match by {
            Who::Recorder => &weather.of_recorders,
            _ if is_of_marks && weather.marks.per_mille > 0 => &weather.marks,
            _ => &weather.of_operators,
        };
        // The last of a process often lies somewhere: that is why it is believed to be dead.
        let mishap =
            if is_last && self.rng.bool() { NetworkFault::Slow } else { weather.mishap(&mut self.rng) };
        let millis = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(1..40));
        let (mut there, mut back) = (millis(&mut self.rng), millis(&mut self.rng));
        if mishap == NetworkFault::Slow {
            let is_long =
                matches!(self.temper.theme, Theme::Takeovers | Theme::Uploads | Theme::LateProtection);
            let long = Duration::from_millis(match self.rng.u32(if is_long { 0..2 } else { 0..4 }) {
                // It lies somewhere until nearly everybody has forgotten it.
                0 => self.rng.u64(20_000..2_000_000),
                _ => self.rng.u64(5_000..20_000),
            });
            if self.rng.bool() {
                there = long;
            } else {
                back = long;
            }
        }
        let (at, told) = (self.now(), ask.told());
        self.say(|| format!("{by:?} sends {told} ({mishap:?})"));
        Sent { ask, by, at, signed, mishap, there, back }
    }

    /// A request arrives at the store.
    fn arrive(&mut self, sent: &Sent) -> RawResponse {
        let now = self.store_now();
        let by = By { who: sent.by, now, sent: sent.at };
        let is_forever = self.is_broken(Mutation::SignatureForever);
        let is_stale = !is_forever
            && sent.signed.is_some_and(|signed| now.duration_since(signed).abs() > SIGNATURE_LIFETIME);
        let answer = match sent.mishap {
            _ if is_stale => Err(No(403, "RequestTimeTooSkewed")),
            NetworkFault::SlowDown => Err(No(503, "SlowDown")),
            NetworkFault::BadRequest => Err(No(400, "BadRequest")),
            NetworkFault::AppliedThenFailed => {
                let _ = self.served(by, &sent.ask);
                Err(No(500, "InternalError"))
            }
            _ => self.served(by, &sent.ask),
        };
        self.see();
        if let Who::Operator(n) = sent.by {
            self.meanwhile(n, &sent.ask);
        }
        let answer = self.mutate_response(&sent.ask, sent.mishap, answer);
        let told = sent.ask.told();
        let outcome = answer.as_ref().err().copied();
        self.say(|| format!("the store has {told}: {outcome:?}"));
        self.see();
        written(&self.store.kind, &sent.ask, &answer)
    }
}
