//! Versions that the store does not read or delete. A sweep and an audit continue with the others and report them.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::audit::{AuditOptions, FindingKind, audit};
use super::hold::protection_cache::ProtectionCache;
use super::sweep::state::{ScanRange, SweepError, SweepReport};
use super::sweep::sweep;
use crate::rules::{Class, Key, ListedVersion, PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::s3::DecisionTime;
use crate::storage::s3::stub::{FakeBucket, NO_OPEN_HOLDS, Stub, error_answer, listed, tagging};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

/// A recording of a camera that began so many hours ago, as version `id`.
fn recording(camera: &str, now: Timestamp, hours: i64, id: &str) -> ListedVersion {
    let start = now - SignedDuration::from_hours(hours);
    let key = Key::new(Class::Video, camera, start, 60_000, &[id.as_bytes()[0]; 32]).unwrap();
    listed(key, id, start + SignedDuration::from_secs(70))
}

/// Ids of versions for which a request fails.
#[derive(Default)]
struct Faults {
    unreadable_tags: Vec<&'static str>,
    rejected_tags: Vec<&'static str>,
    /// Status of these answers.
    status: u16,
    /// Tags that the store accepts and does not persist.
    ignored_tags: Vec<&'static str>,
}

/// A bucket in which all versions are tagged `sealed`.
async fn start_bucket(
    versions: impl IntoIterator<Item = ListedVersion>,
    faults: Faults,
) -> (Stub, Arc<Mutex<FakeBucket>>) {
    let bucket = FakeBucket::of(versions).tagged("sealed");
    bucket
        .start(move |asked, _| {
            let id = asked.query_parameter("versionId").unwrap_or_default();
            let has = |ids: &[&str]| asked.has_parameter("tagging") && ids.contains(&id.as_str());
            match asked.method.as_str() {
                "GET" if has(&faults.unreadable_tags) => Some(error_answer(faults.status, "Trouble")),
                "PUT" if has(&faults.rejected_tags) => Some(error_answer(faults.status, "Refusal")),
                "PUT" if has(&faults.ignored_tags) => Some((200, String::new())),
                _ => None,
            }
        })
        .await
}

/// Sweeps without any hold.
async fn run_sweep(stub: &Stub, reach: ScanRange, now: Timestamp) -> Result<SweepReport, SweepError> {
    let (target, memory) = (stub.connection(), ProtectionCache::default());
    let time = DecisionTime::at(now);
    sweep(&target, &PROTOCOL_CEILINGS, &NO_OPEN_HOLDS, &memory, reach, time).await
}

#[tokio::test]
async fn undeletable_version_does_not_stop_sweep() {
    let now = Timestamp::now();
    let over = 24 * 30;
    // Each camera has its own page.
    let all = ["a", "b", "c", "d", "e"].map(|camera| recording(camera, now, over, camera));
    for stay in [vec!["a"], vec!["a", "b", "c", "d"], vec!["a", "b", "c", "d", "e"]] {
        let (stub, bucket) = start_bucket(all.clone(), Faults::default()).await;
        bucket.lock().unwrap().undeletable.extend(&stay);
        let swept = run_sweep(&stub, ScanRange::Boundary, now).await.unwrap();
        let bucket = bucket.lock().unwrap();
        let there: Vec<&str> = bucket.versions.iter().map(|listed| listed.id.as_str()).collect();
        assert_eq!(there, stay);
        let stayed = stay.len() as u64;
        assert_eq!((swept.deleted, swept.undeletable), (5 - stayed, stayed), "{stay:?}");
    }
}

/// The store returns no tags. The sweep still deletes expired versions and reports the unread ones.
#[tokio::test]
async fn unreadable_tags_do_not_stop_sweep() {
    let now = Timestamp::now();
    let over = 24 * 30;
    let mut all: Vec<ListedVersion> =
        ('a'..='z').map(|id| recording("hal", now, 24, &id.to_string())).collect();
    all.push(recording("zaal", now, over, "over"));
    let ids: Vec<&'static str> = all.iter().map(|listed| &*listed.id.clone().leak()).collect();
    let faults = Faults { unreadable_tags: ids, status: 503, ..Faults::default() };
    let (stub, bucket) = start_bucket(all, faults).await;
    let swept = run_sweep(&stub, ScanRange::All, now).await.unwrap();
    assert_eq!((swept.deleted, swept.retag_failures), (1, 26));
    assert!(swept.retag_error.unwrap().to_string().contains("Trouble"));
    assert_eq!(bucket.lock().unwrap().versions.len(), 26);
}

/// A whole request fails, which concerns no single version.
#[tokio::test]
async fn failed_delete_request_stops_sweep() {
    let now = Timestamp::now();
    let all = [recording("hal", now, 24 * 30, "1")];
    let (stub, _) = FakeBucket::of(all)
        .start(|asked, _| (asked.method == "POST").then(|| error_answer(503, "SlowDown")))
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
        let faults =
            Faults { unreadable_tags: unread, rejected_tags: unwritten, ignored_tags: unkept, status };
        let (stub, bucket) = start_bucket(all.clone(), faults).await;
        let swept = run_sweep(&stub, ScanRange::All, now).await.unwrap();
        let failed = failing.len() as u64;
        assert_eq!((swept.retagged, swept.retag_failures), (4 - failed, failed), "{answer}");
        assert_eq!(swept.retag_error.unwrap().to_string(), answer);
        let right = ["1", "2", "3", "4"].into_iter().filter(|id| !failing.contains(id));
        let bucket = bucket.lock().unwrap();
        let is_retagged = |listed: &&ListedVersion| {
            bucket.bodies[&format!("/tz-stub/{} tagging", listed.key)] != tagging("sealed")
        };
        let retagged = bucket.versions.iter().filter(is_retagged).map(|listed| listed.id.as_str());
        assert_eq!(retagged.collect::<Vec<_>>(), right.collect::<Vec<_>>(), "{answer}");
    }
}

#[tokio::test]
async fn audit_reports_unread_protection_and_checks_the_rest() {
    let now = Timestamp::now();
    for status in [403, 500] {
        for unread in [vec!["2"], vec!["1", "2", "3"]] {
            let count = unread.len() as u64;
            let all = ["1", "2", "3"].map(|id| recording("hal", now, 24, id));
            let faults = Faults { unreadable_tags: unread, status, ..Faults::default() };
            let (stub, _) = start_bucket(all, faults).await;
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
