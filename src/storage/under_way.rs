//! Requests that change marks and got no answer: they may still land.
//!
//! A request that timed out is tried again, and the pass goes on; the first may lie in a proxy or a gateway and land minutes
//! later. A legal hold that lands after a release would stay, and no hold would explain it; the end of one that lands after
//! another hold was placed would leave that one's recording unprotected. So both are remembered until their signature is no
//! longer valid.

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
use super::tag::RetentionTag;
use crate::protocol::cover::Cover;

/// How long a request may lie somewhere and still be taken: the validity of its signature (S3: fifteen minutes, Signature
/// Version 4, "Authenticating Requests"), and as much longer as our clock may be ahead of the store's.
pub const SIGNATURE: Duration = Duration::from_mins(16);
/// The code with which a store itself puts off a request, which it does not do then.
const SLOW_DOWN: &[u8] = b"<Code>SlowDown</Code>";
/// Requests remembered one by one. Of more, only that there are some.
const MOST: usize = 100_000;

/// See the module. Copies remember the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Requests>>);

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Change {
    /// Path and query.
    uri: String,
    /// It ends a legal hold, or puts the tag back that lets lifecycle expire the version; otherwise it protects.
    lets_go: bool,
}

#[derive(Debug, Default)]
struct Requests {
    /// How many of each have no answer, and when the last was sent.
    of: HashMap<Change, (u32, Instant)>,
    /// When the last was sent that has no room.
    others: Option<Instant>,
}

impl UnderWay {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, request: Change, now: Instant) {
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

    fn answered(&self, request: &Change) {
        let mut requests = self.requests();
        match requests.of.get_mut(request) {
            Some((count, _)) if *count > 1 => *count -= 1,
            _ => drop(requests.of.remove(request)),
        }
    }

    /// How long a request may still land that protects something that `cover` is about, be it outside its window: what
    /// has a key that cannot be true may be held, too. `None`: there is none. What one of `others` covers as well is not counted:
    /// its marks stay, whatever lands.
    pub(crate) fn may_land(&self, bucket: &str, cover: &Cover, others: &[Cover]) -> Option<Duration> {
        self.last(|request| {
            !request.lets_go
                && is_about(&request.uri, bucket, cover, |key| {
                    others.iter().any(|other| other.covers(&key.recording()))
                })
        })
    }

    /// How long a request may still land that was sent before `since` and lets go of something that `cover` is about, also
    /// outside its window.
    pub(crate) fn may_let_go(&self, bucket: &str, cover: &Cover, since: Instant) -> Option<Duration> {
        let counts = |request: &Change| request.lets_go && is_about(&request.uri, bucket, cover, |_| false);
        let left = self.last(counts)?;
        let until_then = SIGNATURE.saturating_sub(Instant::now().duration_since(since));
        Some(left.min(until_then)).filter(|left| !left.is_zero())
    }

    /// How long any request may still land; zero: none.
    pub(crate) fn left(&self) -> Duration {
        self.last(|_| true).unwrap_or_default()
    }

    fn last(&self, counts: impl Fn(&Change) -> bool) -> Option<Duration> {
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

/// Whether a request with this path and query may be about something that `cover` is about, and that is not `excepted`. A key
/// that cannot be read may be anything's.
fn is_about(uri: &str, bucket: &str, cover: &Cover, excepted: impl Fn(&Key) -> bool) -> bool {
    let is_covered = |key: Key| cover.is_about(key.class(), key.source()) && !excepted(&key);
    uri.contains(bucket) && key(uri).is_none_or(is_covered)
}

/// The change of a mark that a request asks for; `None`: it asks for none.
fn of(request: &HttpRequest) -> Option<Change> {
    let (_, query) = request.uri().split_once('?')?;
    let is_mark = |part: &str| ["legal-hold", "tagging"].contains(&part.trim_end_matches('='));
    let changes = request.method() == "PUT" && query.split('&').any(is_mark);
    changes.then(|| Change {
        uri: request.uri().to_owned(),
        lets_go: !protects(request.body().bytes().unwrap_or_default()),
    })
}

/// Whether a body asks for a legal hold, or for a tag that no lifecycle rule is about.
fn protects(body: &[u8]) -> bool {
    let tags = [RetentionTag::Held, RetentionTag::Sealed].map(|tag| format!(">{tag}<"));
    let mut protecting = tags.iter().map(String::as_str).chain([">ON<"]);
    protecting.any(|asked| body.windows(asked.len()).any(|part| part == asked.as_bytes()))
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
struct Sent(Change);

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

    fn change(uri: &str) -> Change {
        Change { uri: uri.to_owned(), lets_go: false }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_since_does_not_count() {
        let under_way = UnderWay::default();
        let of = |uri: &str| Change { lets_go: true, ..change(uri) };
        under_way.sent(of(HOLD), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        under_way.sent(of(&HOLD.replace("Id=1", "Id=2")), Instant::now());
        // However many follow.
        let left = under_way.may_let_go("b", &cover("hal"), since).unwrap();
        assert_eq!(left, SIGNATURE.saturating_sub(Duration::from_secs(5)));
        tokio::time::advance(left).await;
        assert_eq!(under_way.may_let_go("b", &cover("hal"), since), None);
    }

    #[tokio::test]
    async fn what_protects_is_told_apart_from_what_lets_go() {
        let stub = Stub::start(|_| (504, String::new())).await;
        let version = Version { key: key(HOLD).unwrap().to_string(), id: "1".into(), is_marker: false };
        for (tag, lets_go) in [
            (RetentionTag::Held, false),
            (RetentionTag::Sealed, false),
            (RetentionTag::Video, true),
            (RetentionTag::Calls, true),
        ] {
            let under_way = UnderWay::default();
            let store = Store::noting(&stub.target(), &under_way).unwrap();
            let _ = marks::write_tag(&store, &version, tag).await;
            let of = |camera| under_way.may_let_go("stub", &cover(camera), Instant::now()).is_some();
            assert_eq!((of("hal"), of("hal-2")), (lets_go, false), "{tag}");
            assert_eq!(under_way.may_land("stub", &cover("hal"), &[]).is_some(), !lets_go, "{tag}");
        }
        for (on, lets_go) in [(true, false), (false, true)] {
            let under_way = UnderWay::default();
            let store = Store::noting(&stub.target(), &under_way).unwrap();
            let _ = marks::write_hold(&store, &version, on).await;
            assert_eq!(
                under_way.may_let_go("stub", &cover("hal"), Instant::now()).is_some(),
                lets_go,
                "{on}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_no_answer_may_land_while_its_signature_is_valid() {
        let under_way = UnderWay::default();
        let (mine, other) = (cover("hal"), cover("hal-2"));
        assert_eq!(under_way.may_land("b", &mine, &[]), None);
        // The first attempt timed out, the second was answered.
        under_way.sent(change(HOLD), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        under_way.sent(change(HOLD), Instant::now());
        under_way.answered(&change(HOLD));
        assert_eq!(under_way.may_land("b", &mine, &[]), Some(SIGNATURE));
        assert_eq!(under_way.may_land("b", &other, &[]), None);
        assert_eq!(under_way.may_land("another", &mine, &[]), None);
        assert_eq!(under_way.may_land("b", &mine, &[cover("hal")]), None);
        assert_eq!(under_way.left(), SIGNATURE);
        tokio::time::advance(SIGNATURE.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(under_way.may_land("b", &mine, &[]), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(under_way.may_land("b", &mine, &[]), None);
        under_way.sent(change(HOLD), Instant::now());
        under_way.answered(&change(HOLD));
        assert_eq!(under_way.may_land("b", &mine, &[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_counts_for_all() {
        let under_way = UnderWay::default();
        for n in 0..=MOST {
            under_way.sent(change(&HOLD.replace("hal", &format!("h{n}"))), Instant::now());
        }
        assert_eq!(under_way.may_land("b", &cover("other"), &[]), Some(SIGNATURE));
    }

    #[tokio::test]
    async fn attempts_without_an_answer_are_remembered() {
        let slow_down = "<Error><Code>SlowDown</Code></Error>";
        let cases =
            [(200, "", false), (403, "", false), (503, slow_down, false), (503, "", true), (504, "", true)];
        for (status, body, may_land) in cases {
            let stub = Stub::start(move |_| (status, body.to_owned())).await;
            let under_way = UnderWay::default();
            let store = Store::noting(&stub.target(), &under_way).unwrap();
            let version = Version { key: key(HOLD).unwrap().to_string(), id: "1".into(), is_marker: false };
            let protected = || under_way.may_land("stub", &cover("hal"), &[]).is_some();
            let let_go = || under_way.may_let_go("stub", &cover("hal"), Instant::now()).is_some();
            let _ = marks::write_hold(&store, &version, true).await;
            assert_eq!((protected(), let_go()), (may_land, false), "{status}");
            let _ = marks::write_tag(&store, &version, RetentionTag::Video).await;
            assert_eq!((protected(), let_go()), (may_land, may_land), "{status}");
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
