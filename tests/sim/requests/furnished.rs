//! The Site that is counted: its bucket with recordings of weeks, and who may ask for what.

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

use super::day::{LIFECYCLE_HOUR, Scenario, midnight};
use super::desk::{BUCKET, Desk, OPERATOR, RECORDER};
use crate::store::{By, Who};

/// Those of the Heusden protocol.
/// The default of `spec.recorder.segmentDuration`.
pub const SEGMENT: SignedDuration = SignedDuration::from_mins(1);
/// How long after its end a segment arrives.
pub const UPLOAD_DELAY: SignedDuration = SignedDuration::from_secs(2);
/// A call a Site every so many minutes: ten a day.
const CALL_INTERVAL_MINUTES: i64 = 144;
pub const BODY: &[u8] = b"a segment";

/// The terms of the Site, by the protocol.
pub const TERMS: RetentionTerms =
    RetentionTerms { ceilings: PROTOCOL_CEILINGS, embargo: Embargo::After(SignedDuration::from_hours(1)) };

pub fn target(of: &(&str, &str)) -> StorageTarget {
    StorageTarget {
        endpoint: None,
        region: "us-east-1".into(),
        bucket: BUCKET.into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::access_key(of.0, "secret"),
        proxy: None,
    }
}

pub fn connection(of: &(&str, &str)) -> BucketConnection {
    BucketConnection::new(&target(of)).unwrap()
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

/// Recordings of the last days, as the store's lifecycle leaves them.
pub fn furnish(desk: &mut Desk, situation: &Scenario, base: Timestamp) {
    let mut at = base - SignedDuration::from_hours(24 * situation.backlog);
    while at < base {
        at += SEGMENT;
        for key in recorded(&situation.cameras, at) {
            let tag = key.class().to_string();
            put(desk, &key, &tag, at + UPLOAD_DELAY);
        }
    }
    for days in (0..4).rev() {
        let at = midnight() - SignedDuration::from_hours(24 * (days + 1)) + LIFECYCLE_HOUR;
        desk.store.run_lifecycle_with(&PROTOCOL_CEILINGS, at, at);
    }
    desk.store.effects.clear();
}

/// What ends at `end`.
pub fn recorded(cameras: &[String], end: Timestamp) -> Vec<Key> {
    let hash: [u8; 32] = Sha256::digest(BODY).into();
    let of = |class, source: &str, length: SignedDuration| {
        let millis = u64::try_from(length.as_millis()).unwrap();
        Key::new(class, source, end - length, millis, &hash).unwrap()
    };
    let mut all: Vec<Key> = cameras.iter().map(|camera| of(Class::Video, camera, SEGMENT)).collect();
    if (end.as_second() / 60) % CALL_INTERVAL_MINUTES == 0 {
        all.push(of(Class::Calls, "balie", SEGMENT * 3));
    }
    all
}

pub fn put(desk: &mut Desk, key: &Key, tag: &str, at: Timestamp) {
    let by = By { who: Who::Recorder, now: at, sent: at };
    let tags = vec![("toezicht-retention".to_owned(), tag.to_owned())];
    desk.store.put(by, &key.to_string(), Arc::from(BODY), tags, true).unwrap();
    desk.store.effects.clear();
}
