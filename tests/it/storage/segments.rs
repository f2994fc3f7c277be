//! Uploads of segments: once, complete, tagged, and dated by the store's clock.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use toezicht::rules::recording::key::{Class, Key};
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::Probe;
use toezicht::storage::s3::segments::{PutError, Uploader};
use toezicht::wire::Credentials;

use super::scene::Scene;
use crate::support::settings::S3Server;

struct Segment {
    _dir: tempfile::TempDir,
    file: PathBuf,
    sha256: [u8; 32],
    key: Key,
    bytes: Vec<u8>,
}

fn segment(size: usize) -> Segment {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("segment.mp4");
    let mut bytes = vec![7; size];
    bytes[..8].copy_from_slice(&rand::random::<[u8; 8]>());
    std::fs::write(&file, &bytes).unwrap();
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let key = Key::new(Class::Video, "receptie", Timestamp::now(), 60_000, &sha256).unwrap();
    Segment { _dir: dir, file, sha256, key, bytes }
}

async fn prepared_uploader(server: S3Server) -> (Scene, Uploader) {
    let scene = Scene::new(server, "segments");
    scene.enforce(Probe::Skip).await.unwrap();
    let uploader = Uploader::new(&scene.recorder).unwrap();
    (scene, uploader)
}

/// Reads a stored segment and its tags. Replaces the bucket policy first, which lets nobody read a recording.
async fn read_stored(scene: &Scene, key: &Key) -> (Vec<u8>, Vec<(String, String)>) {
    let client = scene.operator_client();
    let tags = client.get_object_tagging().bucket(scene.bucket()).key(key.to_string()).send().await.unwrap();
    let tags = tags.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
    let open = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": [scene.spec.operator_principal]}, "Action": ["s3:GetObject"],
        "Resource": [format!("arn:aws:s3:::{}/*", scene.bucket())]}]});
    client.put_bucket_policy().bucket(scene.bucket()).policy(open.to_string()).send().await.unwrap();
    let object = client.get_object().bucket(scene.bucket()).key(key.to_string()).send().await.unwrap();
    (object.body.collect().await.unwrap().to_vec(), tags)
}

/// Asserts that a second put of a segment leaves `versions` versions.
async fn repeated_put_leaves_versions(server: S3Server, versions: usize) {
    let (scene, uploader) = prepared_uploader(server).await;
    let segment = segment(5 * 1024 * 1024);
    let put = uploader.put(&segment.key, &segment.file, segment.sha256, RetentionTag::Video).await.unwrap();
    assert!(!put.already_exists);
    let skew = put.server_date.expect("a Date header").duration_since(Timestamp::now());
    assert!(skew.abs() < SignedDuration::from_secs(5), "{skew}");

    let again = uploader.put(&segment.key, &segment.file, segment.sha256, RetentionTag::Video).await.unwrap();
    assert_eq!(again.already_exists, versions == 1);
    assert!(again.server_date.is_some(), "an error response has a date too");
    assert_eq!(scene.versions(&segment.key.to_string()).await.len(), versions);

    let (bytes, tags) = read_stored(&scene, &segment.key).await;
    assert!(bytes == segment.bytes, "{} bytes", bytes.len());
    assert_eq!(tags, [("toezicht-retention".to_owned(), "video".to_owned())]);
}

#[tokio::test]
async fn seaweedfs_repeated_put_leaves_one_version() {
    repeated_put_leaves_versions(S3Server::primary(), 1).await;
}

#[tokio::test]
async fn ceph_16_repeated_put_leaves_two_versions() {
    repeated_put_leaves_versions(S3Server::secondary(), 2).await;
}

async fn mismatched_checksum_is_rejected(server: S3Server) {
    let (scene, uploader) = prepared_uploader(server).await;
    let segment = segment(100_000);
    let mut other = segment.bytes.clone();
    other[50_000] ^= 1;
    std::fs::write(&segment.file, &other).unwrap();
    let error =
        uploader.put(&segment.key, &segment.file, segment.sha256, RetentionTag::Video).await.unwrap_err();
    assert_eq!(error, PutError::Checksum);
    assert!(scene.versions("video/").await.is_empty());
}

#[tokio::test]
async fn seaweedfs_mismatched_checksum_is_rejected() {
    mismatched_checksum_is_rejected(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_mismatched_checksum_is_rejected() {
    mismatched_checksum_is_rejected(S3Server::secondary()).await;
}

#[tokio::test]
async fn disallowed_put_is_not_sent() {
    let mut scene = Scene::new(S3Server::primary(), "unsent");
    scene.recorder.endpoint = Some("http://127.0.0.1:1".into());
    let uploader = Uploader::new(&scene.recorder).unwrap();
    let segment = segment(100);
    for tag in [RetentionTag::Held, RetentionTag::Calls] {
        let error = uploader.put(&segment.key, &segment.file, segment.sha256, tag).await.unwrap_err();
        assert!(matches!(error, PutError::NotAllowed(_)), "{error:?}");
    }
    let error = uploader.put(&segment.key, &segment.file, [0; 32], RetentionTag::Video).await.unwrap_err();
    assert!(matches!(error, PutError::NotAllowed(_)), "{error:?}");
    let missing = segment.file.with_extension("gone");
    let error = uploader.put(&segment.key, &missing, segment.sha256, RetentionTag::Video).await.unwrap_err();
    assert_eq!(error, PutError::File(std::io::ErrorKind::NotFound));
    let error =
        uploader.put(&segment.key, &segment.file, segment.sha256, RetentionTag::Video).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.to_string(), "PutObject got no answer: NoConnection");
}

async fn wrong_credentials_are_reported(server: S3Server) {
    let (mut scene, _) = prepared_uploader(server).await;
    let key = &scene.server.identity("recorder").access_key;
    scene.recorder.credentials = Credentials::access_key(key, "wrong");
    let uploader = Uploader::new(&scene.recorder).unwrap();
    let segment = segment(100);
    let error =
        uploader.put(&segment.key, &segment.file, segment.sha256, RetentionTag::Sealed).await.unwrap_err();
    // A gateway with an STS does not distinguish a wrong signature.
    let code = match scene.server.name.as_str() {
        "ceph" => "AccessDenied",
        _ => "SignatureDoesNotMatch",
    };
    assert_eq!(error.to_string(), format!("PutObject was answered with {code} (HTTP 403)"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn seaweedfs_wrong_credentials_are_reported() {
    wrong_credentials_are_reported(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_wrong_credentials_are_reported() {
    wrong_credentials_are_reported(S3Server::secondary()).await;
}
