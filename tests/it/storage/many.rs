//! Passes over more than one page and more than two sources: all of it is held, and told of in order; one version that is
//! refused stops no other, and a store that falls silent stops all.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::Key;
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::storage::Probe;
use toezicht::storage::recordings::error::HoldError;
use toezicht::storage::recordings::hold::coverage::Coverage;
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{Release, place};
use toezicht::wire::StorageTarget;

use super::holds::{Declared, at_time, audited, cover, ledger_entry, placed, prepared, released, task};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

const MORE_THAN_A_PAGE: i32 = 1004;
const SEGMENTS_OF_OTHERS: i32 = 30;
const AT_ONCE: usize = 16;

/// Six in the morning of yesterday: all that follows is of one day.
fn morning() -> Timestamp {
    // Once: a day may end while a test runs.
    static MORNING: LazyLock<Timestamp> = LazyLock::new(|| {
        let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
        let day = TimeZone::UTC.to_datetime(yesterday).date();
        day.at(6, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp()
    });
    *MORNING
}

/// What three cameras recorded of that day, sorted; one of them stopped in between.
async fn recorded(scene: &Scene, of_hal: i32) -> Vec<String> {
    let seconds = |count, every| (0..count).map(move |n| n * every);
    let hal = seconds(of_hal, 20).map(|at| ("hal", at));
    let deur = seconds(SEGMENTS_OF_OTHERS, 60).map(|at| ("deur", if at < 600 { at } else { at + 900 }));
    let tuin = seconds(SEGMENTS_OF_OTHERS, 60).map(|at| ("tuin", at));
    let all = hal.chain(deur).chain(tuin);
    let puts = all.map(|(camera, at)| scene.record(camera, morning() + at.seconds()));
    let mut keys: Vec<_> = stream::iter(puts).buffer_unordered(AT_ONCE).collect().await;
    keys.sort();
    keys
}

/// What there is of a hold, by the keys alone.
fn expected(incident: &HoldScope, keys: &[String]) -> Coverage {
    let mut coverage = Coverage::new(incident, &BTreeMap::new(), Timestamp::now());
    for key in keys {
        coverage.add(&key.parse::<Key>().unwrap().recording(), 64, false);
    }
    coverage.finish()
}

async fn every_version_is_held(server: S3Server) {
    let scene = prepared(server).await;
    let keys = recorded(&scene, MORE_THAN_A_PAGE).await;
    let incident = [cover(&[], morning(), Some(morning() + 6.hours()))];
    // The last of a page is its delete marker, the first of the next the version behind it.
    let at_the_border = keys.iter().filter(|key| key.contains("/hal/")).nth(999).unwrap();
    scene.add_delete_marker(at_the_border).await;

    let count = keys.len() as u64;
    let proved = placed(&scene.operator, &incident).await;
    let told =
        |coverage: &Coverage| (coverage.segments, coverage.bytes, coverage.sealed, coverage.sources.clone());
    let found: Vec<_> = proved.coverage.iter().map(told).collect();
    assert_eq!(found, [told(&expected(&incident[0], &keys))]);
    assert_eq!(proved.coverage[0].present.count(), count);
    assert_eq!(scene.versions(at_the_border).await.len(), 1, "the marker is gone");
    let tally = audited(&scene, &incident, Timestamp::now()).await;
    assert_eq!((tally.versions, tally.held_versions), (count, count));
    assert!(tally.is_compliant(), "{:?}", tally.findings);

    let entry = [ledger_entry("0".into(), &incident[0], Timestamp::now())];
    released(&scene.operator, &entry, Timestamp::now()).await;
    let tally = audited(&scene, &[], Timestamp::now()).await;
    assert_eq!((tally.versions, tally.held_versions), (count, 0));
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    released(&scene.operator, &entry, later).await;
    let tally = audited(&scene, &[], later).await;
    assert_eq!((tally.versions, tally.delete_markers), (0, 0), "all is over its ceiling by then");
}

/// Nobody may put a legal hold on a key, the operator neither.
async fn protect(scene: &Scene, key: &str) {
    let mut policy: Value = serde_json::from_str(&scene.policy().await.unwrap()).unwrap();
    policy["Statement"].as_array_mut().unwrap().push(json!({
        "Sid": "Refused", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObjectLegalHold",
        "Resource": format!("arn:aws:s3:::{}/{key}", scene.bucket()),
    }));
    let client = scene.operator_client();
    let put = client.put_bucket_policy().bucket(scene.bucket());
    put.policy(policy.to_string()).send().await.unwrap();
}

async fn rejected_version_blocks_no_other(server: S3Server) {
    let scene = prepared(server).await;
    let mut keys = Vec::new();
    for day in 0..3 {
        // A day each, of which none is begun before the one before it is done.
        let at = morning() - SignedDuration::from_hours(24 * (3 - day));
        keys.push(scene.record("hal", at).await);
        keys.push(scene.record("deur", at).await);
    }
    protect(&scene, &keys[0]).await;
    scene.add_delete_marker(&keys[0]).await;
    let since = morning() - SignedDuration::from_hours(24 * 4);
    let incident = [cover(&[], since, None), cover(&["deur"], since, None)];
    let work = task(&incident);
    let done = place(&connect(&scene.operator), &work, Timestamp::now()).await.unwrap();
    assert_eq!((done.legal_holds_set, done.tagged), (5, 5));
    for key in &keys[1..] {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
    }
    let found = place(&connect(&scene.operator), &work, Timestamp::now()).await.unwrap();
    assert!(found.is_confirmed(), "{found:?}");
    let refused = found.errors.unwrap();
    let HoldError::Storage(error) = &refused.first_error else {
        panic!("{refused:?}");
    };
    let told = (error.operation, error.status, refused.versions);
    assert_eq!(told, ("PutObjectLegalHold", Some(403), 1));
    let [of_both, of_one] = found.coverage.try_into().unwrap();
    assert_eq!((of_both.segments, of_both.errors), (5, Some(refused)));
    assert_eq!((of_one.segments, of_one.errors), (3, None));

    scene.enforce(Probe::Skip).await.unwrap();
    placed(&scene.operator, &incident).await;
    assert_eq!(scene.protection(&keys[0]).await, Some((true, "held".into())));

    // Nor is any other kept for it when all are over their ceiling.
    protect(&scene, &keys[0]).await;
    let entry = [ledger_entry("0".into(), &incident[0], Timestamp::now())];
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    let (nobody, memory) = (Declared(vec![]), ProtectionCache::default());
    let mut release = Release::new(&entry, &nobody, &PROTOCOL_CEILINGS, &memory);
    let done = release.run_pass(&connect(&scene.operator), at_time(later)).await.unwrap();
    assert_eq!(done.deleted, 5, "{done:?}");
    let refused: Vec<u64> = done.errors.into_values().map(|refused| refused.versions).collect();
    assert_eq!(refused, [1]);
    assert_eq!(scene.protection(&keys[0]).await, Some((true, "video".into())));
    scene.enforce(Probe::Skip).await.unwrap();
    released(&scene.operator, &entry, later).await;
    assert!(scene.versions("video/").await.is_empty());
}

async fn silent_store_stops_the_pass(server: S3Server, port: u16) {
    let proxy = Proxy::start(&server.endpoint, port).await;
    let scene = prepared(server).await;
    recorded(&scene, 150).await;
    let through = StorageTarget { endpoint: Some(proxy.endpoint.clone()), ..scene.operator.clone() };
    let incident = [cover(&[], morning(), Some(morning() + 6.hours()))];
    let told = proxy.cut_after(300, |_| true);
    let (work, now) = (task(&incident), Timestamp::now());
    // One by one, the others would take minutes to find out.
    let broken_off =
        tokio::time::timeout(Duration::from_mins(3), place(&connect(&through), &work, now)).await;
    let broken_off = broken_off.expect("it stops").unwrap_err();
    assert!(
        matches!(&broken_off.error, HoldError::Storage(error) if error.status.is_none()),
        "{broken_off:?}"
    );
    assert!(told.await.is_ok(), "it fell silent in the middle");

    proxy.clear_faults();
    placed(&through, &incident).await;
    let tally = audited(&scene, &incident, Timestamp::now()).await;
    assert!(tally.is_compliant() && tally.held_versions == tally.versions, "{tally:?}");
}

#[tokio::test]
async fn seaweedfs_every_version_is_held() {
    every_version_is_held(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_every_version_is_held() {
    every_version_is_held(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_rejected_version_blocks_no_other() {
    rejected_version_blocks_no_other(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_rejected_version_blocks_no_other() {
    rejected_version_blocks_no_other(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_silent_store_stops_the_pass() {
    silent_store_stops_the_pass(S3Server::primary(), 28346).await;
}
