//! Requests that change marks and got no answer: they may still land.
//!
//! A request that timed out is tried again, and the pass goes on; the first may lie in a proxy or a gateway and land minutes
//! later. A legal hold that lands after a release would stay, and no hold would explain it. So it is remembered until its
//! signature is no longer valid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use tokio::time::Instant;

use super::key::{Class, Key};
use crate::protocol::cover::Cover;

/// How long a request may lie somewhere and still be taken: the validity of its signature (S3: fifteen minutes, Signature
/// Version 4, "Authenticating Requests").
pub const SIGNATURE: Duration = Duration::from_mins(15);
/// The code with which a store itself puts off a request, which it does not do then.
const SLOW_DOWN: &[u8] = b"<Code>SlowDown</Code>";
/// Requests remembered one by one. Of more, only that there are some.
const MOST: usize = 100_000;

/// See the module. Copies remember the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    /// By path and query: how many have no answer, and when the last was sent.
    of: HashMap<String, (u32, Instant)>,
    /// When the last was sent that has no room.
    others: Option<Instant>,
}

impl UnderWay {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, request: String, now: Instant) {
        let mut requests = self.requests();
        if requests.of.len() >= MOST {
            requests.of.retain(|_, (_, sent)| is_valid(*sent, now));
        }
        if requests.of.len() < MOST || requests.of.contains_key(&request) {
            let (count, last) = requests.of.entry(request).or_insert((0, now));
            let before = if is_valid(*last, now) { *count } else { 0 };
            (*count, *last) = (before + 1, now);
        } else {
            requests.others = Some(now);
        }
    }

    fn answered(&self, request: &str) {
        let mut requests = self.requests();
        match requests.of.get_mut(request) {
            Some((count, _)) if *count > 1 => *count -= 1,
            _ => drop(requests.of.remove(request)),
        }
    }

    /// How long a request may still land that changes a mark of something that `cover` is about, be it outside its window: what
    /// has a key that cannot be true may be held, too. `None`: there is none. What one of `others` covers as well is not counted:
    /// its marks stay, whatever lands.
    pub(crate) fn may_land(&self, bucket: &str, cover: &Cover, others: &[Cover]) -> Option<Duration> {
        self.last(|request| {
            // A key that cannot be read may be anything's.
            request.contains(bucket)
                && key(request).is_none_or(|key| {
                    cover.is_about(key.class(), key.source())
                        && !others.iter().any(|other| other.covers(&key.recording()))
                })
        })
    }

    /// How long any request may still land; zero: none.
    pub(crate) fn left(&self) -> Duration {
        self.last(|_| true).unwrap_or_default()
    }

    fn last(&self, counts: impl Fn(&str) -> bool) -> Option<Duration> {
        let now = Instant::now();
        let mut requests = self.requests();
        requests.of.retain(|_, (_, sent)| is_valid(*sent, now));
        let counted = requests.of.iter().filter(|(request, _)| counts(request));
        let sent = counted.map(|(_, (_, sent))| *sent).chain(requests.others);
        sent.filter(|sent| is_valid(*sent, now))
            .map(|sent| SIGNATURE.saturating_sub(now.duration_since(sent)))
            .max()
    }
}

fn is_valid(sent: Instant, now: Instant) -> bool {
    now.duration_since(sent) < SIGNATURE
}

/// What a request that changes a mark is remembered by; `None`: it changes none.
fn of(request: &HttpRequest) -> Option<String> {
    let (_, query) = request.uri().split_once('?')?;
    let is_mark = |part: &str| ["legal-hold", "tagging"].contains(&part.trim_end_matches('='));
    let changes = request.method() == "PUT" && query.split('&').any(is_mark);
    changes.then(|| request.uri().to_owned())
}

/// The recording that a request is about.
fn key(request: &str) -> Option<Key> {
    let (path, _) = request.split_once('?')?;
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    let begins = |class: Class| path.find(&format!("/{}", class.prefix()));
    let from = Class::ALL.into_iter().filter_map(begins).min()?;
    path.get(from + 1..)?.parse().ok()
}

impl Intercept for UnderWay {
    fn name(&self) -> &'static str {
        "UnderWay"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(request) = of(context.request()) {
            config.interceptor_state().store_put(Sent(request.clone()));
            self.sent(request, Instant::now());
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Others may come from a gateway that gave up waiting for what goes on behind it.
        let is_answer = context.response().is_some_and(|response| {
            let status = response.status().as_u16();
            let body = response.body().bytes().unwrap_or_default();
            let is_slow_down = status == 503 && body.windows(SLOW_DOWN.len()).any(|part| part == SLOW_DOWN);
            status < 500 && status != 408 || is_slow_down
        });
        if let Some(Sent(request)) = config.load::<Sent>().filter(|_| is_answer) {
            self.answered(request);
        }
        Ok(())
    }
}

/// The request of an attempt, as it is remembered.
#[derive(Debug)]
struct Sent(String);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::client::Store;
    use super::super::marks;
    use super::super::objects::Version;
    use super::super::stub::Stub;
    use super::*;
    use crate::protocol::Window;
    use crate::protocol::cover::Sources;

    const HOLD: &str =
        "http://s3/b/video/hal/2026/03/02/101010.000Z-60000-0123456789abcdef.mp4?legal-hold&versionId=1";

    fn cover(camera: &str) -> Cover {
        Cover {
            sources: Sources::Named([camera.to_owned()].into()),
            calls: false,
            window: Window::new(Timestamp::MIN, None),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_no_answer_may_land_while_its_signature_is_valid() {
        let under_way = UnderWay::default();
        let (mine, other) = (cover("hal"), cover("hal-2"));
        assert_eq!(under_way.may_land("b", &mine, &[]), None);
        // The first attempt timed out, the second was answered.
        under_way.sent(HOLD.into(), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        under_way.sent(HOLD.into(), Instant::now());
        under_way.answered(HOLD);
        assert_eq!(under_way.may_land("b", &mine, &[]), Some(SIGNATURE));
        assert_eq!(under_way.may_land("b", &other, &[]), None);
        assert_eq!(under_way.may_land("another", &mine, &[]), None);
        assert_eq!(under_way.may_land("b", &mine, &[cover("hal")]), None);
        assert_eq!(under_way.left(), SIGNATURE);
        tokio::time::advance(SIGNATURE.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(under_way.may_land("b", &mine, &[]), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(under_way.may_land("b", &mine, &[]), None);
        under_way.sent(HOLD.into(), Instant::now());
        under_way.answered(HOLD);
        assert_eq!(under_way.may_land("b", &mine, &[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_counts_for_all() {
        let under_way = UnderWay::default();
        for n in 0..=MOST {
            under_way.sent(HOLD.replace("hal", &format!("h{n}")), Instant::now());
        }
        assert_eq!(under_way.may_land("b", &cover("other"), &[]), Some(SIGNATURE));
    }

    #[tokio::test]
    async fn attempts_without_an_answer_are_remembered() {
        let slow_down = "<Error><Code>SlowDown</Code></Error>";
        let cases = [
            (200, "", false),
            (403, "", false),
            (503, slow_down, false),
            (503, "", true),
            (504, "", true),
        ];
        for (status, body, may_land) in cases {
            let stub = Stub::start(move |_| (status, body.to_owned())).await;
            let under_way = UnderWay::default();
            let store = Store::noting(&stub.target(), &under_way).unwrap();
            let version = Version {
                key: key(HOLD).unwrap().to_string(),
                id: "1".into(),
                is_marker: false,
            };
            let _ = marks::write_hold(&store, &version, true).await;
            assert_eq!(
                under_way.may_land("stub", &cover("hal"), &[]).is_some(),
                may_land,
                "{status}"
            );
        }
    }

    #[test]
    fn keys_are_read_from_requests_of_either_style() {
        for uri in [HOLD, &HOLD.replace("s3/b/", "b.s3/")] {
            assert_eq!(key(uri).unwrap().source(), "hal", "{uri}");
        }
        assert_eq!(key("http://s3/b/ledger/x?tagging"), None);
    }
}
