//! Bucket subresources other than lock, lifecycle and policy. Required ones are set if the store supports them. Those
//! that copy, expose or announce recordings are removed. Unreadable ones are reported.

use toezicht::storage::{
    ForbiddenSubresource, Probe, RequiredSubresource, Subresource, SubresourceState, UnreadableReason,
};

use super::override_proxy::OverrideProxy;
use super::scene::Scene;
use crate::support::settings::S3Server;

const NOTIFICATION_CONFIGURATION: &str = "<NotificationConfiguration><TopicConfiguration><Id>x</Id><Topic>arn:aws:sns:r:1:t</Topic>\
     <Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>";
const LOGGING_CONFIGURATION: &str = "<BucketLoggingStatus><LoggingEnabled><TargetBucket>theirs</TargetBucket>\
     <TargetPrefix>l/</TargetPrefix></LoggingEnabled></BucketLoggingStatus>";
const INVENTORY_CONFIGURATIONS: &str = "<ListInventoryConfigurationsResult><InventoryConfiguration><Id>all</Id>\
     <IsEnabled>true</IsEnabled><IncludedObjectVersions>All</IncludedObjectVersions><Destination>\
     <S3BucketDestination><Bucket>arn:aws:s3:::theirs</Bucket><Format>CSV</Format></S3BucketDestination>\
     </Destination><Schedule><Frequency>Daily</Frequency></Schedule></InventoryConfiguration>\
     <IsTruncated>false</IsTruncated></ListInventoryConfigurationsResult>";
const REPLICATION_CONFIGURATION: &str = "<ReplicationConfiguration><Role>r</Role><Rule><Status>Enabled</Status><Prefix></Prefix>\
     <Destination><Bucket>arn:aws:s3:::theirs</Bucket></Destination></Rule></ReplicationConfiguration>";

/// Returns a scene that reaches the server through an override proxy.
pub async fn scene_with_overrides(server: S3Server, prefix: &str) -> (Scene, OverrideProxy) {
    let overrides = OverrideProxy::start(&server.endpoint).await;
    let mut scene = Scene::new(server, prefix);
    scene.operator.endpoint = Some(overrides.endpoint.clone());
    scene.recorder.endpoint = Some(overrides.endpoint.clone());
    (scene, overrides)
}

#[tokio::test]
async fn seaweedfs_sets_encryption_and_ownership() {
    let scene = Scene::new(S3Server::primary(), "settings");
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    let settings = &enforced.observed.required;
    assert_eq!(settings[&RequiredSubresource::Encryption], SubresourceState::Compliant);
    assert_eq!(settings[&RequiredSubresource::Ownership], SubresourceState::Compliant);
    assert_eq!(settings[&RequiredSubresource::PublicAccessBlock], SubresourceState::Unsupported);
    assert!(enforced.observed.unreadable.is_empty(), "{:?}", enforced.observed.unreadable);
    // Read back with boto3.
    let identity = scene.operator_identity();
    let read = crate::support::tools::read_back(&scene.server, scene.bucket(), &identity).await;
    let default = &read["encryption"]["Rules"][0]["ApplyServerSideEncryptionByDefault"];
    assert_eq!(default["SSEAlgorithm"], "AES256", "{read}");

    let request = scene.operator_client().delete_bucket_encryption().bucket(scene.bucket());
    request.send().await.unwrap();
    let again = scene.enforce(Probe::Skip).await.unwrap();
    let changes: Vec<String> = again.changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["default encryption: none → AES256"]);
}

#[tokio::test]
async fn ceph_reports_unsupported_subresources() {
    let scene = Scene::new(S3Server::secondary(), "settings");
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    let state = &enforced.observed;
    for setting in [
        RequiredSubresource::Encryption,
        RequiredSubresource::Ownership,
        RequiredSubresource::PublicAccessBlock,
    ] {
        assert_eq!(state.required[&setting], SubresourceState::Unsupported, "{setting}");
    }
    assert_eq!(
        state.unreadable,
        [(ForbiddenSubresource::Inventory, UnreadableReason::UnexpectedAnswer)].into()
    );
    let limitations = state.limitations().join("; ");
    for part in ["inventories", "default encryption", "object ownership", "public access block"] {
        assert!(limitations.contains(part), "{limitations}");
    }
}

async fn foreign_configuration_is_removed(server: S3Server) {
    let (scene, overrides) = scene_with_overrides(server, "added").await;
    let before = scene.enforce(Probe::Skip).await.unwrap().observed;
    let request = scene.operator_client().put_bucket_cors().bucket(scene.bucket());
    let rule = aws_sdk_s3::types::CorsRule::builder().allowed_methods("GET").allowed_origins("*");
    let rules = aws_sdk_s3::types::CorsConfiguration::builder().cors_rules(rule.build().unwrap());
    request.cors_configuration(rules.build().unwrap()).send().await.unwrap();
    for (part, document) in [
        ("notification", NOTIFICATION_CONFIGURATION),
        ("logging", LOGGING_CONFIGURATION),
        ("inventory", INVENTORY_CONFIGURATIONS),
        ("replication", REPLICATION_CONFIGURATION),
    ] {
        overrides.set_override(part, (200, document), 200);
    }
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    let changes: Vec<String> = enforced.changes.iter().map(ToString::to_string).collect();
    let removed = ["CORS rules", "replication", "notifications", "inventories", "access logging"]
        .map(|part| format!("foreign configuration: {part} → removed"));
    assert_eq!(changes, removed);
    let writes = overrides.take_writes().join("\n");
    assert!(writes.contains("?inventory&id=all") || writes.contains("id=all&inventory"), "{writes}");
    assert_eq!(enforced.observed, before);
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn seaweedfs_foreign_configuration_is_removed() {
    foreign_configuration_is_removed(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_foreign_configuration_is_removed() {
    foreign_configuration_is_removed(S3Server::secondary()).await;
}

/// Checks that an unreadable subresource is not treated as absent, and does not stop a running recorder.
async fn unreadable_subresource_is_a_limitation(server: S3Server) {
    let (scene, overrides) = scene_with_overrides(server, "hidden").await;
    scene.enforce(Probe::Skip).await.unwrap();
    overrides.take_writes();
    for part in ["notification", "replication", "cors", "acl", "encryption"] {
        overrides.deny(part);
    }
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert!(enforced.changes.is_empty() && overrides.take_writes().is_empty(), "{:?}", enforced.changes);
    let limitations = enforced.observed.limitations().join("; ");
    for part in ["notifications", "replication", "CORS rules", "grants by ACL", "default encryption"] {
        assert!(limitations.contains(part), "{limitations}");
    }
}

#[tokio::test]
async fn seaweedfs_unreadable_subresource_is_a_limitation() {
    unreadable_subresource_is_a_limitation(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_unreadable_subresource_is_a_limitation() {
    unreadable_subresource_is_a_limitation(S3Server::secondary()).await;
}

/// Checks that a setting that the store refuses or discards is reported, and not retried at every reconcile.
async fn unsupported_setting_is_retried_only_daily(server: S3Server) {
    let none = "<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code></Error>";
    let (scene, overrides) = scene_with_overrides(server, "givenup").await;
    overrides.set_override("encryption", (404, none), 501);
    let first = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(
        first.observed.required[&RequiredSubresource::Encryption],
        SubresourceState::Differs("none".into())
    );
    assert!(first.observed.limitations().join("; ").contains("desired default encryption"));
    assert!(
        first.changes.iter().all(|change| change.subresource != Subresource::DefaultEncryption),
        "{:?}",
        first.changes
    );
    overrides.take_writes();
    for _ in 0..2 {
        let again = scene.enforce(Probe::Skip).await.unwrap();
        assert!(again.changes.is_empty(), "{:?}", again.changes);
        assert_eq!(overrides.take_writes(), Vec::<String>::new());
    }
    // The daily probe retries it, and sets it once the store accepts it.
    overrides.set_override("encryption", (404, none), 200);
    scene.enforce(Probe::Run).await.unwrap();
    assert!(overrides.take_writes().iter().any(|write| write.contains("encryption")));
}

#[tokio::test]
async fn seaweedfs_unsupported_setting_is_retried_only_daily() {
    unsupported_setting_is_retried_only_daily(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_unsupported_setting_is_retried_only_daily() {
    unsupported_setting_is_retried_only_daily(S3Server::secondary()).await;
}

pub const REPLICATION_RESPONSE: (u16, &str) = (200, REPLICATION_CONFIGURATION);
pub const NOTIFICATION_RESPONSE: (u16, &str) = (200, NOTIFICATION_CONFIGURATION);
