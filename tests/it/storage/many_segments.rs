//! Passes over several pages and sources: every version is held and reported in order. One refused version does not
//! stop the others. A silent store stops the pass.

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

use super::holds::{
    FixedHolds, at_time, audit_with_holds, hold_scope, ledger_entry, place_input, place_until_confirmed,
    prepared_bucket, release_until_verified,
};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

const MORE_THAN_A_PAGE: i32 = 1004;
const SEGMENTS_OF_OTHERS: i32 = 30;
const MAX_CONCURRENT_PUTS: usize = 16;

/// Returns 06:00 UTC of yesterday. All recordings of these tests are of that day.
fn morning() -> Timestamp {
    // Computed once: a day may end while a test runs.
    static MORNING: LazyLock<Timestamp> = LazyLock::new(|| {
        let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
        let day = TimeZone::UTC.to_datetime(yesterday).date();
        day.at(6, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp()
    });
    *MORNING
}

/// Records three cameras on that day and returns the sorted keys. One camera has a gap.
async fn record_three_cameras(scene: &Scene, hal_count: i32) -> Vec<String> {
    let seconds = |count, every| (0..count).map(move |n| n * every);
    let hal = seconds(hal_count, 20).map(|at| ("hal", at));
    let deur = seconds(SEGMENTS_OF_OTHERS, 60).map(|at| ("deur", if at < 600 { at } else { at + 900 }));
    let tuin = seconds(SEGMENTS_OF_OTHERS, 60).map(|at| ("tuin", at));
    let all = hal.chain(deur).chain(tuin);
    let puts = all.map(|(camera, at)| scene.record(camera, morning() + at.seconds()));
    let mut keys: Vec<_> = stream::iter(puts).buffer_unordered(MAX_CONCURRENT_PUTS).collect().await;
    keys.sort();
    keys
}

/// Computes the coverage of a hold from the keys alone.
fn expected_coverage(incident: &HoldScope, keys: &[String]) -> Coverage {
    let mut coverage = Coverage::new(incident, &BTreeMap::new(), Timestamp::now());
    for key in keys {
        coverage.add(&key.parse::<Key>().unwrap().recording(), 64, false);
    }
    coverage.finish()
}

async fn every_version_is_held(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let keys = record_three_cameras(&scene, MORE_THAN_A_PAGE).await;
    let incident = [hold_scope(&[], morning(), Some(morning() + 6.hours()))];
    // The delete marker is the last entry of a page, and its version the first of the next.
    let at_page_boundary = keys.iter().filter(|key| key.contains("/hal/")).nth(999).unwrap();
    scene.add_delete_marker(at_page_boundary).await;

    let count = keys.len() as u64;
    let proved = place_until_confirmed(&scene.operator, &incident).await;
    let summary =
        |coverage: &Coverage| (coverage.segments, coverage.bytes, coverage.sealed, coverage.sources.clone());
    let found: Vec<_> = proved.coverage.iter().map(summary).collect();
    assert_eq!(found, [summary(&expected_coverage(&incident[0], &keys))]);
    assert_eq!(proved.coverage[0].present.count(), count);
    assert_eq!(scene.versions(at_page_boundary).await.len(), 1, "the delete marker is removed");
    let tally = audit_with_holds(&scene, &incident, Timestamp::now()).await;
    assert_eq!((tally.versions, tally.held_versions), (count, count));
    assert!(tally.is_compliant(), "{:?}", tally.findings);

    let entry = [ledger_entry("0".into(), &incident[0], Timestamp::now())];
    release_until_verified(&scene.operator, &entry, Timestamp::now()).await;
    let tally = audit_with_holds(&scene, &[], Timestamp::now()).await;
    assert_eq!((tally.versions, tally.held_versions), (count, 0));
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    release_until_verified(&scene.operator, &entry, later).await;
    let tally = audit_with_holds(&scene, &[], later).await;
    assert_eq!((tally.versions, tally.delete_markers), (0, 0), "all recordings are past their ceiling");
}

/// Denies everyone, including the operator, legal holds on a key.
async fn deny_legal_hold(scene: &Scene, key: &str) {
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
    let scene = prepared_bucket(server).await;
    let mut keys = Vec::new();
    for day in 0..3 {
        // One day each: a pass finishes a day before it starts the next.
        let at = morning() - SignedDuration::from_hours(24 * (3 - day));
        keys.push(scene.record("hal", at).await);
        keys.push(scene.record("deur", at).await);
    }
    deny_legal_hold(&scene, &keys[0]).await;
    scene.add_delete_marker(&keys[0]).await;
    let since = morning() - SignedDuration::from_hours(24 * 4);
    let incident = [hold_scope(&[], since, None), hold_scope(&["deur"], since, None)];
    let input = place_input(&incident);
    let done = place(&connect(&scene.operator), &input, Timestamp::now()).await.unwrap();
    assert_eq!((done.legal_holds_set, done.tagged), (5, 5));
    for key in &keys[1..] {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
    }
    let found = place(&connect(&scene.operator), &input, Timestamp::now()).await.unwrap();
    assert!(found.is_confirmed(), "{found:?}");
    let refused = found.errors.unwrap();
    let HoldError::Storage(error) = &refused.first_error else {
        panic!("{refused:?}");
    };
    let reported = (error.operation, error.status, refused.versions);
    assert_eq!(reported, ("PutObjectLegalHold", Some(403), 1));
    let [both_coverage, one_coverage] = found.coverage.try_into().unwrap();
    assert_eq!((both_coverage.segments, both_coverage.errors), (5, Some(refused)));
    assert_eq!((one_coverage.segments, one_coverage.errors), (3, None));

    scene.enforce(Probe::Skip).await.unwrap();
    place_until_confirmed(&scene.operator, &incident).await;
    assert_eq!(scene.protection(&keys[0]).await, Some((true, "held".into())));

    // Past the ceiling, the refused version does not keep the others either.
    deny_legal_hold(&scene, &keys[0]).await;
    let entry = [ledger_entry("0".into(), &incident[0], Timestamp::now())];
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    let (no_holds, cache) = (FixedHolds(vec![]), ProtectionCache::default());
    let mut release = Release::new(&entry, &no_holds, &PROTOCOL_CEILINGS, &cache);
    let done = release.run_pass(&connect(&scene.operator), at_time(later)).await.unwrap();
    assert_eq!(done.deleted, 5, "{done:?}");
    let refused: Vec<u64> = done.errors.into_values().map(|refused| refused.versions).collect();
    assert_eq!(refused, [1]);
    assert_eq!(scene.protection(&keys[0]).await, Some((true, "video".into())));
    scene.enforce(Probe::Skip).await.unwrap();
    release_until_verified(&scene.operator, &entry, later).await;
    assert!(scene.versions("video/").await.is_empty());
}

async fn silent_store_stops_the_pass(server: S3Server, port: u16) {
    let proxy = Proxy::start(&server.endpoint, port).await;
    let scene = prepared_bucket(server).await;
    record_three_cameras(&scene, 150).await;
    let via_proxy = StorageTarget { endpoint: Some(proxy.endpoint.clone()), ..scene.operator.clone() };
    let incident = [hold_scope(&[], morning(), Some(morning() + 6.hours()))];
    let cut = proxy.cut_after(300, |_| true);
    let (input, now) = (place_input(&incident), Timestamp::now());
    // Without that, each pending request would time out on its own, which takes minutes.
    let result = tokio::time::timeout(Duration::from_mins(3), place(&connect(&via_proxy), &input, now)).await;
    let result = result.expect("the pass stops").unwrap_err();
    assert!(matches!(&result.error, HoldError::Storage(error) if error.status.is_none()), "{result:?}");
    assert!(cut.await.is_ok(), "the store fell silent during the pass");

    proxy.clear_faults();
    place_until_confirmed(&via_proxy, &incident).await;
    let tally = audit_with_holds(&scene, &incident, Timestamp::now()).await;
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
