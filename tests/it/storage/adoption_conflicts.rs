//! Conflicts that block the adoption of a foreign bucket. Each is reported with its remedy, and nothing is changed
//! without a decision.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, DefaultRetention, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use toezicht::storage::{
    AdoptionConflict, BucketDefaultRetention, EnforceError, ForbiddenSubresource, Probe,
};

use super::override_proxy::OverrideProxy;
use super::scene::Scene;
use super::subresources::{NOTIFICATION_RESPONSE, REPLICATION_RESPONSE, scene_with_overrides};
use crate::support::settings::S3Server;
use crate::support::tools::attempt;

const RECORDING: &str = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";

/// Creates a foreign bucket with Object Lock, reached through an override proxy.
async fn foreign_bucket(server: S3Server) -> (Scene, OverrideProxy) {
    let (scene, overrides) = scene_with_overrides(server, "obstacle").await;
    let request = scene.operator_client().create_bucket().bucket(scene.bucket());
    request.object_lock_enabled_for_bucket(true).send().await.unwrap();
    (scene, overrides)
}

/// Returns the conflicts, and asserts that finding them wrote nothing.
async fn adoption_conflicts(scene: &Scene, overrides: &OverrideProxy) -> Vec<AdoptionConflict> {
    let before = scene.versions("").await;
    overrides.take_writes();
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    assert_eq!(overrides.take_writes(), Vec::<String>::new());
    assert_eq!(scene.versions("").await, before);
    match error {
        EnforceError::Unadoptable { conflicts } => conflicts,
        other => panic!("{other:?}"),
    }
}

/// Takes the bucket over and returns the changes.
async fn take_over_changes(scene: &mut Scene) -> Vec<String> {
    scene.spec.take_over = true;
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
    enforced.changes.iter().map(ToString::to_string).collect()
}

async fn retention_above_ceiling_blocks_adoption(server: S3Server) {
    let (mut scene, overrides) = foreign_bucket(server).await;
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(400);
    let rule = ObjectLockRule::builder().default_retention(retention.build()).build();
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
    let request = scene.operator_client().put_object_lock_configuration().bucket(scene.bucket());
    request.object_lock_configuration(lock.build()).send().await.unwrap();
    let retention = BucketDefaultRetention { description: "GOVERNANCE 400 days".into(), days: 400 };
    let found = adoption_conflicts(&scene, &overrides).await;
    assert_eq!(found, [AdoptionConflict::DefaultRetention { retention, exceeds_ceiling: true }]);
    let changed = take_over_changes(&mut scene).await;
    assert!(changed.contains(&"default retention: GOVERNANCE 400 days → none".to_owned()), "{changed:?}");
}

#[tokio::test]
async fn seaweedfs_retention_above_ceiling_blocks_adoption() {
    retention_above_ceiling_blocks_adoption(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_retention_above_ceiling_blocks_adoption() {
    retention_above_ceiling_blocks_adoption(S3Server::secondary()).await;
}

async fn foreign_lifecycle_blocks_adoption(server: S3Server) {
    let (mut scene, overrides) = foreign_bucket(server).await;
    let rule = LifecycleRule::builder()
        .id("theirs")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("video/").build())
        .expiration(LifecycleExpiration::builder().days(400).build());
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
    let request = scene.operator_client().put_bucket_lifecycle_configuration().bucket(scene.bucket());
    request.lifecycle_configuration(rules).send().await.unwrap();
    assert_eq!(adoption_conflicts(&scene, &overrides).await, [AdoptionConflict::Lifecycle]);
    let changed = take_over_changes(&mut scene).await;
    let was = "lifecycle: video/ expire 400d → ";
    assert!(changed.iter().any(|change| change.starts_with(was)), "{changed:?}");
}

#[tokio::test]
async fn seaweedfs_foreign_lifecycle_blocks_adoption() {
    foreign_lifecycle_blocks_adoption(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_foreign_lifecycle_blocks_adoption() {
    foreign_lifecycle_blocks_adoption(S3Server::secondary()).await;
}

/// Checks that replication and notifications block adoption if they are configured or unreadable.
async fn replication_and_notifications_block_adoption(server: S3Server) {
    for (part, document, subresource) in [
        ("replication", REPLICATION_RESPONSE, ForbiddenSubresource::Replication),
        ("notification", NOTIFICATION_RESPONSE, ForbiddenSubresource::Notifications),
    ] {
        let (mut scene, overrides) = foreign_bucket(server.clone()).await;
        overrides.set_override(part, document, 200);
        assert_eq!(adoption_conflicts(&scene, &overrides).await, [AdoptionConflict::Forbidden(subresource)]);
        let changed = take_over_changes(&mut scene).await;
        let removed = format!("foreign configuration: {subresource} → removed");
        assert!(changed.contains(&removed), "{changed:?}");

        let (mut scene, overrides) = foreign_bucket(server.clone()).await;
        overrides.deny(part);
        assert_eq!(adoption_conflicts(&scene, &overrides).await, [AdoptionConflict::Unreadable(subresource)]);
        scene.spec.take_over = true;
        if subresource == ForbiddenSubresource::Replication {
            assert_eq!(
                adoption_conflicts(&scene, &overrides).await,
                [AdoptionConflict::Unreadable(subresource)],
                "a decision does not override unreadable replication"
            );
        } else {
            let enforced = scene.enforce(Probe::Skip).await.unwrap();
            assert!(
                enforced
                    .observed
                    .limitations()
                    .join("; ")
                    .contains("may not read whether the bucket has notifications")
            );
        }
    }
}

#[tokio::test]
async fn seaweedfs_replication_and_notifications_block_adoption() {
    replication_and_notifications_block_adoption(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_replication_and_notifications_block_adoption() {
    replication_and_notifications_block_adoption(S3Server::secondary()).await;
}

/// Ceph has real notifications, which cannot be removed through the S3 API. The operator reports that.
#[tokio::test]
async fn ceph_real_notifications_block_adoption() {
    let (mut scene, overrides) = foreign_bucket(S3Server::secondary()).await;
    let identity = scene.operator_identity();
    let answer = attempt(&scene.server, scene.bucket(), &identity, &["notify"]).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(
        adoption_conflicts(&scene, &overrides).await,
        [AdoptionConflict::Forbidden(ForbiddenSubresource::Notifications)]
    );
    scene.spec.take_over = true;
    let check_reported = async || {
        let message = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
        assert!(message.contains("has notifications, and the operator cannot remove that"), "{message}");
    };
    check_reported().await;

    // The error does not keep other drift from being reverted.
    let policy = scene.policy().await;
    let open_policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{}/*", scene.bucket()),
    }]});
    let put = scene.operator_client().put_bucket_policy().bucket(scene.bucket());
    put.policy(open_policy.to_string()).send().await.unwrap();
    assert_ne!(scene.policy().await, policy);
    check_reported().await;
    assert_eq!(scene.policy().await, policy);
}

async fn foreign_objects_block_adoption(server: S3Server) {
    let (mut scene, overrides) = foreign_bucket(server).await;
    let client = scene.operator_client();
    let put = |key: &str| {
        let put = client.put_object().bucket(scene.bucket()).key(key);
        put.body(b"theirs".to_vec().into()).send()
    };
    put(RECORDING).await.unwrap();
    let foreign_keys = ["root", "video/receptie/holiday.mp4", "calls/x", "their/object"];
    for (n, key) in foreign_keys.into_iter().enumerate() {
        put(key).await.unwrap();
        // An object behind a delete marker counts too.
        if n % 2 == 1 {
            client.delete_object().bucket(scene.bucket()).key(key).send().await.unwrap();
        }
        assert_eq!(adoption_conflicts(&scene, &overrides).await, [AdoptionConflict::ForeignObjects], "{key}");
        if key == "their/object" {
            break;
        }
        for (key, version) in scene.versions(key).await {
            let delete = client.delete_object().bucket(scene.bucket()).key(key);
            delete.version_id(version).send().await.unwrap();
        }
    }
    let before = scene.versions("their/").await;
    let changed = take_over_changes(&mut scene).await;
    assert_eq!(changed[0], "claim: unclaimed, with foreign objects, which stay → this Site's");
    assert_eq!(scene.versions("their/").await, before, "nothing is deleted");
    assert_eq!(scene.versions(RECORDING).await.len(), 1);
}

#[tokio::test]
async fn seaweedfs_foreign_objects_block_adoption() {
    foreign_objects_block_adoption(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_foreign_objects_block_adoption() {
    foreign_objects_block_adoption(S3Server::secondary()).await;
}

/// Recordings of a Site whose claim is missing do not block adoption.
async fn recordings_do_not_block_adoption(server: S3Server) {
    let (scene, _overrides) = foreign_bucket(server).await;
    let put = scene.operator_client().put_object().bucket(scene.bucket()).key(RECORDING);
    put.body(b"picture".to_vec().into()).send().await.unwrap();
    scene.enforce(Probe::Skip).await.unwrap();
}

#[tokio::test]
async fn seaweedfs_recordings_do_not_block_adoption() {
    recordings_do_not_block_adoption(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_recordings_do_not_block_adoption() {
    recordings_do_not_block_adoption(S3Server::secondary()).await;
}
