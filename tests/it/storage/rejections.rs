//! Rejected buckets and configurations: nothing is changed.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, DefaultRetention, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use toezicht::storage::{EnforceError, Probe, Subresource};

use super::scene::Scene;
use crate::support::settings::S3Server;

async fn bucket_without_object_lock_is_rejected(server: S3Server) {
    let scene = Scene::new(server, "nolock");
    scene.operator_client().create_bucket().bucket(scene.bucket()).send().await.unwrap();
    match scene.enforce(Probe::Run).await.unwrap_err() {
        error @ EnforceError::Unadoptable { .. } => {
            let message = error.to_string();
            assert!(message.contains("no Object Lock") && message.contains("a new bucket"), "{message}");
            assert!(!message.contains("TakeOver"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(scene.versions("").await.is_empty(), "nothing was written");
}

#[tokio::test]
async fn seaweedfs_bucket_without_object_lock_is_rejected() {
    bucket_without_object_lock_is_rejected(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_bucket_without_object_lock_is_rejected() {
    bucket_without_object_lock_is_rejected(S3Server::secondary()).await;
}

/// Checks that a bucket with foreign lifecycle rules, retention, policy and objects is rejected. It is taken over
/// only after a decision, and no object is lost.
async fn foreign_bucket_is_rejected_until_taken_over(server: S3Server) {
    let mut scene = Scene::new(server, "foreign");
    let client = scene.operator_client();
    let bucket = scene.bucket().to_owned();
    client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await.unwrap();
    for key in ["their/object", "probe/their-object"] {
        client.put_object().bucket(&bucket).key(key).body(b"theirs".to_vec().into()).send().await.unwrap();
    }
    let rule = LifecycleRule::builder()
        .id("theirs")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("their/").build())
        .expiration(LifecycleExpiration::builder().days(3).build());
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
    client
        .put_bucket_lifecycle_configuration()
        .bucket(&bucket)
        .lifecycle_configuration(rules)
        .send()
        .await
        .unwrap();
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(2).build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    client
        .put_object_lock_configuration()
        .bucket(&bucket)
        .object_lock_configuration(lock)
        .send()
        .await
        .unwrap();
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": [scene.server.identity("other").principal]}, "Action": ["s3:GetObject"],
        "Resource": [format!("arn:aws:s3:::{bucket}/their/*")]}]});
    client.put_bucket_policy().bucket(&bucket).policy(policy.to_string()).send().await.unwrap();

    let foreign_policy = scene.policy().await;
    match scene.enforce(Probe::Run).await.unwrap_err() {
        EnforceError::Unadoptable { conflicts } => {
            let words: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
            assert_eq!(
                words,
                [
                    "already has a default retention (GOVERNANCE 2 days)",
                    "already has objects that are no recordings of this Site",
                    "already has lifecycle rules",
                    "already has a bucket policy",
                ]
            );
            let message = EnforceError::Unadoptable { conflicts }.to_string();
            assert!(message.contains("TakeOver"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.policy().await, foreign_policy);
    assert_eq!(scene.versions("").await.len(), 2, "nothing was written");

    scene.spec.take_over = true;
    let taken = scene.enforce(Probe::Skip).await.unwrap();
    let mut changed: Vec<_> = taken.changes.iter().map(|change| change.subresource).collect();
    changed.retain(|what| *what != Subresource::DefaultEncryption);
    assert_eq!(
        changed,
        [Subresource::Claim, Subresource::DefaultRetention, Subresource::Lifecycle, Subresource::Policy]
    );
    for prefix in ["their/", "probe/"] {
        assert_eq!(scene.versions(prefix).await.len(), 1, "foreign objects stay");
    }
}

#[tokio::test]
async fn seaweedfs_foreign_bucket_is_rejected_until_taken_over() {
    foreign_bucket_is_rejected_until_taken_over(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_foreign_bucket_is_rejected_until_taken_over() {
    foreign_bucket_is_rejected_until_taken_over(S3Server::secondary()).await;
}

/// As a reader, the operator would be locked out by the readers' Deny, and only root could repair that.
#[tokio::test]
async fn operator_or_recorder_as_reader_is_rejected_before_connecting() {
    for role in ["operator", "recorder"] {
        let mut scene = Scene::new(S3Server::primary(), "reader");
        scene.operator.endpoint = Some("http://127.0.0.1:1".into());
        scene.spec.readers = vec![match role {
            "operator" => scene.spec.operator_principal.clone(),
            _ => scene.spec.recorder_principal.clone(),
        }];
        let error = scene.enforce(Probe::Skip).await.unwrap_err();
        assert!(
            matches!(error, EnforceError::Rejected { .. } | EnforceError::Unadoptable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("article 3.2"), "{}", error.to_string());
    }
}

/// Checks that if the recorder is the operator under another name, the recorder's Deny would lock the operator out.
async fn operator_and_recorder_must_differ(server: S3Server) {
    let right = Scene::new(server, "both");
    right.enforce(Probe::Skip).await.unwrap();
    let mut both = right.clone();
    both.recorder = both.operator.clone();
    let name = right.spec.operator_principal.rsplit('/').next().unwrap();
    both.spec.recorder_principal = if name == right.spec.operator_principal {
        format!("arn:aws:iam:::user/{name}")
    } else {
        name.to_owned()
    };
    let error = both.enforce(Probe::Skip).await.unwrap_err();
    assert!(error.to_string().contains("article 3.2"), "{error:?}");
    assert!(right.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn seaweedfs_operator_and_recorder_must_differ() {
    operator_and_recorder_must_differ(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_operator_and_recorder_must_differ() {
    operator_and_recorder_must_differ(S3Server::secondary()).await;
}

#[tokio::test]
async fn ceiling_below_minimum_is_rejected_before_connecting() {
    let mut scene = Scene::new(S3Server::primary(), "ceiling");
    scene.operator.endpoint = Some("http://127.0.0.1:1".into());
    scene.spec.video_ceiling = toezicht::api::Days(4);
    let error = scene.enforce(Probe::Skip).await.unwrap_err();
    assert!(matches!(error, EnforceError::Ceiling(_)), "{error:?}");
    assert!(error.to_string().contains("at least 5d"), "{}", error.to_string());
}
