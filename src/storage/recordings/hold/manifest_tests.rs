//! Large manifests, and damaged answers of a store or proxy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::coverage::Coverage;
use super::manifest::{ManifestContent, load, write};
use super::manifest_format::ManifestGap;
use super::protection_cache::ProtectionCache;
use crate::rules::{Class, Key, LedgerEntry, ListedVersion, PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::recordings::SourceDay;
use crate::storage::recordings::audit::{AuditOptions, FindingKind, audit};
use crate::storage::recordings::sweep::state::ScanRange;
use crate::storage::recordings::sweep::sweep;
use crate::storage::s3::DecisionTime;
use crate::storage::s3::stub::{FakeBucket, NO_OPEN_HOLDS, ReceivedRequest, Stub, listed};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

/// A bucket with these recordings that keeps every version. `corrupt` changes its answer to a GET, by the number of earlier ones.
async fn start_bucket(
    recordings: Vec<ListedVersion>,
    corrupt: impl Fn(&ReceivedRequest, usize, Vec<u8>) -> Vec<u8> + Send + 'static,
) -> (Stub, Arc<Mutex<FakeBucket>>) {
    let mut gets = 0;
    FakeBucket::of(recordings)
        .start(move |asked, bucket| match asked.method.as_str() {
            "POST" | "DELETE" => Some((204, String::new())),
            "GET" if !asked.has_parameter("versions") => {
                let body = bucket.bodies.get(&asked.place())?.clone().into_bytes();
                gets += 1;
                Some((200, String::from_utf8(corrupt(asked, gets - 1, body)).unwrap()))
            }
            _ => None,
        })
        .await
}

fn entry(now: Timestamp) -> LedgerEntry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "purpose": "Theft", "reference": "1",
        "window": {"from": now - SignedDuration::from_hours(9)},
    }));
    LedgerEntry::new("1".into(), "n".into(), "h".into(), &spec.unwrap(), now)
}

/// Segments of a source.
fn recordings(source: &str, count: i64, now: Timestamp) -> Vec<ListedVersion> {
    let recording = |number: i64| {
        let start = now - SignedDuration::from_secs(6 * (count - number) + 60);
        let key = Key::new(Class::Video, source, start, 6000, &[7; 32]).unwrap();
        listed(key, &format!("{number:032}"), start)
    };
    (0..count).map(recording).collect()
}

/// Coverage that a pass finds.
fn coverage_of(
    entry: &LedgerEntry,
    memory: &ProtectionCache,
    all: &[ListedVersion],
    now: Timestamp,
) -> Coverage {
    let mut coverage = Coverage::new(&entry.scope, &BTreeMap::new(), now);
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

/// Sources may have long names, and a hold may cover a month of many cameras.
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
    let largest = objects.lock().unwrap().bodies.values().map(String::len).max();
    assert!(largest > Some(500_000), "{largest:?}: it would not have been too large");
    // In another process.
    let memory = ProtectionCache::default();
    let told = load(&target, &entry, &memory).await.unwrap();
    assert_eq!(told.versions.count(), 300);
    let coverage = coverage_of(&entry, &memory, &all, now);
    assert!(told.matches(&coverage, &missing));
}

/// Returns the number of versions that a manifest of 300 segments has if answers are damaged by `spoil`.
async fn count_reloaded(
    spoil: impl Fn(&ReceivedRequest, usize, Vec<u8>) -> Vec<u8> + Send + 'static,
) -> Result<u64, String> {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings("hal", 300, now);
    let memory = ProtectionCache::default();
    let (whole, objects) = start_bucket(all.clone(), |_, _, bytes| bytes).await;
    let coverage = coverage_of(&entry, &memory, &all, now);
    write(&whole.connection(), content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
    let (spoilt, again) = start_bucket(Vec::new(), spoil).await;
    again.lock().unwrap().bodies.clone_from(&objects.lock().unwrap().bodies);
    let told = load(&spoilt.connection(), &entry, &ProtectionCache::default()).await;
    told.map(|told| told.versions.count()).map_err(|error| error.to_string())
}

/// With half a manifest, a loss in the meantime would never be reported.
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

/// Somebody with write access overwrote it: the operator rewrites it.
#[tokio::test]
async fn corrupt_manifest_counts_as_empty() {
    let spoilt = |_: &ReceivedRequest, _, _| b"{".to_vec();
    assert_eq!(count_reloaded(spoilt).await, Ok(0));
    let large = |_: &ReceivedRequest, _, _| vec![b' '; 17 * 1024 * 1024];
    assert_eq!(count_reloaded(large).await, Ok(0));
}

/// A manifest without the lost version would hide the loss.
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
        again.lock().unwrap().bodies.clone_from(&objects.lock().unwrap().bodies);
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

        // Another process knows the earlier manifest only.
        let other = ProtectionCache::default();
        let known = load(&target, &entry, &other).await.unwrap();
        let lost = known.lost(&coverage_of(&entry, &other, &left, now));
        assert_eq!(lost, u64::from(before > 7), "{before} were listed before");

        // The loss is reported by now.
        write(&target, content_of(&entry, &coverage, &[]), &memory, now).await.unwrap();
        for memory in [memory, ProtectionCache::default()] {
            let known = load(&target, &entry, &memory).await.unwrap();
            let coverage = coverage_of(&entry, &memory, &left, now);
            assert_eq!((known.lost(&coverage), known.versions.count()), (0, 299));
            assert!(known.matches(&coverage, &[]));
        }
    }
}

/// The manifest cannot be written, because the store rejects another version of the hold.
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
        assert_eq!(told.versions.count(), if hidden { 3 } else { 2 }, "what is hidden may be there");
    }
    assert!(!memory.manifest("1").unwrap().matches(&coverage, &[]), "the manifest still lists it");
}

/// Its key was implausible when it was held. A store that updates the modification time has made it plausible.
#[tokio::test]
async fn version_in_manifest_is_neither_overdue_nor_swept() {
    let now = Timestamp::now();
    let entry = entry(now);
    let memory = ProtectionCache::default();
    let start = now - SignedDuration::from_hours(24 * 28);
    let key = Key::new(Class::Video, "hal", start, 60_000, &[7; 32]).unwrap();
    let (ledger, modified) = ("ledger/holds/1.json", start + SignedDuration::from_secs(70));
    let all = vec![listed(ledger, "1", modified), listed(key, "listed", modified)];
    let (stub, objects) = start_bucket(all.clone(), |_, _, bytes| bytes).await;
    objects.lock().unwrap().put(ledger, serde_json::to_string(&entry).unwrap());
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
        let swept = sweep(
            &target,
            &PROTOCOL_CEILINGS,
            &NO_OPEN_HOLDS,
            &memory,
            ScanRange::All,
            DecisionTime::at(now),
        )
        .await;
        let asked = stub.take_requests();
        let deletes = asked.iter().filter(|asked| asked.query_parameter("delete").is_some());
        assert_eq!(deletes.count() > 0, !is_listed, "{swept:?}");
        if is_listed {
            assert_eq!(swept.map(|swept| (swept.held, swept.undeletable)), Ok((1, 0)));
        }
    }
}
