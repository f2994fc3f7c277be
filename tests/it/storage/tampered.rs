//! Whatever somebody does to a bucket behind the operator's back, three ways a class: it is found, named, and mended or
//! refused.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, DefaultRetention, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::storage::recordings::audit::FindingKind;
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{PlaceInput, place};
use toezicht::storage::recordings::sweep::state::ScanRange;
use toezicht::storage::recordings::sweep::state::SweepError;
use toezicht::storage::recordings::sweep::sweep;
use toezicht::storage::{DecisionTime, Probe, Subresource};

use super::holds::{Declared, at_time, audited, cover, placed, task};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

async fn prepared(server: S3Server) -> Scene {
    let scene = Scene::new(server, "tampered");
    scene.enforce(Probe::Skip).await.unwrap();
    scene
}

async fn retention(client: &Client, bucket: &str, mode: ObjectLockRetentionMode, days: i32) {
    let default = DefaultRetention::builder().mode(mode).days(days).build();
    let rule = ObjectLockRule::builder().default_retention(default).build();
    let lock =
        ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build();
    let request = client.put_object_lock_configuration().bucket(bucket);
    request.object_lock_configuration(lock).send().await.unwrap();
}

async fn lifecycle(client: &Client, bucket: &str, prefix: &str, days: i32, status: ExpirationStatus) {
    let rule = LifecycleRule::builder()
        .id("theirs")
        .status(status)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .expiration(LifecycleExpiration::builder().days(days).build())
        .build()
        .unwrap();
    let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
    let request = client.put_bucket_lifecycle_configuration().bucket(bucket);
    request.lifecycle_configuration(rules).send().await.unwrap();
}

/// The bucket's own policy, with one of its Denies left out.
async fn policy_without_a_deny(scene: &Scene) -> Value {
    let mut policy: Value = serde_json::from_str(&scene.policy().await.unwrap()).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    let deny = statements.iter().position(|statement| statement["Effect"] == "Deny").unwrap();
    statements.remove(deny);
    policy
}

async fn suspend(client: &Client, bucket: &str) {
    let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    // A store may refuse, since the bucket has Object Lock: that is as good.
    let _ = client.put_bucket_versioning().bucket(bucket).versioning_configuration(suspended).send().await;
}

/// Lock, lifecycle, policy and versioning, three ways each.
async fn bucket_settings_are_restored(server: S3Server) {
    let scene = prepared(server).await;
    let (client, bucket) = (scene.operator_client(), scene.bucket().to_owned());
    let open = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{bucket}/*"),
    }]});
    for round in 0..3 {
        match round {
            0 => {
                retention(&client, &bucket, ObjectLockRetentionMode::Governance, 1).await;
                client.delete_bucket_lifecycle().bucket(&bucket).send().await.unwrap();
            }
            1 => {
                retention(&client, &bucket, ObjectLockRetentionMode::Governance, 365).await;
                lifecycle(&client, &bucket, "video/", 400, ExpirationStatus::Enabled).await;
            }
            _ => {
                retention(&client, &bucket, ObjectLockRetentionMode::Compliance, 1).await;
                lifecycle(&client, &bucket, "", 24, ExpirationStatus::Disabled).await;
            }
        }
        suspend(&client, &bucket).await;
        for identity in ["manager", "recorder"] {
            suspend(&scene.client(identity), &bucket).await;
        }
        let policy = match round {
            0 => None,
            1 => Some(open.clone()),
            _ => Some(policy_without_a_deny(&scene).await),
        };
        match policy {
            None => drop(client.delete_bucket_policy().bucket(&bucket).send().await.unwrap()),
            Some(policy) => {
                let request = client.put_bucket_policy().bucket(&bucket).policy(policy.to_string());
                request.send().await.unwrap();
            }
        }
        let changed: Vec<_> = scene.enforce(Probe::Skip).await.unwrap().changes;
        for what in [Subresource::DefaultRetention, Subresource::Lifecycle, Subresource::Policy] {
            assert!(
                changed.iter().any(|change| change.subresource == what),
                "round {round}: {what} in {changed:?}"
            );
        }
        let again = scene.enforce(Probe::Skip).await.unwrap();
        assert!(again.changes.is_empty() && again.observed.versioning, "round {round}: {again:?}");
        assert_eq!(again.observed.default_retention, None);
    }
}

/// Tags, legal holds, markers, keys and foreign objects, three ways each.
async fn held_versions_are_repaired(server: S3Server) {
    let scene = prepared(server).await;
    let start = Timestamp::from_second(Timestamp::now().as_second()).unwrap() - 30.minutes();
    let mut keys = Vec::new();
    for minute in 0..10 {
        keys.push(scene.record("hal", start + (2 * minute).minutes()).await);
    }
    let free = scene.record("vrij", start).await;
    let incident = [cover(&["hal"], start, Some(start + 60.minutes()))];
    placed(&scene.operator, &incident).await;

    scene.tag(&keys[0], "video").await;
    scene.tag(&keys[1], "calls").await;
    scene.untag(&keys[2]).await;
    scene.set_hold(&keys[3], false).await;
    scene.set_hold(&keys[4], false).await;
    scene.tag(&keys[4], "video").await;
    scene.set_hold(&free, true).await;
    scene.add_delete_marker(&keys[5]).await;
    scene.add_delete_marker(&keys[6]).await;
    scene.set_hold(&keys[7], false).await;
    scene.add_delete_marker(&keys[7]).await;
    for key in ["notes.txt", "backup/notes.txt", "videos/hal.mp4"] {
        scene.put_foreign_object(key).await;
    }
    let soon = Timestamp::now() + 10.minutes();
    let tally = audited(&scene, &incident, soon).await;
    for (found, count) in [
        (FindingKind::HeldMistagged, 4),
        (FindingKind::HeldUnprotected, 3),
        (FindingKind::HeldHidden, 3),
        (FindingKind::UnexplainedHold, 1),
        (FindingKind::UnexpectedObject, 3),
    ] {
        assert_eq!(tally.count(found), count, "{found:?} in {:?}", tally.findings);
    }
    // Of a hold that was proved once, marks are read before anything is written.
    let proved = PlaceInput { verified_at: &[Some(Timestamp::UNIX_EPOCH)], ..task(&incident) };
    let mended = place(&connect(&scene.operator), &proved, Timestamp::now()).await.unwrap();
    assert_eq!((mended.legal_holds_set, mended.tagged, mended.markers_removed), (3, 4, 3), "{mended:?}");
    placed(&scene.operator, &incident).await;
    let tally = audited(&scene, &incident, soon).await;
    let left: Vec<FindingKind> = tally.findings.keys().copied().collect();
    assert_eq!(left, [FindingKind::UnexplainedHold, FindingKind::UnexpectedObject], "{:?}", tally.findings);
}

/// Keys that cannot be true, or are none, are named; and no ledger that cannot be read lets anything go.
async fn unreadable_ledger_stops_sweep_of_implausible_keys(server: S3Server) {
    let scene = prepared(server).await;
    let now = Timestamp::now();
    let true_key = scene.record("hal", now - 5.minutes()).await;
    for start in [
        now + SignedDuration::from_hours(48),
        now + SignedDuration::from_hours(1),
        now - SignedDuration::from_hours(24 * 60),
    ] {
        scene.record("hal", start).await;
    }
    let tally = audited(&scene, &[], now).await;
    assert_eq!((tally.count(FindingKind::ImplausibleKey), tally.versions), (3, 4), "{:?}", tally.findings);

    // All are over their ceiling by when the store took them, wherever their keys say they belong.
    let later = now + SignedDuration::from_hours(24 * 28 + 1);
    let sweep_all = async || {
        sweep(
            &connect(&scene.operator),
            &PROTOCOL_CEILINGS,
            &Declared(vec![]),
            &ProtectionCache::default(),
            ScanRange::All,
            at_time(later),
        )
        .await
    };
    for garbage in [&b"{"[..], b"{\"format\": 2}", b""] {
        scene.put_bytes("ledger/holds/22.json", garbage).await;
        let refused = sweep_all().await.unwrap_err();
        assert!(refused.to_string().contains("UnreadableLedger"), "{refused}");
    }
    assert_eq!(count_recordings(&scene).await, 4, "nothing went");
    // A marker over the ledger's entry closes nothing, and hides no garbage either.
    scene.add_delete_marker("ledger/holds/22.json").await;
    assert!(sweep_all().await.is_err());
    scene.remove("ledger/holds/22.json").await;
    let swept = sweep_all().await.unwrap();
    assert_eq!((swept.deleted, swept.undeletable), (4, 0), "{swept:?}, {true_key}");
}

/// Tags of yesterday's recordings that no hold explains are put back by the daily sweep, so that the store's lifecycle alone
/// suffices again. What is covered or under a legal hold stays as it is.
async fn unexplained_tags_are_reset(server: S3Server) {
    let scene = prepared(server).await;
    let now = Timestamp::now();
    let yesterday = now - SignedDuration::from_hours(24);
    let mut keys = Vec::new();
    for tag in ["sealed", "held", "calls", "bewaard"] {
        let key = scene.record(&format!("hal-{tag}"), yesterday).await;
        scene.tag(&key, tag).await;
        keys.push(key);
    }
    let covered = scene.record("deur", yesterday).await;
    scene.tag(&covered, "sealed").await;
    let locked = scene.record("slot", yesterday).await;
    scene.tag(&locked, "held").await;
    scene.set_hold(&locked, true).await;
    let incident = Declared(vec![cover(&["deur"], yesterday, Some(now))]);
    let sweep_all = async || {
        let (memory, time) = (ProtectionCache::default(), DecisionTime::at(now));
        sweep(&connect(&scene.operator), &PROTOCOL_CEILINGS, &incident, &memory, ScanRange::All, time)
            .await
            .unwrap()
    };
    let swept = sweep_all().await;
    assert_eq!((swept.retagged, swept.deleted), (4, 0), "{swept:?}");
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((false, "video".into())), "{key}");
    }
    assert_eq!(scene.protection(&covered).await, Some((false, "sealed".into())));
    assert_eq!(scene.protection(&locked).await, Some((true, "held".into())));
    assert_eq!(sweep_all().await.retagged, 0);
}

async fn count_recordings(scene: &Scene) -> usize {
    scene.versions("video/").await.len()
}

/// Clocks that differ by more than a minute stop what deletes, and say so.
async fn clock_skew_stops_deletion(server: S3Server, port: u16) {
    let scene = prepared(server).await;
    let now = Timestamp::now();
    scene.record("hal", now - 5.minutes()).await;
    let proxy = Proxy::start(&scene.server.endpoint, port).await;
    let mut target = scene.operator.clone();
    target.endpoint = Some(proxy.endpoint.clone());
    let later = now + SignedDuration::from_hours(24 * 28 + 1);
    for ahead in [90, -90, 86_400] {
        proxy.set_date_ahead(ahead);
        let refused = sweep(
            &connect(&target),
            &PROTOCOL_CEILINGS,
            &Declared(vec![]),
            &ProtectionCache::default(),
            ScanRange::Boundary,
            at_time(later),
        )
        .await
        .unwrap_err();
        assert!(matches!(refused, SweepError::Clock(_)), "{refused}");
    }
    proxy.set_date_ahead(0);
    let swept = sweep(
        &connect(&target),
        &PROTOCOL_CEILINGS,
        &Declared(vec![]),
        &ProtectionCache::default(),
        ScanRange::Boundary,
        at_time(later),
    )
    .await
    .unwrap();
    assert_eq!(swept.deleted, 1);
}

#[tokio::test]
async fn seaweedfs_bucket_settings_are_restored() {
    bucket_settings_are_restored(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_bucket_settings_are_restored() {
    bucket_settings_are_restored(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_held_versions_are_repaired() {
    held_versions_are_repaired(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_held_versions_are_repaired() {
    held_versions_are_repaired(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_unreadable_ledger_stops_sweep_of_implausible_keys() {
    unreadable_ledger_stops_sweep_of_implausible_keys(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_unreadable_ledger_stops_sweep_of_implausible_keys() {
    unreadable_ledger_stops_sweep_of_implausible_keys(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_unexplained_tags_are_reset() {
    unexplained_tags_are_reset(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_unexplained_tags_are_reset() {
    unexplained_tags_are_reset(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_clock_skew_stops_deletion() {
    clock_skew_stops_deletion(S3Server::primary(), 28336).await;
}

#[tokio::test]
async fn ceph_clock_skew_stops_deletion() {
    clock_skew_stops_deletion(S3Server::secondary(), 28345).await;
}
