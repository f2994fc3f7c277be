//! Manifests at their limits, and as a store or a proxy may answer with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::Place;
use super::coverage::Coverage;
use super::manifest::{Kept, Missing, told, write};
use super::memory::Memory;
use crate::api::{Ceilings, Days};
use crate::storage::Time;
use crate::storage::audit::{Found, Scope, audit};
use crate::storage::key::{Class, Key};
use crate::storage::ledger::Entry;
use crate::storage::listing::Listed;
use crate::storage::stub::{Asked, NothingDeclared, Stub, error, versions};
use crate::storage::sweep::{Reach, sweep};

const CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

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
        coverage.present.insert(memory.fingerprint(&listed.key, &listed.id));
        coverage.places.insert(Place::of(&listed.key.parse().unwrap()));
    }
    coverage
}

fn kept<'a>(entry: &'a Entry, coverage: &'a Coverage, missing: &'a [Missing]) -> Kept<'a> {
    Kept { entry, coverage, missing, ceilings: &CEILINGS, embargo: None }
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
    let gap = Missing { source: "b".repeat(200), from: now, until: now, cause: "NotThere".into() };
    let missing = vec![gap; 2000];
    let target = stub.target();
    write(&target, kept(&entry, &coverage, &missing), &memory, now).await.unwrap();
    let largest = objects.lock().unwrap().values().map(Vec::len).max();
    assert!(largest > Some(500_000), "{largest:?}: it would not have been too large");
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
    write(&whole.target(), kept(&entry, &coverage, &[]), &memory, now).await.unwrap();
    let (spoilt, again) = bucket(Vec::new(), spoil).await;
    again.lock().unwrap().extend(std::mem::take(&mut *objects.lock().unwrap()));
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
    assert!(told.as_ref().is_err_and(|error| error.contains("UnreadableAnswer")), "{told:?}");
}

/// Somebody who may write there wrote over it: it is written anew.
#[tokio::test]
async fn a_spoilt_manifest_ends_no_pass() {
    let spoilt = |_: &Asked, _, _| b"{".to_vec();
    assert_eq!(told_of(spoilt).await, Ok(0));
    let large = |_: &Asked, _, _| vec![b' '; 17 * 1024 * 1024];
    assert_eq!(told_of(large).await, Ok(0));
}

/// A manifest that was written without it would be all that anybody knows.
#[tokio::test]
async fn what_is_lost_while_a_manifest_is_written_is_told() {
    let now = Timestamp::now();
    let entry = entry(now);
    let all = recordings("hal", 300, now);
    let left: Vec<Listed> = all.iter().filter(|listed| listed.key != all[7].key).cloned().collect();
    for before in [0, 250] {
        let memory = Memory::default();
        let (first, objects) = bucket(all[..before].to_vec(), |_, _, bytes| bytes).await;
        let coverage = found(&entry, &memory, &all[..before], now);
        write(&first.target(), kept(&entry, &coverage, &[]), &memory, now).await.unwrap();
        let (stub, again) = bucket(left.clone(), |_, _, bytes| bytes).await;
        again.lock().unwrap().extend(objects.lock().unwrap().clone());
        let target = stub.target();

        // The pass still found it.
        let coverage = found(&entry, &memory, &all, now);
        let written = write(&target, kept(&entry, &coverage, &[]), &memory, now).await;
        let error = written.unwrap_err().to_string();
        assert!(error.contains("HeldVersionGone"), "{error}");
        let coverage = found(&entry, &memory, &left, now);
        let known = told(&target, &entry, &memory).await.unwrap();
        assert_eq!(known.lost(&coverage), 1, "{before} were listed before");
        assert!(known.is_unwritten() && !known.is_of(&coverage, &[]));

        // Another process knows what was listed before.
        let other = Memory::default();
        let known = told(&target, &entry, &other).await.unwrap();
        let lost = known.lost(&found(&entry, &other, &left, now));
        assert_eq!(lost, u64::from(before > 7), "{before} were listed before");

        // It was told since.
        write(&target, kept(&entry, &coverage, &[]), &memory, now).await.unwrap();
        for memory in [memory, Memory::default()] {
            let known = told(&target, &entry, &memory).await.unwrap();
            let coverage = found(&entry, &memory, &left, now);
            assert_eq!((known.lost(&coverage), known.count()), (0, 299));
            assert!(known.is_of(&coverage, &[]));
        }
    }
}

/// A manifest that cannot be written, since the store refuses something else of the hold.
#[tokio::test]
async fn what_was_told_as_lost_is_told_once() {
    let now = Timestamp::now();
    let (entry, memory) = (entry(now), Memory::default());
    let all = recordings("hal", 3, now);
    let (stub, _) = bucket(all.clone(), |_, _, bytes| bytes).await;
    let coverage = found(&entry, &memory, &all, now);
    write(&stub.target(), kept(&entry, &coverage, &[]), &memory, now).await.unwrap();
    let mut coverage = found(&entry, &memory, &all[1..], now);
    for (hidden, before, after) in [(true, 0, 0), (false, 1, 0)] {
        let place = Place::of(&all[0].key.parse().unwrap());
        coverage.hidden = std::iter::once(place).filter(|_| hidden).collect();
        assert_eq!(memory.told("1").unwrap().lost(&coverage), before);
        memory.forget_lost("1", &coverage);
        let told = memory.told("1").unwrap();
        assert_eq!(told.lost(&coverage), after);
        assert_eq!(told.count(), if hidden { 3 } else { 2 }, "what is hidden may be there");
    }
    assert!(!memory.told("1").unwrap().is_of(&coverage, &[]), "the manifest still lists it");
}

/// Its key could not be true when it was held, and a store that moved its time since made it true.
#[tokio::test]
async fn what_a_manifest_lists_is_neither_overdue_nor_swept() {
    let now = Timestamp::now();
    let entry = entry(now);
    let memory = Memory::default();
    let start = now - SignedDuration::from_hours(24 * 28);
    let key = Key::new(Class::Video, "hal", start, 60_000, &[7; 32]).unwrap();
    let old = |id: &str, key: String| Listed {
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
    let (stub, objects) = bucket(all.clone(), |_, _, bytes| bytes).await;
    let written = serde_json::to_vec(&entry).unwrap();
    objects.lock().unwrap().insert(ledger, written);
    let target = stub.target();
    for is_listed in [false, true] {
        if is_listed {
            let coverage = found(&entry, &memory, &all[1..], now);
            write(&target, kept(&entry, &coverage, &[]), &memory, now).await.unwrap();
        }
        let scope = Scope {
            ceilings: CEILINGS,
            embargo: None,
            reach: Reach::All,
            one_in: 1,
            known: None,
            memory: Arc::default(),
        };
        let tally = audit(&target, &scope, now).await.unwrap();
        let overdue = u64::from(!is_listed);
        assert_eq!((tally.count(Found::Overdue), tally.held), (overdue, 1 - overdue));
        assert_eq!(tally.count(Found::ReleaseOverdue), 0);
        stub.take();
        let memory = Memory::default();
        let swept = sweep(&target, &CEILINGS, &NothingDeclared, &memory, Reach::All, Time::of(now)).await;
        let asked = stub.take();
        let deletes = asked.iter().filter(|asked| asked.parameter("delete").is_some());
        assert_eq!(deletes.count() > 0, !is_listed, "{swept:?}");
        if is_listed {
            assert_eq!(swept.map(|swept| (swept.held, swept.resisted)), Ok((1, 0)));
        }
    }
}
