//! Manifests at their limits, and as a store or a proxy may answer with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::Place;
use super::coverage::Coverage;
use super::manifest::{Kept, Missing, told, write};
use super::memory::Memory;
use crate::api::{Ceilings, Days};
use crate::storage::key::{Class, Key};
use crate::storage::ledger::Entry;
use crate::storage::listing::Listed;
use crate::storage::stub::{Asked, Stub, error, versions};

const CEILINGS: Ceilings = Ceilings {
    video: Days(28),
    calls: Days(7),
};

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A bucket that has these recordings, and keeps what is put. `spoil` changes its answer to a GET, by how many were before.
async fn bucket(
    recordings: Vec<Listed>,
    spoil: impl Fn(&Asked, usize, Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (Stub, Objects) {
    let objects = Objects::default();
    let (kept, gets) = (Arc::clone(&objects), Arc::new(Mutex::new(0)));
    let stub = Stub::start(move |asked| {
        let mut kept = kept.lock().unwrap();
        let key = asked.path.trim_start_matches("/tz-stub/").to_owned();
        match asked.method.as_str() {
            "GET" if asked.parameter("versions").is_some() => versions(asked, &recordings),
            "GET" => match kept.get(&key) {
                Some(bytes) => {
                    let mut gets = gets.lock().unwrap();
                    *gets += 1;
                    let bytes = spoil(asked, *gets - 1, bytes.clone());
                    (200, String::from_utf8(bytes).unwrap())
                }
                None => error(404, "NoSuchKey"),
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

fn entry(now: Timestamp) -> Entry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "purpose": "Theft", "reference": "1",
        "window": {"from": now - SignedDuration::from_hours(9)},
    }));
    Entry::of("1".into(), "n".into(), "h".into(), &spec.unwrap(), now)
}

/// So many segments of a source.
fn recordings(source: &str, count: i64, now: Timestamp) -> Vec<Listed> {
    let recording = |number: i64| {
        let start = now - SignedDuration::from_secs(6 * (count - number) + 60);
        let key = Key::new(Class::Video, source, start, 6000, &[7; 32]).unwrap();
        Listed {
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
fn found(entry: &Entry, memory: &Memory, all: &[Listed], now: Timestamp) -> Coverage {
    let mut coverage = Coverage::of(&entry.cover(), &BTreeMap::new(), now);
    for listed in all {
        coverage
            .present
            .insert(memory.fingerprint(&listed.key, &listed.id));
        coverage.places.insert(Place::of(&listed.key.parse().unwrap()));
    }
    coverage
}

fn kept<'a>(entry: &'a Entry, coverage: &'a Coverage, missing: &'a [Missing]) -> Kept<'a> {
    Kept {
        entry,
        coverage,
        missing,
        ceilings: &CEILINGS,
        embargo: None,
    }
}

/// Sources may have long names, and a hold a month of many cameras.
#[tokio::test]
async fn every_manifest_that_is_written_can_be_read() {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings(&"a".repeat(253), 300, now);
    let (stub, objects) = bucket(all.clone(), |_, _, bytes| bytes).await;
    let memory = Memory::default();
    let coverage = found(&entry, &memory, &all, now);
    let gap = Missing {
        source: "b".repeat(200),
        from: now,
        until: now,
        cause: "NotThere".into(),
    };
    let missing = vec![gap; 2000];
    let target = stub.target();
    write(&target, kept(&entry, &coverage, &missing), &memory, now)
        .await
        .unwrap();
    let largest = objects.lock().unwrap().values().map(Vec::len).max();
    assert!(
        largest > Some(500_000),
        "{largest:?}: it would not have been too large"
    );
    // Another process.
    let memory = Memory::default();
    let told = told(&target, &entry, &memory).await.unwrap();
    assert_eq!(told.count(), 300);
    let coverage = found(&entry, &memory, &all, now);
    assert!(told.is_of(&coverage, &missing));
}

/// What is told of a manifest of 300 segments where answers are spoilt so.
async fn told_of(
    spoil: impl Fn(&Asked, usize, Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> Result<u64, String> {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings("hal", 300, now);
    let memory = Memory::default();
    let (whole, objects) = bucket(all.clone(), |_, _, bytes| bytes).await;
    let coverage = found(&entry, &memory, &all, now);
    write(&whole.target(), kept(&entry, &coverage, &[]), &memory, now)
        .await
        .unwrap();
    let (spoilt, again) = bucket(Vec::new(), spoil).await;
    again
        .lock()
        .unwrap()
        .extend(std::mem::take(&mut *objects.lock().unwrap()));
    let told = told(&spoilt.target(), &entry, &Memory::default()).await;
    told.map(|told| told.count()).map_err(|error| error.to_string())
}

/// A loss that happened meanwhile would never be told.
#[tokio::test]
async fn half_of_a_manifest_is_not_taken_for_all_of_it() {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    for broken in 0..3 {
        let once = move |_: &Asked, number, bytes| if number == broken { half(bytes) } else { bytes };
        assert_eq!(told_of(once).await, Ok(300), "{broken}");
    }
    let page = |_: &Asked, number, _| format!("<html>{number}</html>").into_bytes();
    let told = told_of(page).await;
    assert!(
        told.as_ref()
            .is_err_and(|error| error.contains("UnreadableAnswer")),
        "{told:?}"
    );
}

/// Somebody who may write there wrote over it: it is written anew.
#[tokio::test]
async fn a_spoilt_manifest_ends_no_pass() {
    let spoilt = |_: &Asked, _, _| b"{".to_vec();
    assert_eq!(told_of(spoilt).await, Ok(0));
    let large = |_: &Asked, _, _| vec![b' '; 17 * 1024 * 1024];
    assert_eq!(told_of(large).await, Ok(0));
}
