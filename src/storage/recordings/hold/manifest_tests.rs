//! Manifests at their limits, and as a store or a proxy may answer with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::coverage::Coverage;
use super::manifest::{ManifestContent, load, write};
use super::manifest_format::ManifestGap;
use super::protection_cache::ProtectionCache;
use crate::rules::hold::entry::LedgerEntry;
use crate::rules::recording::key::{Class, Key};
use crate::rules::recording::version::ListedVersion;
use crate::rules::retention::{PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::DecisionTime;
use crate::storage::recordings::audit::{AuditOptions, FindingKind, audit};
use crate::storage::recordings::error::SourceDay;
use crate::storage::recordings::sweep::state::ScanRange;
use crate::storage::recordings::sweep::sweep;
use crate::storage::s3::stub::{NoOpenHolds, ReceivedRequest, Stub, error_answer, versions_answer};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

type ManifestObjects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A bucket that has these recordings, and keeps what is put. `spoil` changes its answer to a GET, by how many were before.
async fn start_bucket(
    recordings: Vec<ListedVersion>,
    corrupt: impl Fn(&ReceivedRequest, usize, Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (Stub, ManifestObjects) {
    let objects = ManifestObjects::default();
    let (kept, gets) = (Arc::clone(&objects), Arc::new(Mutex::new(0)));
    let stub = Stub::start(move |asked| {
        let mut kept = kept.lock().unwrap();
        let key = asked.path.trim_start_matches("/tz-stub/").to_owned();
        match asked.method.as_str() {
            "GET" if asked.query_parameter("versions").is_some() => versions_answer(asked, &recordings),
            "GET" => match kept.get(&key) {
                Some(bytes) => {
                    let mut gets = gets.lock().unwrap();
                    *gets += 1;
                    let bytes = corrupt(asked, *gets - 1, bytes.clone());
                    (200, String::from_utf8(bytes).unwrap())
                }
                None => error_answer(404, "NoSuchKey"),
            },
            "PUT" => {
                kept.insert(key, asked.body.to_vec());
                (200, String::new())
            }
            _ => (204, String::new()),
        }
    })
    .await;
    (stub, objects)
}

fn entry(now: Timestamp) -> LedgerEntry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "purpose": "Theft", "reference": "1",
        "window": {"from": now - SignedDuration::from_hours(9)},
    }));
    LedgerEntry::new("1".into(), "n".into(), "h".into(), &spec.unwrap(), now)
}

/// So many segments of a source.
fn recordings(source: &str, count: i64, now: Timestamp) -> Vec<ListedVersion> {
    let recording = |number: i64| {
        let start = now - SignedDuration::from_secs(6 * (count - number) + 60);
        let key = Key::new(Class::Video, source, start, 6000, &[7; 32]).unwrap();
        ListedVersion {
            key: key.to_string(),
            id: format!("{number:032}"),
            is_marker: false,
            is_latest: true,
            modified: start,
            size: 10,
            etag: "e".into(),
        }
    };
    (0..count).map(recording).collect()
}

/// What a pass finds of them.
fn coverage_of(
    entry: &LedgerEntry,
    memory: &ProtectionCache,
    all: &[ListedVersion],
    now: Timestamp,
) -> Coverage {
    let mut coverage = Coverage::new(&entry.scope(), &BTreeMap::new(), now);
    for listed in all {
        coverage.present.insert(memory.fingerprint(&listed.key, &listed.id));
        coverage.days.insert(SourceDay::of(&listed.key.parse().unwrap()));
    }
    coverage
}

fn content_of<'a>(
    entry: &'a LedgerEntry,
    coverage: &'a Coverage,
    missing: &'a [ManifestGap],
) -> ManifestContent<'a> {
    ManifestContent { entry, coverage, missing, terms: &TERMS }
}

/// Sources may have long names, and a hold a month of many cameras.
#[tokio::test]
async fn large_manifest_is_read_back() {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings(&"a".repeat(253), 300, now);
    let (stub, objects) = start_bucket(all.clone(), |_, _, bytes| bytes).await;
    let memory = ProtectionCache::default();
    let coverage = coverage_of(&entry, &memory, &all, now);
    let gap = ManifestGap { source: "b".repeat(200), from: now, until: now, cause: "Unexplained".into() };
    let missing = vec![gap; 2000];
    let target = stub.connection();
    write(&target, content_of(&entry, &coverage, &missing), &memory, now).await.unwrap();
    let largest = objects.lock().unwrap().values().map(Vec::len).max();
    assert!(largest > Some(500_000), "{largest:?}: it would not have been too large");
    // Another process.
    let memory = ProtectionCache::default();
    let told = load(&target, &entry, &memory).await.unwrap();
    assert_eq!(told.count(), 300);
    let coverage = coverage_of(&entry, &memory, &all, now);
    assert!(told.matches(&coverage, &missing));
}

/// What is told of a manifest of 300 segments where answers are spoilt so.
async fn count_reloaded(
    spoil: impl Fn(&ReceivedRequest, usize, Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> Result<u64, String> {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings("hal", 300, now);
    let memory = ProtectionCache::default();
    let (whole, objects) = start_bucket(all.clone(), |_, _, bytes| bytes).await;
    let coverage = coverage_of(&entry, &memory, &all, now);
    write(&whole.connection(), content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
    let (spoilt, again) = start_bucket(Vec::new(), spoil).await;
    again.lock().unwrap().extend(std::mem::take(&mut *objects.lock().unwrap()));
    let told = load(&spoilt.connection(), &entry, &ProtectionCache::default()).await;
    told.map(|told| told.count()).map_err(|error| error.to_string())
}

/// A loss that happened meanwhile would never be told.
#[tokio::test]
async fn truncated_manifest_is_retried_or_fails() {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    for broken in 0..3 {
        let once =
            move |_: &ReceivedRequest, number, bytes| if number == broken { half(bytes) } else { bytes };
        assert_eq!(count_reloaded(once).await, Ok(300), "{broken}");
    }
    let page = |_: &ReceivedRequest, number, _| format!("<html>{number}</html>").into_bytes();
    let told = count_reloaded(page).await;
    assert!(told.as_ref().is_err_and(|error| error.contains("UnreadableAnswer")), "{told:?}");
}

/// Somebody who may write there wrote over it: it is written anew.
#[tokio::test]
async fn corrupt_manifest_counts_as_empty() {
    let spoilt = |_: &ReceivedRequest, _, _| b"{".to_vec();
    assert_eq!(count_reloaded(spoilt).await, Ok(0));
    let large = |_: &ReceivedRequest, _, _| vec![b' '; 17 * 1024 * 1024];
    assert_eq!(count_reloaded(large).await, Ok(0));
}

/// A manifest that was written without it would be all that anybody knows.
#[tokio::test]
async fn version_lost_during_manifest_write_is_reported() {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings("hal", 300, now);
    let left: Vec<ListedVersion> = all.iter().filter(|listed| listed.key != all[7].key).cloned().collect();
    for before in [0, 250] {
        let memory = ProtectionCache::default();
        let (first, objects) = start_bucket(all[..before].to_vec(), |_, _, bytes| bytes).await;
        let coverage = coverage_of(&entry, &memory, &all[..before], now);
        write(&first.connection(), content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
        let (stub, again) = start_bucket(left.clone(), |_, _, bytes| bytes).await;
        again.lock().unwrap().extend(objects.lock().unwrap().clone());
        let target = stub.connection();

        // The pass still found it.
        let coverage = coverage_of(&entry, &memory, &all, now);
        let written = write(&target, content_of(&entry, &coverage, &[]), &memory, now).await;
        let error = written.unwrap_err().to_string();
        assert!(error.contains("HeldVersionGone"), "{error}");
        let coverage = coverage_of(&entry, &memory, &left, now);
        let known = load(&target, &entry, &memory).await.unwrap();
        assert_eq!(known.lost(&coverage), 1, "{before} were listed before");
        assert!(known.is_outdated() && !known.matches(&coverage, &[]));

        // Another process knows what was listed before.
        let other = ProtectionCache::default();
        let known = load(&target, &entry, &other).await.unwrap();
        let lost = known.lost(&coverage_of(&entry, &other, &left, now));
        assert_eq!(lost, u64::from(before > 7), "{before} were listed before");

        // It was told since.
        write(&target, content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
        for memory in [memory, ProtectionCache::default()] {
            let known = load(&target, &entry, &memory).await.unwrap();
            let coverage = coverage_of(&entry, &memory, &left, now);
            assert_eq!((known.lost(&coverage), known.count()), (0, 299));
            assert!(known.matches(&coverage, &[]));
        }
    }
}

/// A manifest that cannot be written, since the store refuses something else of the hold.
#[tokio::test]
async fn lost_version_is_reported_once() {
    let now = Timestamp::now();
    let (entry, memory) = (entry(now), ProtectionCache::default());
    let all = recordings("hal", 3, now);
    let (stub, _) = start_bucket(all.clone(), |_, _, bytes| bytes).await;
    let coverage = coverage_of(&entry, &memory, &all, now);
    write(&stub.connection(), content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
    let mut coverage = coverage_of(&entry, &memory, &all[1..], now);
    for (hidden, before, after) in [(true, 0, 0), (false, 1, 0)] {
        let place = SourceDay::of(&all[0].key.parse().unwrap());
        coverage.incomplete_listings = std::iter::once(place).filter(|_| hidden).collect();
        assert_eq!(memory.manifest("1").unwrap().lost(&coverage), before);
        memory.forget_lost("1", &coverage);
        let told = memory.manifest("1").unwrap();
        assert_eq!(told.lost(&coverage), after);
        assert_eq!(told.count(), if hidden { 3 } else { 2 }, "what is hidden may be there");
    }
    assert!(!memory.manifest("1").unwrap().matches(&coverage, &[]), "the manifest still lists it");
}

/// Its key could not be true when it was held, and a store that moved its time since made it true.
#[tokio::test]
async fn version_in_manifest_is_neither_overdue_nor_swept() {
    let now = Timestamp::now();
    let entry = entry(now);
    let memory = ProtectionCache::default();
    let start = now - SignedDuration::from_hours(24 * 28);
    let key = Key::new(Class::Video, "hal", start, 60_000, &[7; 32]).unwrap();
    let old = |id: &str, key: String| ListedVersion {
        key,
        id: id.into(),
        is_marker: false,
        is_latest: true,
        modified: start + SignedDuration::from_secs(70),
        size: 10,
        etag: "e".into(),
    };
    let ledger = "ledger/holds/1.json".to_owned();
    let all = vec![old("1", ledger.clone()), old("listed", key.to_string())];
    let (stub, objects) = start_bucket(all.clone(), |_, _, bytes| bytes).await;
    let written = serde_json::to_vec(&entry).unwrap();
    objects.lock().unwrap().insert(ledger, written);
    let target = stub.connection();
    for is_listed in [false, true] {
        if is_listed {
            let coverage = coverage_of(&entry, &memory, &all[1..], now);
            write(&target, content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
        }
        let scope = AuditOptions {
            terms: TERMS,
            range: ScanRange::All,
            sample_one_in: 1,
            known_holds: None,
            cache: Arc::default(),
        };
        let tally = audit(&target, &scope, now).await.unwrap();
        let overdue = u64::from(!is_listed);
        assert_eq!((tally.count(FindingKind::Overdue), tally.held_versions), (overdue, 1 - overdue));
        assert_eq!(tally.count(FindingKind::ReleaseOverdue), 0);
        stub.take_requests();
        let memory = ProtectionCache::default();
        let swept =
            sweep(&target, &PROTOCOL_CEILINGS, &NoOpenHolds, &memory, ScanRange::All, DecisionTime::at(now))
                .await;
        let asked = stub.take_requests();
        let deletes = asked.iter().filter(|asked| asked.query_parameter("delete").is_some());
        assert_eq!(deletes.count() > 0, !is_listed, "{swept:?}");
        if is_listed {
            assert_eq!(swept.map(|swept| (swept.held, swept.undeletable)), Ok((1, 0)));
        }
    }
}
