//! Tampering with a bucket, three variants of each kind: detected, reported, and repaired or rejected.

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

use super::holds::{FixedHolds, at_time, audit_with_holds, hold_scope, place_input, place_until_confirmed};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

async fn prepared_bucket(server: S3Server) -> Scene {
    let scene = Scene::new(server, "tampered");
    scene.enforce(Probe::Skip).await.unwrap();
    scene
}

async fn set_default_retention(client: &Client, bucket: &str, mode: ObjectLockRetentionMode, days: i32) {
    let default = DefaultRetention::builder().mode(mode).days(days).build();
    let rule = ObjectLockRule::builder().default_retention(default).build();
    let lock =
        ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build();
    let request = client.put_object_lock_configuration().bucket(bucket);
    request.object_lock_configuration(lock).send().await.unwrap();
}

async fn set_lifecycle(client: &Client, bucket: &str, prefix: &str, days: i32, status: ExpirationStatus) {
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

/// Returns the bucket's policy without one of its Deny statements.
async fn policy_without_a_deny(scene: &Scene) -> Value {
    let mut policy: Value = serde_json::from_str(&scene.policy().await.unwrap()).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    let deny = statements.iter().position(|statement| statement["Effect"] == "Deny").unwrap();
    statements.remove(deny);
    policy
}

async fn suspend_versioning(client: &Client, bucket: &str) {
    let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    // A store may refuse because the bucket has Object Lock, which is fine too.
    let _ = client.put_bucket_versioning().bucket(bucket).versioning_configuration(suspended).send().await;
}

/// Tampers with lock, lifecycle, policy and versioning in three variants each, and checks that all are restored.
async fn bucket_settings_are_restored(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let (client, bucket) = (scene.operator_client(), scene.bucket().to_owned());
    let open_policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{bucket}/*"),
    }]});
    for round in 0..3 {
        match round {
            0 => {
                set_default_retention(&client, &bucket, ObjectLockRetentionMode::Governance, 1).await;
                client.delete_bucket_lifecycle().bucket(&bucket).send().await.unwrap();
            }
            1 => {
                set_default_retention(&client, &bucket, ObjectLockRetentionMode::Governance, 365).await;
                set_lifecycle(&client, &bucket, "video/", 400, ExpirationStatus::Enabled).await;
            }
            _ => {
                set_default_retention(&client, &bucket, ObjectLockRetentionMode::Compliance, 1).await;
                set_lifecycle(&client, &bucket, "", 24, ExpirationStatus::Disabled).await;
            }
        }
        suspend_versioning(&client, &bucket).await;
        for identity in ["manager", "recorder"] {
            suspend_versioning(&scene.client(identity), &bucket).await;
        }
        let policy = match round {
            0 => None,
            1 => Some(open_policy.clone()),
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

/// Tampers with tags, legal holds, delete markers and keys, and checks that the audit finds everything and placing
/// repairs held versions.
async fn held_versions_are_repaired(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let start = Timestamp::from_second(Timestamp::now().as_second()).unwrap() - 30.minutes();
    let mut keys = Vec::new();
    for minute in 0..10 {
        keys.push(scene.record("hal", start + (2 * minute).minutes()).await);
    }
    let free = scene.record("vrij", start).await;
    let incident = [hold_scope(&["hal"], start, Some(start + 60.minutes()))];
    place_until_confirmed(&scene.operator, &incident).await;

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
    let tally = audit_with_holds(&scene, &incident, soon).await;
    for (found, count) in [
        (FindingKind::HeldMistagged, 4),
        (FindingKind::HeldUnprotected, 3),
        (FindingKind::HeldHidden, 3),
        (FindingKind::UnexplainedHold, 1),
        (FindingKind::UnexpectedObject, 3),
    ] {
        assert_eq!(tally.count(found), count, "{found:?} in {:?}", tally.findings);
    }
    // If a hold was verified before, the pass reads the protection of each version before it writes.
    let input = PlaceInput { verified_at: &[Some(Timestamp::UNIX_EPOCH)], ..place_input(&incident) };
    let report = place(&connect(&scene.operator), &input, Timestamp::now()).await.unwrap();
    assert_eq!((report.legal_holds_set, report.tagged, report.markers_removed), (3, 4, 3), "{report:?}");
    place_until_confirmed(&scene.operator, &incident).await;
    let tally = audit_with_holds(&scene, &incident, soon).await;
    let left: Vec<FindingKind> = tally.findings.keys().copied().collect();
    assert_eq!(left, [FindingKind::UnexplainedHold, FindingKind::UnexpectedObject], "{:?}", tally.findings);
}

/// Checks that implausible keys are reported, and an unreadable ledger stops every deletion.
async fn unreadable_ledger_stops_sweep_of_implausible_keys(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let now = Timestamp::now();
    let plausible_key = scene.record("hal", now - 5.minutes()).await;
    for start in [
        now + SignedDuration::from_hours(48),
        now + SignedDuration::from_hours(1),
        now - SignedDuration::from_hours(24 * 60),
    ] {
        scene.record("hal", start).await;
    }
    let tally = audit_with_holds(&scene, &[], now).await;
    assert_eq!((tally.count(FindingKind::ImplausibleKey), tally.versions), (3, 4), "{:?}", tally.findings);

    // By their upload times all versions are past their ceiling, whatever their keys say.
    let later = now + SignedDuration::from_hours(24 * 28 + 1);
    let sweep_all = async || {
        sweep(
            &connect(&scene.operator),
            &PROTOCOL_CEILINGS,
            &FixedHolds(vec![]),
            &ProtectionCache::default(),
            ScanRange::All,
            at_time(later),
        )
        .await
    };
    for garbage in [&b"{"[..], b"{\"format\": 2}", b""] {
        scene.put_bytes("ledger/holds/22.json", garbage).await;
        let error = sweep_all().await.unwrap_err();
        assert!(error.to_string().contains("UnreadableLedger"), "{error}");
    }
    assert_eq!(count_recordings(&scene).await, 4, "nothing was deleted");
    // A delete marker on a ledger entry neither closes the entry nor hides invalid content.
    scene.add_delete_marker("ledger/holds/22.json").await;
    assert!(sweep_all().await.is_err());
    scene.remove("ledger/holds/22.json").await;
    let swept = sweep_all().await.unwrap();
    assert_eq!((swept.deleted, swept.undeletable), (4, 0), "{swept:?}, {plausible_key}");
}

/// Checks that the daily sweep resets tags of yesterday's recordings that no hold explains, so that the store's
/// lifecycle rules apply again. Covered versions and those under a legal hold keep their tags.
async fn unexplained_tags_are_reset(server: S3Server) {
    let scene = prepared_bucket(server).await;
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
    let incident = FixedHolds(vec![hold_scope(&["deur"], yesterday, Some(now))]);
    let sweep_all = async || {
        let (cache, time) = (ProtectionCache::default(), DecisionTime::at(now));
        sweep(&connect(&scene.operator), &PROTOCOL_CEILINGS, &incident, &cache, ScanRange::All, time)
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

/// Checks that a clock skew of more than a minute stops the sweep with an error.
async fn clock_skew_stops_deletion(server: S3Server, port: u16) {
    let scene = prepared_bucket(server).await;
    let now = Timestamp::now();
    scene.record("hal", now - 5.minutes()).await;
    let proxy = Proxy::start(&scene.server.endpoint, port).await;
    let mut target = scene.operator.clone();
    target.endpoint = Some(proxy.endpoint.clone());
    let later = now + SignedDuration::from_hours(24 * 28 + 1);
    for ahead in [90, -90, 86_400] {
        proxy.set_date_ahead(ahead);
        let error = sweep(
            &connect(&target),
            &PROTOCOL_CEILINGS,
            &FixedHolds(vec![]),
            &ProtectionCache::default(),
            ScanRange::Boundary,
            at_time(later),
        )
        .await
        .unwrap_err();
        assert!(matches!(error, SweepError::Clock(_)), "{error}");
    }
    proxy.set_date_ahead(0);
    let swept = sweep(
        &connect(&target),
        &PROTOCOL_CEILINGS,
        &FixedHolds(vec![]),
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
