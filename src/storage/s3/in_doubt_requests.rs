//! Protection changes that got no answer and may still arrive.
//!
//! After a timeout, a request is retried and the pass continues. The first request may wait in a proxy or gateway and
//! arrive minutes later. A legal hold that arrives after a release would stay without an explanation. A release that
//! arrives after another hold was placed would leave that hold's recording unprotected. So both are recorded until
//! their signature expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;

use crate::rules::{Class, HoldScope, Key, RetentionTag};
use crate::sync::lock;

/// Time in which a delayed request may still be accepted: the validity of its signature (S3: fifteen minutes, Signature
/// Version 4, "Authenticating Requests"), plus the tolerated clock skew.
pub const SIGNATURE_VALIDITY: Duration = Duration::from_mins(16);
/// Code of a store that has not executed a request.
const SLOW_DOWN: &[u8] = b"<Code>SlowDown</Code>";
/// Requests that are recorded individually. Of more, only their existence.
const MAX_REQUESTS: usize = 100_000;

/// Requests in doubt. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct InDoubtRequests(Arc<Mutex<RequestLog>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProtectionRequest {
    uri: String,
    /// Removes a legal hold or restores a tag that lifecycle rules expire. Otherwise, it protects.
    is_release: bool,
}

#[derive(Debug, Default)]
struct RequestLog {
    /// Number of unanswered requests of each kind, and when the last was sent.
    unanswered: HashMap<ProtectionRequest, (u32, Instant)>,
    /// When the last request was sent that was not recorded individually.
    overflow_sent_at: Option<Instant>,
}

impl InDoubtRequests {
    fn note_sent(&self, request: ProtectionRequest, now: Instant) {
        let mut requests = lock(&self.0);
        if requests.unanswered.len() >= MAX_REQUESTS {
            requests.unanswered.retain(|_, (_, sent)| is_signature_valid(*sent, now));
        }
        if requests.unanswered.len() < MAX_REQUESTS || requests.unanswered.contains_key(&request) {
            let (count, last) = requests.unanswered.entry(request).or_insert((0, now));
            // An expired request can no longer arrive, so a later answer must not be counted against it.
            let before = if is_signature_valid(*last, now) { *count } else { 0 };
            (*count, *last) = (before + 1, now);
        } else {
            requests.overflow_sent_at = Some(now);
        }
    }

    fn note_answered(&self, request: &ProtectionRequest) {
        let mut requests = lock(&self.0);
        match requests.unanswered.get_mut(request) {
            // The answer is to one of several equal requests. The others are still in doubt.
            Some((count, _)) if *count > 1 => *count -= 1,
            _ => drop(requests.unanswered.remove(request)),
        }
    }

    /// Returns how long a request may still arrive that protects a version in the sources of `cover`.
    ///
    /// Includes versions outside its window, since one with an implausible key may be held. Excludes versions that one
    /// of `others` covers: they stay protected anyway.
    pub(crate) fn protect_in_doubt_for(
        &self,
        bucket: &str,
        cover: &HoldScope,
        others: &[HoldScope],
    ) -> Option<Duration> {
        self.longest_in_doubt(|request| {
            !request.is_release
                && is_about(&request.uri, bucket, cover, |key| {
                    others.iter().any(|other| other.covers(&key.recording()))
                })
        })
    }

    /// Returns how long a request sent before `since` may still arrive that releases a version in the sources of
    /// `cover`.
    pub(crate) fn release_in_doubt_for(
        &self,
        bucket: &str,
        cover: &HoldScope,
        since: Instant,
    ) -> Option<Duration> {
        let counts = |request: &ProtectionRequest| {
            request.is_release && is_about(&request.uri, bucket, cover, |_| false)
        };
        let left = self.longest_in_doubt(counts)?;
        let until_then = SIGNATURE_VALIDITY.saturating_sub(Instant::now().duration_since(since));
        Some(left.min(until_then)).filter(|left| !left.is_zero())
    }

    /// Returns how long any request may still arrive. Zero: there is none.
    pub(crate) fn in_doubt_for(&self) -> Duration {
        self.longest_in_doubt(|_| true).unwrap_or_default()
    }

    fn longest_in_doubt(&self, counts: impl Fn(&ProtectionRequest) -> bool) -> Option<Duration> {
        let now = Instant::now();
        let mut requests = lock(&self.0);
        requests.unanswered.retain(|_, (_, sent)| is_signature_valid(*sent, now));
        let counted = requests.unanswered.iter().filter(|(request, _)| counts(request));
        let sent = counted.map(|(_, (_, sent))| *sent).chain(requests.overflow_sent_at);
        sent.filter(|sent| is_signature_valid(*sent, now))
            .map(|sent| SIGNATURE_VALIDITY.saturating_sub(now.duration_since(sent)))
            .max()
    }
}

fn is_signature_valid(sent: Instant, now: Instant) -> bool {
    now.duration_since(sent) < SIGNATURE_VALIDITY
}

/// Returns whether a request may be about a source of `cover` and is not `excepted`. An unreadable key may be of any
/// source.
fn is_about(uri: &str, bucket: &str, cover: &HoldScope, excepted: impl Fn(&Key) -> bool) -> bool {
    let is_covered = |key: Key| cover.includes_source(key.class(), key.source()) && !excepted(&key);
    // The bucket is in the host or in the path. A longer name that contains this one only lengthens the wait.
    uri.contains(bucket) && recording_key(uri).is_none_or(is_covered)
}

/// Returns the protection change of a request, if it is one.
fn protection_request(request: &HttpRequest) -> Option<ProtectionRequest> {
    let (_, query) = request.uri().split_once('?')?;
    let is_mark = |part: &str| ["legal-hold", "tagging"].contains(&part.trim_end_matches('='));
    let changes = request.method() == "PUT" && query.split('&').any(is_mark);
    changes.then(|| ProtectionRequest {
        uri: request.uri().to_owned(),
        is_release: !is_protecting(request.body().bytes().unwrap_or_default()),
    })
}

/// Returns whether a body sets a legal hold, or a tag that no lifecycle rule expires.
fn is_protecting(body: &[u8]) -> bool {
    let tags = [RetentionTag::Held, RetentionTag::Sealed].map(|tag| format!(">{tag}<"));
    let mut protecting = tags.iter().map(String::as_str).chain([">ON<"]);
    protecting.any(|asked| body.windows(asked.len()).any(|part| part == asked.as_bytes()))
}

/// Returns the recording of a request.
fn recording_key(request: &str) -> Option<Key> {
    let (path, _) = request.split_once('?')?;
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    let begins = |class: Class| path.find(&format!("/{}", class.prefix()));
    // The first match, since a camera may have the name of a class (`/video/calls/…`).
    let from = Class::ALL.into_iter().filter_map(begins).min()?;
    path.get(from + 1..)?.parse().ok()
}

impl Intercept for InDoubtRequests {
    fn name(&self) -> &'static str {
        "InDoubtRequests"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Before it is sent: the pass may continue without an answer, and must know of the request by then.
        if let Some(request) = protection_request(context.request()) {
            config.interceptor_state().store_put(AttemptRequest(request.clone()));
            self.note_sent(request, Instant::now());
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Other answers may come from a gateway that stopped waiting while the request continues behind it.
        let is_answer = context.response().is_some_and(|response| {
            let status = response.status().as_u16();
            let body = response.body().bytes().unwrap_or_default();
            let is_slow_down = status == 503 && body.windows(SLOW_DOWN.len()).any(|part| part == SLOW_DOWN);
            status < 500 && status != 408 || is_slow_down
        });
        if let Some(AttemptRequest(request)) = config.load::<AttemptRequest>().filter(|_| is_answer) {
            self.note_answered(request);
        }
        Ok(())
    }
}

/// Request of an attempt.
#[derive(Debug)]
struct AttemptRequest(ProtectionRequest);

impl Storable for AttemptRequest {
    type Storer = StoreReplace<Self>;
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::rules::hold::scope::tests::video_scope;
    use crate::rules::{VersionRef, Window};
    use crate::storage::s3::protection;
    use crate::storage::s3::stub::Stub;

    const HOLD: &str =
        "http://s3/b/video/hal/2026/03/02/101010.000Z-60000-0123456789abcdef.mp4?legal-hold&versionId=1";

    fn cover(camera: &str) -> HoldScope {
        video_scope(&[camera], Window::new(Timestamp::MIN, None))
    }

    fn change(uri: &str) -> ProtectionRequest {
        ProtectionRequest { uri: uri.to_owned(), is_release: false }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_sent_later_are_not_in_doubt() {
        let under_way = InDoubtRequests::default();
        let of = |uri: &str| ProtectionRequest { is_release: true, ..change(uri) };
        under_way.note_sent(of(HOLD), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        under_way.note_sent(of(&HOLD.replace("Id=1", "Id=2")), Instant::now());
        // However many follow.
        let left = under_way.release_in_doubt_for("b", &cover("hal"), since).unwrap();
        assert_eq!(left, SIGNATURE_VALIDITY.saturating_sub(Duration::from_secs(5)));
        tokio::time::advance(left).await;
        assert_eq!(under_way.release_in_doubt_for("b", &cover("hal"), since), None);
    }

    #[tokio::test]
    async fn protecting_and_releasing_requests_are_distinguished() {
        let stub = Stub::start(|_| (504, String::new())).await;
        let version =
            VersionRef { key: recording_key(HOLD).unwrap().to_string(), id: "1".into(), is_marker: false };
        for (tag, lets_go) in [
            (RetentionTag::Held, false),
            (RetentionTag::Sealed, false),
            (RetentionTag::Video, true),
            (RetentionTag::Calls, true),
        ] {
            let under_way = InDoubtRequests::default();
            let store = stub.connection().tracking_client(&under_way);
            let _ = protection::write_tag(&store, &version, tag).await;
            let of =
                |camera| under_way.release_in_doubt_for("stub", &cover(camera), Instant::now()).is_some();
            assert_eq!((of("hal"), of("hal-2")), (lets_go, false), "{tag}");
            assert_eq!(
                under_way.protect_in_doubt_for("stub", &cover("hal"), &[]).is_some(),
                !lets_go,
                "{tag}"
            );
        }
        for (on, lets_go) in [(true, false), (false, true)] {
            let under_way = InDoubtRequests::default();
            let store = stub.connection().tracking_client(&under_way);
            let _ = protection::write_legal_hold(&store, &version, on).await;
            assert_eq!(
                under_way.release_in_doubt_for("stub", &cover("hal"), Instant::now()).is_some(),
                lets_go,
                "{on}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unanswered_request_is_in_doubt_until_signature_expires() {
        let under_way = InDoubtRequests::default();
        let (mine, other) = (cover("hal"), cover("hal-2"));
        assert_eq!(under_way.protect_in_doubt_for("b", &mine, &[]), None);
        // The first attempt timed out, and the second was answered.
        under_way.note_sent(change(HOLD), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        under_way.note_sent(change(HOLD), Instant::now());
        under_way.note_answered(&change(HOLD));
        assert_eq!(under_way.protect_in_doubt_for("b", &mine, &[]), Some(SIGNATURE_VALIDITY));
        assert_eq!(under_way.protect_in_doubt_for("b", &other, &[]), None);
        assert_eq!(under_way.protect_in_doubt_for("another", &mine, &[]), None);
        assert_eq!(under_way.protect_in_doubt_for("b", &mine, &[cover("hal")]), None);
        assert_eq!(under_way.in_doubt_for(), SIGNATURE_VALIDITY);
        tokio::time::advance(SIGNATURE_VALIDITY.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(under_way.protect_in_doubt_for("b", &mine, &[]), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(under_way.protect_in_doubt_for("b", &mine, &[]), None);
        under_way.note_sent(change(HOLD), Instant::now());
        under_way.note_answered(&change(HOLD));
        assert_eq!(under_way.protect_in_doubt_for("b", &mine, &[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn overflow_is_in_doubt_for_every_hold() {
        let under_way = InDoubtRequests::default();
        for n in 0..=MAX_REQUESTS {
            under_way.note_sent(change(&HOLD.replace("hal", &format!("h{n}"))), Instant::now());
        }
        assert_eq!(under_way.protect_in_doubt_for("b", &cover("other"), &[]), Some(SIGNATURE_VALIDITY));
    }

    #[tokio::test]
    async fn unanswered_attempts_are_in_doubt() {
        let slow_down = "<Error><Code>SlowDown</Code></Error>";
        let cases =
            [(200, "", false), (403, "", false), (503, slow_down, false), (503, "", true), (504, "", true)];
        for (status, body, may_land) in cases {
            let stub = Stub::start(move |_| (status, body.to_owned())).await;
            let under_way = InDoubtRequests::default();
            let store = stub.connection().tracking_client(&under_way);
            let version = VersionRef {
                key: recording_key(HOLD).unwrap().to_string(),
                id: "1".into(),
                is_marker: false,
            };
            let protected = || under_way.protect_in_doubt_for("stub", &cover("hal"), &[]).is_some();
            let let_go = || under_way.release_in_doubt_for("stub", &cover("hal"), Instant::now()).is_some();
            let _ = protection::write_legal_hold(&store, &version, true).await;
            assert_eq!((protected(), let_go()), (may_land, false), "{status}");
            let _ = protection::write_tag(&store, &version, RetentionTag::Video).await;
            assert_eq!((protected(), let_go()), (may_land, may_land), "{status}");
        }
    }

    #[test]
    fn recording_key_is_parsed_in_both_addressing_styles() {
        for uri in [HOLD, &HOLD.replace("s3/b/", "b.s3/")] {
            assert_eq!(recording_key(uri).unwrap().source(), "hal", "{uri}");
        }
        assert_eq!(recording_key("http://s3/b/ledger/x?tagging"), None);
    }
}
