//! What is in the way of adopting a bucket that somebody else made: each its own, with its remedy, and nothing of the
//! bucket is touched before there is a decision.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, DefaultRetention, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use toezicht::storage::{
    AdoptionConflict, BucketDefaultRetention, EnforceError, ForbiddenSubresource, Probe,
};

use super::parts::{NOTIFICATION_RESPONSE, REPLICATION_RESPONSE, pretended};
use super::pretend::Pretend;
use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tools::attempt;

const RECORDING: &str = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";

/// A bucket with Object Lock that somebody made, seen through a pretence.
async fn somebodys(server: S3Server) -> (Scene, Pretend) {
    let (scene, pretend) = pretended(server, "obstacle").await;
    let request = scene.operator_client().create_bucket().bucket(scene.bucket());
    request.object_lock_enabled_for_bucket(true).send().await.unwrap();
    (scene, pretend)
}

/// What is in the way; nothing was written on finding it out.
async fn obstacles(scene: &Scene, pretend: &Pretend) -> Vec<AdoptionConflict> {
    let before = scene.versions("").await;
    pretend.writes();
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    assert_eq!(pretend.writes(), Vec::<String>::new());
    assert_eq!(scene.versions("").await, before);
    match error {
        EnforceError::Unadoptable { conflicts: obstacles } => obstacles,
        other => panic!("{other:?}"),
    }
}

/// With the decision to take over, it is adopted: what was changed.
async fn take_over_changes(scene: &mut Scene) -> Vec<String> {
    scene.spec.take_over = true;
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
    enforced.changes.iter().map(ToString::to_string).collect()
}

async fn retention_above_ceiling_blocks_adoption(server: S3Server) {
    let (mut scene, pretend) = somebodys(server).await;
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(400);
    let rule = ObjectLockRule::builder().default_retention(retention.build()).build();
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
    let request = scene.operator_client().put_object_lock_configuration().bucket(scene.bucket());
    request.object_lock_configuration(lock.build()).send().await.unwrap();
    let retention = BucketDefaultRetention { description: "GOVERNANCE 400 days".into(), days: 400 };
    let found = obstacles(&scene, &pretend).await;
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
    let (mut scene, pretend) = somebodys(server).await;
    let rule = LifecycleRule::builder()
        .id("theirs")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("video/").build())
        .expiration(LifecycleExpiration::builder().days(400).build());
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
    let request = scene.operator_client().put_bucket_lifecycle_configuration().bucket(scene.bucket());
    request.lifecycle_configuration(rules).send().await.unwrap();
    assert_eq!(obstacles(&scene, &pretend).await, [AdoptionConflict::Lifecycle]);
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

/// What copies every recording, or tells of it: there, or not to be seen.
async fn copies(server: S3Server) {
    for (part, document, extra) in [
        ("replication", REPLICATION_RESPONSE, ForbiddenSubresource::Replication),
        ("notification", NOTIFICATION_RESPONSE, ForbiddenSubresource::Notifications),
    ] {
        let (mut scene, pretend) = somebodys(server.clone()).await;
        pretend.answer(part, document, 200);
        assert_eq!(obstacles(&scene, &pretend).await, [AdoptionConflict::Forbidden(extra)]);
        let changed = take_over_changes(&mut scene).await;
        let removed = format!("foreign configuration: {extra} → removed");
        assert!(changed.contains(&removed), "{changed:?}");

        let (mut scene, pretend) = somebodys(server.clone()).await;
        pretend.hide(part);
        assert_eq!(obstacles(&scene, &pretend).await, [AdoptionConflict::Unreadable(extra)]);
        scene.spec.take_over = true;
        if extra == ForbiddenSubresource::Replication {
            assert_eq!(
                obstacles(&scene, &pretend).await,
                [AdoptionConflict::Unreadable(extra)],
                "no decision lets that be"
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
    copies(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_replication_and_notifications_block_adoption() {
    copies(S3Server::secondary()).await;
}

/// Ceph really notifies. It does not let anybody take that away as S3 has it, so the operator says so.
#[tokio::test]
async fn ceph_real_notifications_block_adoption() {
    let (mut scene, pretend) = somebodys(S3Server::secondary()).await;
    let identity = scene.operator_identity();
    let answer = attempt(&scene.server, scene.bucket(), &identity, &["notify"]).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(
        obstacles(&scene, &pretend).await,
        [AdoptionConflict::Forbidden(ForbiddenSubresource::Notifications)]
    );
    scene.spec.take_over = true;
    let is_told = async || {
        let told = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
        assert!(told.contains("has notifications, and the operator cannot remove that"), "{told}");
    };
    is_told().await;

    // That keeps nothing else open.
    let ours = scene.policy().await;
    let open = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{}/*", scene.bucket()),
    }]});
    let put = scene.operator_client().put_bucket_policy().bucket(scene.bucket());
    put.policy(open.to_string()).send().await.unwrap();
    assert_ne!(scene.policy().await, ours);
    is_told().await;
    assert_eq!(scene.policy().await, ours);
}

async fn foreign_objects(server: S3Server) {
    let (mut scene, pretend) = somebodys(server).await;
    let client = scene.operator_client();
    let put = |key: &str| {
        let put = client.put_object().bucket(scene.bucket()).key(key);
        put.body(b"theirs".to_vec().into()).send()
    };
    put(RECORDING).await.unwrap();
    let theirs = ["root", "video/receptie/holiday.mp4", "calls/x", "their/object"];
    for (n, key) in theirs.into_iter().enumerate() {
        put(key).await.unwrap();
        // Hidden behind a delete marker it is there all the same.
        if n % 2 == 1 {
            client.delete_object().bucket(scene.bucket()).key(key).send().await.unwrap();
        }
        assert_eq!(obstacles(&scene, &pretend).await, [AdoptionConflict::ForeignObjects], "{key}");
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
    foreign_objects(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_foreign_objects_block_adoption() {
    foreign_objects(S3Server::secondary()).await;
}

/// Recordings of a Site whose claim is gone are no obstacle: they are what the bucket is for.
async fn recordings_do_not_block_adoption(server: S3Server) {
    let (scene, _pretend) = somebodys(server).await;
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
