//! Without an operator, the store deletes all versions and delete markers of recordings without a hold by their
//! ceiling.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use toezicht::api::Days;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::Probe;
use toezicht::storage::s3::segments::Uploader;

use crate::storage::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

async fn upload_recording(uploader: &Uploader, camera: &str, tag: RetentionTag) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("segment.mp4");
    let bytes: [u8; 64] = rand::random();
    std::fs::write(&file, bytes).unwrap();
    let sha256: [u8; 32] = Sha256::digest(bytes).into();
    let key = Key::new(Class::Video, camera, Timestamp::now(), 60_000, &sha256).unwrap();
    uploader.put(&key, &file, sha256, tag).await.unwrap();
    key.to_string()
}

#[tokio::test]
async fn ceph_expires_all_versions_and_keeps_held_and_sealed() {
    let mut scene = Scene::new(S3Server::secondary(), "lifecycle");
    scene.spec.video_ceiling = Days(5); // expires after one day
    scene.spec.calls_ceiling = Days(5);
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(enforced.observed.video_expiration_days(), Some(1));
    let uploader = Uploader::new(&scene.recorder).unwrap();
    let held = upload_recording(&uploader, "held", RetentionTag::Video).await;
    // Set the legal hold first: between the two calls the lifecycle may add a delete marker, but cannot delete the
    // version.
    scene.set_hold(&held, true).await;
    scene.tag(&held, "held").await;
    let sealed = upload_recording(&uploader, "sealed", RetentionTag::Sealed).await;
    let protected_versions = [scene.versions(&held).await, scene.versions(&sealed).await];
    assert!(protected_versions.iter().all(|versions| versions.len() == 1), "{protected_versions:?}");
    // One plain recording, one overwritten twice, and one behind a delete marker.
    let mut expires = Vec::new();
    for camera in ["receptie", "gang", "hal"] {
        expires.push(upload_recording(&uploader, camera, RetentionTag::Video).await);
    }
    for _ in 0..2 {
        let put = scene.client("recorder").put_object().bucket(scene.bucket());
        let put = put.key(&expires[1]).tagging("toezicht-retention=video");
        put.body(b"other".to_vec().into()).send().await.unwrap();
    }
    scene.add_delete_marker(&expires[2]).await;
    let mut counts = Vec::new();
    for key in &expires {
        counts.push(scene.versions(key).await.len());
    }
    assert_eq!(counts, [1, 3, 2]);

    for key in &expires {
        wait_until_deleted(&scene, key).await;
    }
    // Once the store has expired a later recording, it has processed all earlier ones. Delete markers would be listed
    // too, so an equal list means neither deleted nor hidden.
    let later = upload_recording(&uploader, "later", RetentionTag::Video).await;
    wait_until_deleted(&scene, &later).await;
    let now = [scene.versions(&held).await, scene.versions(&sealed).await];
    assert_eq!(now, protected_versions);
}

async fn wait_until_deleted(scene: &Scene, key: &str) {
    eventually("no version and no delete marker of a recording", HANG, || async {
        let left = scene.versions(key).await;
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
}
