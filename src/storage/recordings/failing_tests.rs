//! Single versions that the store cannot read or delete: a sweep and an audit go on past them, and tell of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::audit::{AuditOptions, FindingKind, audit};
use super::hold::protection_cache::ProtectionCache;
use super::sweep::state::{ScanRange, SweepError, SweepReport};
use super::sweep::sweep;
use crate::rules::recording::key::{Class, Key};
use crate::rules::recording::tag::TAG_KEY;
use crate::rules::recording::version::ListedVersion;
use crate::rules::retention::{PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::s3::store_clock::DecisionTime;
use crate::storage::s3::stub::{NoOpenHolds, ReceivedRequest, Stub, error_answer, versions_answer};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

/// A recording of a camera that began so many hours ago, as version `id`.
fn recording(camera: &str, now: Timestamp, hours: i64, id: &str) -> ListedVersion {
    let start = now - SignedDuration::from_hours(hours);
    let key = Key::new(Class::Video, camera, start, 60_000, &[id.as_bytes()[0]; 32]).unwrap();
    ListedVersion {
        key: key.to_string(),
        id: id.into(),
        is_marker: false,
        is_latest: true,
        modified: start + SignedDuration::from_secs(70),
        size: 10,
        etag: "e".into(),
    }
}

/// What is in the bucket, and of which versions something fails.
#[derive(Clone, Default)]
struct FailingBucket {
    all: Vec<ListedVersion>,
    /// Versions that are not deleted.
    undeletable: BTreeSet<&'static str>,
    /// Versions whose tag is not told, those whose tag is not taken, and the status of the answer.
    unreadable_tags: BTreeSet<&'static str>,
    rejected_tags: BTreeSet<&'static str>,
    status: u16,
    /// Versions whose tag is taken, and not kept.
    ignored_tags: BTreeSet<&'static str>,
    /// Versions whose tag was put back.
    retagged: BTreeSet<String>,
}

impl FailingBucket {
    fn answer(&mut self, asked: &ReceivedRequest) -> (u16, String) {
        let id = asked.query_parameter("versionId").unwrap_or_default();
        let asks = |what| asked.query_parameter(what).is_some();
        match asked.method.as_str() {
            "POST" if asks("delete") => {
                let body = String::from_utf8(asked.body.to_vec()).unwrap();
                let is_asked = |id: &str| body.contains(&format!("<VersionId>{id}</VersionId>"));
                self.all
                    .retain(|listed| !is_asked(&listed.id) || self.undeletable.contains(listed.id.as_str()));
                let left = self.all.iter().filter(|listed| is_asked(&listed.id));
                let left = left.map(|ListedVersion { key, id, .. }| {
                    format!(
                        "<Error><Key>{key}</Key><VersionId>{id}</VersionId><Code>InternalError</Code></Error>"
                    )
                });
                (200, format!("<DeleteResult>{}</DeleteResult>", left.collect::<String>()))
            }
            "GET" if asks("uploads") => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            "GET" if asks("versions") => versions_answer(asked, &self.all),
            "GET" if asks("tagging") && self.unreadable_tags.contains(id.as_str()) => {
                error_answer(self.status, "Trouble")
            }
            "GET" if asks("tagging") => {
                let value = if self.retagged.contains(&id) { "video" } else { "sealed" };
                (
                    200,
                    format!(
                        "<Tagging><TagSet><Tag><Key>{TAG_KEY}</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
                    ),
                )
            }
            "GET" if asks("legal-hold") => error_answer(404, "NoSuchObjectLockConfiguration"),
            "PUT" if asks("tagging") && self.rejected_tags.contains(id.as_str()) => {
                error_answer(self.status, "Refusal")
            }
            "PUT" if asks("tagging") && self.ignored_tags.contains(id.as_str()) => (200, String::new()),
            "PUT" if asks("tagging") => {
                self.retagged.insert(id);
                (200, String::new())
            }
            _ => error_answer(404, "NoSuchKey"),
        }
    }

    async fn start(self) -> (Stub, Arc<Mutex<Self>>) {
        let bucket = Arc::new(Mutex::new(self));
        let answering = Arc::clone(&bucket);
        let stub = Stub::start(move |asked| answering.lock().unwrap().answer(asked)).await;
        (stub, bucket)
    }
}

/// What a sweep does where no hold was ever declared.
async fn run_sweep(stub: &Stub, reach: ScanRange, now: Timestamp) -> Result<SweepReport, SweepError> {
    let (target, memory) = (stub.connection(), ProtectionCache::default());
    let time = DecisionTime::at(now);
    sweep(&target, &PROTOCOL_CEILINGS, &NoOpenHolds, &memory, reach, time).await
}

#[tokio::test]
async fn undeletable_version_does_not_stop_sweep() {
    let now = Timestamp::now();
    let over = 24 * 30;
    // Each camera is a page.
    let all = ["a", "b", "c", "d", "e"].map(|camera| recording(camera, now, over, camera));
    for stay in [vec!["a"], vec!["a", "b", "c", "d"], vec!["a", "b", "c", "d", "e"]] {
        let (stub, bucket) = FailingBucket {
            all: all.to_vec(),
            undeletable: stay.iter().copied().collect(),
            ..FailingBucket::default()
        }
        .start()
        .await;
        let swept = run_sweep(&stub, ScanRange::Boundary, now).await.unwrap();
        let bucket = bucket.lock().unwrap();
        let there: Vec<&str> = bucket.all.iter().map(|listed| listed.id.as_str()).collect();
        assert_eq!(there, stay);
        let stayed = stay.len() as u64;
        assert_eq!((swept.deleted, swept.undeletable), (5 - stayed, stayed), "{stay:?}");
    }
}

/// The store tells no tag at all: what is over its ceiling goes all the same, and what was not told is.
#[tokio::test]
async fn unreadable_tags_do_not_stop_sweep() {
    let now = Timestamp::now();
    let over = 24 * 30;
    let mut all: Vec<ListedVersion> =
        ('a'..='z').map(|id| recording("hal", now, 24, &id.to_string())).collect();
    all.push(recording("zaal", now, over, "over"));
    let ids: Vec<&'static str> = all.iter().map(|listed| &*listed.id.clone().leak()).collect();
    let (stub, bucket) = FailingBucket {
        all,
        unreadable_tags: ids.into_iter().collect(),
        status: 503,
        ..FailingBucket::default()
    }
    .start()
    .await;
    let swept = run_sweep(&stub, ScanRange::All, now).await.unwrap();
    assert_eq!((swept.deleted, swept.retag_failures), (1, 26));
    assert!(swept.retag_error.unwrap().to_string().contains("Trouble"));
    assert_eq!(bucket.lock().unwrap().all.len(), 26);
}

/// Whole requests fail: that is about no single version.
#[tokio::test]
async fn failed_delete_request_stops_sweep() {
    let now = Timestamp::now();
    let all = [recording("hal", now, 24 * 30, "1")];
    let stub = Stub::start(move |asked| match asked.method.as_str() {
        "POST" => error_answer(503, "SlowDown"),
        "GET" if asked.query_parameter("versions").is_some() => versions_answer(asked, &all),
        _ => error_answer(404, "NoSuchKey"),
    })
    .await;
    let error = run_sweep(&stub, ScanRange::Boundary, now).await.unwrap_err().to_string();
    assert!(error.contains("DeleteObjects") && error.contains("SlowDown"), "{error}");
}

#[tokio::test]
async fn failed_retag_is_reported_and_does_not_stop_others() {
    let now = Timestamp::now();
    let all = ["1", "2", "3", "4"].map(|id| recording("hal", now, 24, id));
    for (unread, unwritten, unkept, status, answer) in [
        (vec!["2"], vec![], vec![], 403, "GetObjectTagging was answered with Trouble (HTTP 403)"),
        (vec!["2"], vec!["4"], vec![], 500, "GetObjectTagging was answered with Trouble (HTTP 500)"),
        (vec![], vec!["4"], vec![], 403, "PutObjectTagging was answered with Refusal (HTTP 403)"),
        (vec![], vec!["1", "4"], vec![], 404, "PutObjectTagging was answered with Refusal (HTTP 404)"),
        (vec![], vec![], vec!["3"], 0, "PutObjectTagging got no answer: ReadBackMismatch"),
    ] {
        let failing = [unread.clone(), unwritten.clone(), unkept.clone()].concat();
        let (stub, bucket) = FailingBucket {
            all: all.to_vec(),
            unreadable_tags: unread.into_iter().collect(),
            rejected_tags: unwritten.into_iter().collect(),
            ignored_tags: unkept.into_iter().collect(),
            status,
            ..FailingBucket::default()
        }
        .start()
        .await;
        let swept = run_sweep(&stub, ScanRange::All, now).await.unwrap();
        let failed = failing.len() as u64;
        assert_eq!((swept.retagged, swept.retag_failures), (4 - failed, failed), "{answer}");
        assert_eq!(swept.retag_error.unwrap().to_string(), answer);
        let right = ["1", "2", "3", "4"].into_iter().filter(|id| !failing.contains(id));
        let retagged = &bucket.lock().unwrap().retagged;
        assert_eq!(*retagged, right.map(str::to_owned).collect(), "{answer}");
    }
}

#[tokio::test]
async fn audit_reports_unread_protection_and_checks_the_rest() {
    let now = Timestamp::now();
    for status in [403, 500] {
        for unread in [vec!["2"], vec!["1", "2", "3"]] {
            let count = unread.len() as u64;
            let (stub, _) = FailingBucket {
                all: ["1", "2", "3"].map(|id| recording("hal", now, 24, id)).to_vec(),
                unreadable_tags: unread.into_iter().collect(),
                status,
                ..FailingBucket::default()
            }
            .start()
            .await;
            let scope = AuditOptions {
                terms: TERMS,
                range: ScanRange::All,
                sample_one_in: 1,
                known_holds: None,
                cache: Arc::default(),
            };
            let tally = audit(&stub.connection(), &scope, now).await.unwrap();
            assert_eq!(tally.inspected_versions, 3 - count, "{status}");
            assert_eq!(tally.count(FindingKind::Mistagged), 3 - count, "{status}");
            assert_eq!(tally.count(FindingKind::UnreadProtection), count, "{status}");
            assert!(!tally.is_compliant());
            let told = &tally.findings.get(&FindingKind::UnreadProtection).unwrap().examples;
            assert!(told[0].contains("GetObjectTagging was answered with Trouble"), "{told:?}");
        }
    }
}
