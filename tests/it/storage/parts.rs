//! What a bucket has beside lock, lifecycle and policy: set where the store has it, removed where it copies, shows or
//! tells of recordings, and said where it cannot be seen.

use toezicht::storage::{Aspect, Extra, Kept, Setting, Trials, Unseen};

use super::pretend::Pretend;
use super::scene::Scene;
use crate::support::settings::S3Server;

const NOTIFIES: &str = "<NotificationConfiguration><TopicConfiguration><Id>x</Id><Topic>arn:aws:sns:r:1:t</Topic>\
     <Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>";
const LOGS: &str = "<BucketLoggingStatus><LoggingEnabled><TargetBucket>theirs</TargetBucket>\
     <TargetPrefix>l/</TargetPrefix></LoggingEnabled></BucketLoggingStatus>";
const INVENTORIES: &str = "<ListInventoryConfigurationsResult><InventoryConfiguration><Id>all</Id>\
     <IsEnabled>true</IsEnabled><IncludedObjectVersions>All</IncludedObjectVersions><Destination>\
     <S3BucketDestination><Bucket>arn:aws:s3:::theirs</Bucket><Format>CSV</Format></S3BucketDestination>\
     </Destination><Schedule><Frequency>Daily</Frequency></Schedule></InventoryConfiguration>\
     <IsTruncated>false</IsTruncated></ListInventoryConfigurationsResult>";
const REPLICATES: &str = "<ReplicationConfiguration><Role>r</Role><Rule><Status>Enabled</Status><Prefix></Prefix>\
     <Destination><Bucket>arn:aws:s3:::theirs</Bucket></Destination></Rule></ReplicationConfiguration>";

/// A scene whose operator sees the server through a pretence.
pub async fn pretended(server: S3Server, prefix: &str) -> (Scene, Pretend) {
    let pretend = Pretend::start(&server.endpoint).await;
    let mut scene = Scene::new(server, prefix);
    scene.operator.endpoint = Some(pretend.endpoint.clone());
    scene.recorder.endpoint = Some(pretend.endpoint.clone());
    (scene, pretend)
}

#[tokio::test]
async fn seaweedfs_encrypts_and_owns() {
    let scene = Scene::new(S3Server::first(), "settings");
    let enforced = scene.enforce(Trials::Keep).await.unwrap();
    let settings = &enforced.read_back.settings;
    assert_eq!(settings[&Setting::Encryption], Kept::AsRequired);
    assert_eq!(settings[&Setting::Ownership], Kept::AsRequired);
    assert_eq!(settings[&Setting::PublicAccessBlock], Kept::Lacking);
    assert!(enforced.read_back.unseen.is_empty(), "{:?}", enforced.read_back.unseen);
    // As an S3 client of another make sees it.
    let identity = scene.operator_identity();
    let read = crate::support::tools::read_back(&scene.server, scene.bucket(), &identity).await;
    let default = &read["encryption"]["Rules"][0]["ApplyServerSideEncryptionByDefault"];
    assert_eq!(default["SSEAlgorithm"], "AES256", "{read}");

    let request = scene.operator_client().delete_bucket_encryption().bucket(scene.bucket());
    request.send().await.unwrap();
    let again = scene.enforce(Trials::Keep).await.unwrap();
    let told: Vec<String> = again.changed.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["default encryption: none → AES256"]);
}

#[tokio::test]
async fn ceph_says_what_it_does_not_have() {
    let scene = Scene::new(S3Server::second(), "settings");
    let enforced = scene.enforce(Trials::Keep).await.unwrap();
    let state = &enforced.read_back;
    for setting in [Setting::Encryption, Setting::Ownership, Setting::PublicAccessBlock] {
        assert_eq!(state.settings[&setting], Kept::Lacking, "{setting}");
    }
    assert_eq!(state.unseen, [(Extra::Inventory, Unseen::OtherAnswer)].into());
    let gaps = state.gaps().join("; ");
    for part in ["inventories", "default encryption", "object ownership", "public access block"] {
        assert!(gaps.contains(part), "{gaps}");
    }
}

async fn what_was_added_is_removed(server: S3Server) {
    let (scene, pretend) = pretended(server, "added").await;
    let before = scene.enforce(Trials::Keep).await.unwrap().read_back;
    let request = scene.operator_client().put_bucket_cors().bucket(scene.bucket());
    let rule = aws_sdk_s3::types::CorsRule::builder().allowed_methods("GET").allowed_origins("*");
    let rules = aws_sdk_s3::types::CorsConfiguration::builder().cors_rules(rule.build().unwrap());
    request.cors_configuration(rules.build().unwrap()).send().await.unwrap();
    for (part, document) in [
        ("notification", NOTIFIES),
        ("logging", LOGS),
        ("inventory", INVENTORIES),
        ("replication", REPLICATES),
    ] {
        pretend.answer(part, (200, document), 200);
    }
    let enforced = scene.enforce(Trials::Keep).await.unwrap();
    let told: Vec<String> = enforced.changed.iter().map(ToString::to_string).collect();
    let removed = ["CORS rules", "replication", "notifications", "inventories", "access logging"]
        .map(|part| format!("foreign configuration: {part} → removed"));
    assert_eq!(told, removed);
    let writes = pretend.writes().join("\n");
    assert!(writes.contains("?inventory&id=all") || writes.contains("id=all&inventory"), "{writes}");
    assert_eq!(enforced.read_back, before);
    assert!(scene.enforce(Trials::Keep).await.unwrap().changed.is_empty());
}

#[tokio::test]
async fn seaweedfs_what_was_added_is_removed() {
    what_was_added_is_removed(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_what_was_added_is_removed() {
    what_was_added_is_removed(S3Server::second()).await;
}

/// What may not be read is not taken for what is not there, and stops no recording that goes on.
async fn what_is_hidden_later_is_a_gap(server: S3Server) {
    let (scene, pretend) = pretended(server, "hidden").await;
    scene.enforce(Trials::Keep).await.unwrap();
    pretend.writes();
    for part in ["notification", "replication", "cors", "acl", "encryption"] {
        pretend.hide(part);
    }
    let enforced = scene.enforce(Trials::Keep).await.unwrap();
    assert!(enforced.changed.is_empty() && pretend.writes().is_empty(), "{:?}", enforced.changed);
    let gaps = enforced.read_back.gaps().join("; ");
    for part in ["notifications", "replication", "CORS rules", "grants by ACL", "default encryption"] {
        assert!(gaps.contains(part), "{gaps}");
    }
}

#[tokio::test]
async fn seaweedfs_what_is_hidden_later_is_a_gap() {
    what_is_hidden_later_is_a_gap(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_what_is_hidden_later_is_a_gap() {
    what_is_hidden_later_is_a_gap(S3Server::second()).await;
}

/// A store that shows a setting and refuses it, or takes it and forgets: said, and not tried at every look.
async fn what_the_store_does_not_keep_is_given_up(server: S3Server) {
    let none = "<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code></Error>";
    let (scene, pretend) = pretended(server, "givenup").await;
    pretend.answer("encryption", (404, none), 501);
    let first = scene.enforce(Trials::Keep).await.unwrap();
    assert_eq!(first.read_back.settings[&Setting::Encryption], Kept::Otherwise("none".into()));
    assert!(first.read_back.gaps().join("; ").contains("no default encryption"));
    assert!(
        first.changed.iter().all(|change| change.what != Aspect::DefaultEncryption),
        "{:?}",
        first.changed
    );
    pretend.writes();
    for _ in 0..2 {
        let again = scene.enforce(Trials::Keep).await.unwrap();
        assert!(again.changed.is_empty(), "{:?}", again.changed);
        assert_eq!(pretend.writes(), Vec::<String>::new());
    }
    // Daily it is tried again, and on the day that the store takes it, it is set.
    pretend.answer("encryption", (404, none), 200);
    scene.enforce(Trials::Run).await.unwrap();
    assert!(pretend.writes().iter().any(|write| write.contains("encryption")));
}

#[tokio::test]
async fn seaweedfs_what_the_store_does_not_keep_is_given_up() {
    what_the_store_does_not_keep_is_given_up(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_what_the_store_does_not_keep_is_given_up() {
    what_the_store_does_not_keep_is_given_up(S3Server::second()).await;
}

pub const REPLICATION: (u16, &str) = (200, REPLICATES);
pub const NOTIFICATIONS: (u16, &str) = (200, NOTIFIES);
