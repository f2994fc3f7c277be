//! A bucket in sync is not written. External changes are reverted and reported.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
};
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use toezicht::storage::enforce;
use toezicht::storage::{EnforceError, Probe, Subresource};

use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

async fn in_sync_bucket_is_not_written(server: S3Server, port: u16) {
    let proxy = Proxy::start(&server.endpoint, port).await;
    let mut scene = Scene::new(server, "sync");
    scene.operator.endpoint = Some(proxy.endpoint.clone());
    scene.recorder.endpoint = Some(proxy.endpoint.clone());
    let first = scene.enforce(Probe::Run).await.unwrap();
    assert!(!first.changes.is_empty() && first.conformance.is_some());
    assert!(proxy.take().iter().any(|request| request.is_write()), "the proxy records writes");

    for _ in 0..2 {
        let again = scene.enforce(Probe::Skip).await.unwrap();
        assert_eq!((again.changes, again.conformance), (vec![], None));
        assert_eq!(again.observed, first.observed);
        let requests = proxy.take();
        assert!(!requests.is_empty() && !requests.iter().any(|request| request.is_write()), "{requests:?}");
        assert!(requests.len() <= 17, "{} requests for a bucket in sync", requests.len());
    }
}

#[tokio::test]
async fn seaweedfs_in_sync_bucket_is_not_written() {
    in_sync_bucket_is_not_written(S3Server::primary(), 18431).await;
}

#[tokio::test]
async fn ceph_in_sync_bucket_is_not_written() {
    in_sync_bucket_is_not_written(S3Server::secondary(), 18432).await;
}

async fn drift_is_reverted(server: S3Server) {
    let scene = Scene::new(server, "drift");
    let before = scene.enforce(Probe::Skip).await.unwrap().observed;

    let client = scene.operator_client();
    let filter = LifecycleRuleFilter::builder().prefix("video/").build();
    let expiration = LifecycleExpiration::builder().days(400).build();
    let rule = LifecycleRule::builder()
        .id("mine")
        .status(ExpirationStatus::Enabled)
        .filter(filter)
        .expiration(expiration);
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
    let request =
        client.put_bucket_lifecycle_configuration().bucket(scene.bucket()).lifecycle_configuration(rules);
    request.send().await.unwrap();
    let open = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{}/*", scene.bucket())}]});
    client.put_bucket_policy().bucket(scene.bucket()).policy(open.to_string()).send().await.unwrap();
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(1).build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    let request =
        client.put_object_lock_configuration().bucket(scene.bucket()).object_lock_configuration(lock);
    request.send().await.unwrap();

    let after = scene.enforce(Probe::Skip).await.unwrap();
    let changes: Vec<String> = after.changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(changes[0], "default retention: GOVERNANCE 1 days → none");
    assert!(changes[1].starts_with("lifecycle: video/ expire 400d → calls/ "), "{changes:?}");
    assert!(changes[2].starts_with("policy: another, of 1 statements → "), "{changes:?}");
    assert_eq!(after.observed, before);
    assert!(after.conformance.is_some(), "a changed policy is probed");
}

#[tokio::test]
async fn seaweedfs_drift_is_reverted() {
    drift_is_reverted(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_drift_is_reverted() {
    drift_is_reverted(S3Server::secondary()).await;
}

/// Checks that without the recorder's credentials drift is still reverted, and the missing probe is reported.
async fn drift_is_reverted_without_recorder(server: S3Server) {
    let scene = Scene::new(server, "norecorder");
    let enforce_without_recorder = async || {
        let Scene { operator, spec, claim, .. } = &scene;
        enforce(&connect(operator), None, spec, claim, Probe::Skip).await.unwrap_err()
    };
    let first = enforce_without_recorder().await;
    assert_eq!(
        (first.error, first.is_owned),
        (EnforceError::NoRecorderCredentials { is_in_sync: false }, true)
    );
    assert_eq!(scene.policy().await, None, "no principal was proved");
    let before = scene.enforce(Probe::Skip).await.unwrap().observed;
    let client = scene.operator_client();
    client.delete_bucket_lifecycle().bucket(scene.bucket()).send().await.unwrap();
    let failed = enforce_without_recorder().await;
    assert_eq!(
        (failed.error, failed.is_owned),
        (EnforceError::NoRecorderCredentials { is_in_sync: true }, true)
    );
    let changed: Vec<_> = failed.changes.iter().map(|change| change.subresource).collect();
    assert_eq!(changed, [Subresource::Lifecycle]);
    let after = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!((after.changes, after.observed), (vec![], before));
}

#[tokio::test]
async fn seaweedfs_drift_is_reverted_without_recorder() {
    drift_is_reverted_without_recorder(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_drift_is_reverted_without_recorder() {
    drift_is_reverted_without_recorder(S3Server::secondary()).await;
}

async fn changed_ceiling_is_one_change(server: S3Server) {
    let mut scene = Scene::new(server, "ceiling");
    scene.enforce(Probe::Skip).await.unwrap();
    scene.spec.video_ceiling = toezicht::api::Days(14);
    let changed = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(changed.changes.len(), 1, "{:?}", changed.changes);
    assert_eq!(changed.observed.video_expiration_days(), Some(10));
}

#[tokio::test]
async fn seaweedfs_changed_ceiling_is_one_change() {
    changed_ceiling_is_one_change(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_changed_ceiling_is_one_change() {
    changed_ceiling_is_one_change(S3Server::secondary()).await;
}
