//! The store's own lifecycle on a store where it really runs: Ceph's bed has days of ten seconds.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use toezicht::api::Days;
use toezicht::storage::Trials;
use toezicht::storage::key::{Class, Key};
use toezicht::storage::segments::Uploader;
use toezicht::storage::tag::RetentionTag;

use crate::storage::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{eventually, throughout};

/// A day to expire, one to be noncurrent and one for the marker are 30 s; the rest is for a loaded machine, on
/// which the store goes through the buckets of all other tests too.
const GONE: Duration = Duration::from_secs(300);
/// Longer than it took for what expires to be hidden, on a store that has just shown that it expires.
const STAYS: Duration = Duration::from_secs(30);

async fn recorded(uploader: &Uploader, camera: &str, tag: RetentionTag) -> String {
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
async fn ceph_expires_recordings_whole_and_keeps_what_is_held_or_sealed() {
    let mut scene = Scene::new(S3Server::second(), "lifecycle");
    scene.spec.video_ceiling = Days(5); // expires after one day
    scene.spec.calls_ceiling = Days(5);
    let enforced = scene.enforce(Trials::Keep).await.unwrap();
    assert_eq!(enforced.read_back.video_expiration_days(), Some(1));
    let uploader = Uploader::new(&scene.recorder).unwrap();
    let held = recorded(&uploader, "held", RetentionTag::Video).await;
    // Legal hold first: between the two calls the tag still lets it be hidden, never deleted.
    scene.set_hold(&held, true).await;
    scene.tag(&held, "held").await;
    let sealed = recorded(&uploader, "sealed", RetentionTag::Sealed).await;
    let kept = [scene.versions(&held).await, scene.versions(&sealed).await];
    assert!(kept.iter().all(|versions| versions.len() == 1), "{kept:?}");
    let expires = recorded(&uploader, "receptie", RetentionTag::Video).await;
    assert_eq!(scene.versions(&expires).await.len(), 1);

    eventually("no version and no marker of a recording", GONE, || async {
        match scene.versions(&expires).await {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
    // A marker would be listed too: the same single version means neither deleted nor hidden.
    throughout("what is held or sealed stays", STAYS, || async {
        let now = [scene.versions(&held).await, scene.versions(&sealed).await];
        (now == kept)
            .then_some(())
            .ok_or_else(|| format!("{now:?}, was {kept:?}"))
    })
    .await;
}
