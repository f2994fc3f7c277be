//! Changed ceilings, incomplete multipart uploads, suspended versioning, and a store without lifecycle rules.

use jiff::{SignedDuration, Timestamp};
use toezicht::api::{Ceilings, Days};
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::sweep::state::{ScanRange, SweepReport};
use toezicht::storage::recordings::sweep::sweep;
use toezicht::storage::{EnforceError, Probe, Subresource};

use super::holds::{FixedHolds, at_time, prepared_bucket};
use super::scene::Scene;
use super::subresources::scene_with_overrides;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn sweep_at(scene: &Scene, video: u32, now: Timestamp) -> SweepReport {
    let ceilings = Ceilings { video: Days(video), calls: Days(5) };
    let nothing = FixedHolds(Vec::new());
    sweep(
        &connect(&scene.operator),
        &ceilings,
        &nothing,
        &ProtectionCache::default(),
        ScanRange::All,
        at_time(now),
    )
    .await
    .unwrap()
}

/// Checks that stored recordings follow the current ceiling. Versions hidden or deleted under a stricter one stay
/// hidden or deleted.
async fn changed_ceiling_applies_to_stored_recordings(server: S3Server) {
    let mut scene = prepared_bucket(server).await;
    let now = Timestamp::now();
    let old = scene.record("hal", now - HOUR).await;
    let hidden = scene.record("gang", now - HOUR).await;
    let in_ten_days = now + HOUR * 240;
    assert_eq!(sweep_at(&scene, 28, in_ten_days).await.deleted, 0);

    scene.spec.video_ceiling = Days(9);
    let stricter = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(stricter.observed.video_expiration_days(), Some(5));
    scene.add_delete_marker(&hidden).await;
    scene.spec.video_ceiling = Days(28);
    let looser = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(looser.observed.video_expiration_days(), Some(24));
    assert_eq!(sweep_at(&scene, 28, in_ten_days).await.deleted, 0);
    let marker = scene.operator_client().list_objects_v2().bucket(scene.bucket()).prefix(&hidden);
    assert_eq!(marker.send().await.unwrap().key_count(), Some(0), "the recording stays hidden");

    let stricter = sweep_at(&scene, 9, in_ten_days).await;
    assert_eq!(stricter.deleted, 3, "two versions and a marker");
    assert_eq!(sweep_at(&scene, 28, in_ten_days).await.deleted, 0);
    assert!(scene.versions(&old).await.is_empty() && scene.versions(&hidden).await.is_empty());
}

#[tokio::test]
async fn seaweedfs_changed_ceiling_applies_to_stored_recordings() {
    changed_ceiling_applies_to_stored_recordings(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_changed_ceiling_applies_to_stored_recordings() {
    changed_ceiling_applies_to_stored_recordings(S3Server::secondary()).await;
}

/// Checks that incomplete uploads, which no listing of versions shows, are aborted once no client can still be using
/// them. Ceph denies the recorder multipart uploads, because it does not evaluate their tags. SeaweedFS allows them,
/// and lets only identities that may put abort them: the sweep reports the remaining ones.
async fn incomplete_uploads_are_aborted(server: S3Server, recorder_uploads: u64) {
    let scene = prepared_bucket(server).await;
    let start_upload = async |identity: &aws_sdk_s3::Client, key: &str| {
        let request = identity.create_multipart_upload().bucket(scene.bucket()).key(key);
        request.tagging("toezicht-retention=video").send().await.is_ok()
    };
    let key = "video/hal/2026/03/07/080910.011Z-60033-abababababababab.mp4";
    assert_eq!(start_upload(&scene.client("recorder"), key).await, recorder_uploads == 1);
    assert!(start_upload(&scene.operator_client(), "elsewhere/x").await);
    let hour = sweep_at(&scene, 28, Timestamp::now() + HOUR).await;
    assert_eq!((hour.aborted_uploads, hour.incomplete_uploads), (0, 0), "they may be in progress");
    let days = sweep_at(&scene, 28, Timestamp::now() + HOUR * 48).await;
    assert_eq!((days.aborted_uploads, days.incomplete_uploads), (1, recorder_uploads));
    let left = scene.operator_client().list_multipart_uploads().bucket(scene.bucket());
    let left = left.send().await.unwrap().uploads().len();
    assert_eq!(u64::try_from(left).unwrap(), recorder_uploads);
}

#[tokio::test]
async fn seaweedfs_incomplete_uploads_are_aborted() {
    incomplete_uploads_are_aborted(S3Server::primary(), 1).await;
}

#[tokio::test]
async fn ceph_incomplete_uploads_are_aborted() {
    incomplete_uploads_are_aborted(S3Server::secondary(), 0).await;
}

/// Checks that suspended versioning is enabled again. Both servers refuse to suspend the versioning of a bucket with
/// Object Lock, so a proxy imitates one that does not.
async fn suspended_versioning_is_restored(server: S3Server) {
    let (scene, overrides) = scene_with_overrides(server, "suspended").await;
    scene.enforce(Probe::Skip).await.unwrap();
    overrides.take_writes();
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    overrides.set_override("versioning", (200, suspended), 200);
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    let changes: Vec<_> = enforced.changes.iter().map(|change| change.subresource).collect();
    assert_eq!(changes, [Subresource::Versioning]);
    assert!(
        overrides
            .take_writes()
            .iter()
            .any(|write| write.starts_with("PUT ") && write.contains("?versioning"))
    );
    assert!(enforced.observed.versioning);
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn seaweedfs_suspended_versioning_is_restored() {
    suspended_versioning_is_restored(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_suspended_versioning_is_restored() {
    suspended_versioning_is_restored(S3Server::secondary()).await;
}

/// Checks that a store without lifecycle rules is rejected unless `OperatorOnly` is set. Then the bucket is in sync
/// without rules, and the sweep keeps the ceiling.
async fn missing_lifecycle_requires_operator_only(server: S3Server) {
    let (mut scene, overrides) = scene_with_overrides(server, "nolifecycle").await;
    let none = "<Error><Code>NotImplemented</Code></Error>";
    overrides.set_override("lifecycle", (501, none), 501);
    match scene.enforce(Probe::Skip).await.unwrap_err() {
        EnforceError::StoreUnsupported { remedy, .. } => assert!(remedy.contains("OperatorOnly"), "{remedy}"),
        other => panic!("{other:?}"),
    }
    scene.spec.operator_only = true;
    scene.enforce(Probe::Run).await.unwrap();
    overrides.take_writes();
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
    assert_eq!(overrides.take_writes(), Vec::<String>::new());
    let now = Timestamp::now();
    let key = scene.record("hal", now - HOUR).await;
    assert_eq!(sweep_at(&scene, 28, now + HOUR * 24 * 28).await.deleted, 1);
    assert!(scene.versions(&key).await.is_empty());
}

#[tokio::test]
async fn seaweedfs_missing_lifecycle_requires_operator_only() {
    missing_lifecycle_requires_operator_only(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_missing_lifecycle_requires_operator_only() {
    missing_lifecycle_requires_operator_only(S3Server::secondary()).await;
}
