//! The counted Site: its bucket with recordings of several weeks, and its access settings.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use toezicht::controllers::site::bucket::BucketAccess;
use toezicht::rules::live_view::Embargo;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::rules::retention::RetentionTerms;
use toezicht::storage::BucketConnection;
use toezicht::storage::{BucketSpec, Claim};
use toezicht::wire::{Credentials, StorageTarget};

use super::counting_store::{BUCKET, CountingStore, OPERATOR, RECORDER};
use super::day::{LIFECYCLE_HOUR, Scenario, midnight};
use crate::store::{Actor, Caller};

/// The default of `spec.recorder.segmentDuration`.
pub const SEGMENT: SignedDuration = SignedDuration::from_mins(1);
/// Delay of an upload after the end of a segment.
pub const UPLOAD_DELAY: SignedDuration = SignedDuration::from_secs(2);
/// Interval of calls in minutes: ten a day.
const CALL_INTERVAL_MINUTES: i64 = 144;
pub const BODY: &[u8] = b"a segment";

/// Retention terms of the example policy.
pub const TERMS: RetentionTerms =
    RetentionTerms { ceilings: PROTOCOL_CEILINGS, embargo: Embargo::After(SignedDuration::from_hours(1)) };

pub fn target(identity: &(&str, &str)) -> StorageTarget {
    StorageTarget {
        endpoint: None,
        region: "us-east-1".into(),
        bucket: BUCKET.into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::access_key(identity.0, "secret"),
        proxy: None,
    }
}

pub fn connection(identity: &(&str, &str)) -> BucketConnection {
    BucketConnection::new(&target(identity)).unwrap()
}

pub fn access() -> BucketAccess {
    let named = |name: &str| format!("arn:aws:iam::123456789012:user/{name}");
    BucketAccess {
        operator: target(&OPERATOR),
        recorder: Some(target(&RECORDER)),
        spec: BucketSpec {
            video_ceiling: PROTOCOL_CEILINGS.video,
            calls_ceiling: PROTOCOL_CEILINGS.calls,
            operator_principal: OPERATOR.1.into(),
            recorder_principal: RECORDER.1.into(),
            auditor: None,
            readers: vec![named("manager"), named("officer")],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        },
        claim: Claim {
            cluster_id: "cluster".into(),
            namespace: "heusden".into(),
            site: "dillenburcht".into(),
            uid: "site-uid".into(),
        },
    }
}

/// Fills the bucket with recordings of the last days, and runs the lifecycle on them.
pub fn set_up_site(counting_store: &mut CountingStore, scenario: &Scenario, base: Timestamp) {
    let mut at = base - SignedDuration::from_hours(24 * scenario.backlog);
    while at < base {
        at += SEGMENT;
        for key in recordings_ending_at(&scenario.cameras, at) {
            let tag = key.class().to_string();
            put(counting_store, &key, &tag, at + UPLOAD_DELAY);
        }
    }
    for days in (0..4).rev() {
        let at = midnight() - SignedDuration::from_hours(24 * (days + 1)) + LIFECYCLE_HOUR;
        counting_store.store.run_lifecycle_with(&PROTOCOL_CEILINGS, at, at);
    }
    counting_store.store.effects.clear();
}

/// Returns the keys of the recordings that end at `end`.
pub fn recordings_ending_at(cameras: &[String], end: Timestamp) -> Vec<Key> {
    let hash: [u8; 32] = Sha256::digest(BODY).into();
    let key = |class, source: &str, length: SignedDuration| {
        let millis = u64::try_from(length.as_millis()).unwrap();
        Key::new(class, source, end - length, millis, &hash).unwrap()
    };
    let mut all: Vec<Key> = cameras.iter().map(|camera| key(Class::Video, camera, SEGMENT)).collect();
    if (end.as_second() / 60) % CALL_INTERVAL_MINUTES == 0 {
        all.push(key(Class::Calls, "balie", SEGMENT * 3));
    }
    all
}

pub fn put(counting_store: &mut CountingStore, key: &Key, tag: &str, at: Timestamp) {
    let by = Caller { actor: Actor::Recorder, now: at, sent: at };
    let tags = vec![("toezicht-retention".to_owned(), tag.to_owned())];
    counting_store.store.put(by, &key.to_string(), Arc::from(BODY), tags, true).unwrap();
    counting_store.store.effects.clear();
}
