//! The protocol changes (a stricter ceiling, a looser one), and what a bucket goes through meanwhile: parts of uploads that
//! nobody finishes, versioning that is suspended, a store without lifecycle.

use jiff::{SignedDuration, Timestamp};
use toezicht::api::{Ceilings, Days};
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::sweep::state::{ScanRange, SweepReport};
use toezicht::storage::recordings::sweep::sweep;
use toezicht::storage::{EnforceError, Probe, Subresource};

use super::holds::{Declared, at_time, prepared};
use super::parts::pretended;
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn swept(scene: &Scene, video: u32, now: Timestamp) -> SweepReport {
    let ceilings = Ceilings { video: Days(video), calls: Days(5) };
    let nothing = Declared(Vec::new());
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

/// What is stored goes by the ceiling that is in force now; what was hidden or removed by a stricter one stays so.
async fn changed_ceiling_applies_to_stored_recordings(server: S3Server) {
    let mut scene = prepared(server).await;
    let now = Timestamp::now();
    let old = scene.record("hal", now - HOUR).await;
    let hidden = scene.record("gang", now - HOUR).await;
    let in_ten_days = now + HOUR * 240;
    assert_eq!(swept(&scene, 28, in_ten_days).await.deleted, 0);

    scene.spec.video_ceiling = Days(9);
    let stricter = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(stricter.observed.video_expiration_days(), Some(5));
    scene.add_delete_marker(&hidden).await;
    scene.spec.video_ceiling = Days(28);
    let looser = scene.enforce(Probe::Skip).await.unwrap();
    assert_eq!(looser.observed.video_expiration_days(), Some(24));
    assert_eq!(swept(&scene, 28, in_ten_days).await.deleted, 0);
    let marker = scene.operator_client().list_objects_v2().bucket(scene.bucket()).prefix(&hidden);
    assert_eq!(marker.send().await.unwrap().key_count(), Some(0), "it stays hidden");

    let stricter = swept(&scene, 9, in_ten_days).await;
    assert_eq!(stricter.deleted, 3, "two versions and a marker");
    assert_eq!(swept(&scene, 28, in_ten_days).await.deleted, 0);
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

/// Parts that no listing of versions shows are aborted once nobody can be at it any more. Those of a recorder: Ceph lets it
/// begin none, since no tag is judged there; SeaweedFS lets it, and lets nobody abort who may not put: that is told.
async fn incomplete_uploads_are_aborted(server: S3Server, of_recorders: u64) {
    let scene = prepared(server).await;
    let begin = async |identity: &aws_sdk_s3::Client, key: &str| {
        let begun = identity.create_multipart_upload().bucket(scene.bucket()).key(key);
        begun.tagging("toezicht-retention=video").send().await.is_ok()
    };
    let key = "video/hal/2026/03/07/080910.011Z-60033-abababababababab.mp4";
    assert_eq!(begin(&scene.client("recorder"), key).await, of_recorders == 1);
    assert!(begin(&scene.operator_client(), "elsewhere/x").await);
    let hour = swept(&scene, 28, Timestamp::now() + HOUR).await;
    assert_eq!((hour.aborted_uploads, hour.incomplete_uploads), (0, 0), "they may be under way");
    let days = swept(&scene, 28, Timestamp::now() + HOUR * 48).await;
    assert_eq!((days.aborted_uploads, days.incomplete_uploads), (1, of_recorders));
    let left = scene.operator_client().list_multipart_uploads().bucket(scene.bucket());
    let left = left.send().await.unwrap().uploads().len();
    assert_eq!(u64::try_from(left).unwrap(), of_recorders);
}

#[tokio::test]
async fn seaweedfs_incomplete_uploads_are_aborted() {
    incomplete_uploads_are_aborted(S3Server::primary(), 1).await;
}

#[tokio::test]
async fn ceph_incomplete_uploads_are_aborted() {
    incomplete_uploads_are_aborted(S3Server::secondary(), 0).await;
}

/// Both servers refuse to suspend the versioning of a bucket with Object Lock; on one that does not, it is on again.
async fn suspended_versioning_is_restored(server: S3Server) {
    let (scene, pretend) = pretended(server, "suspended").await;
    scene.enforce(Probe::Skip).await.unwrap();
    pretend.writes();
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    pretend.answer("versioning", (200, suspended), 200);
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    let told: Vec<_> = enforced.changes.iter().map(|change| change.subresource).collect();
    assert_eq!(told, [Subresource::Versioning]);
    assert!(pretend.writes().iter().any(|write| write.starts_with("PUT ") && write.contains("?versioning")));
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

/// A store without lifecycle is refused, unless somebody decided that the operator alone deletes: then it is in sync
/// without one, and the sweep keeps the ceiling.
async fn missing_lifecycle_requires_operator_only(server: S3Server) {
    let (mut scene, pretend) = pretended(server, "nolifecycle").await;
    let none = "<Error><Code>NotImplemented</Code></Error>";
    pretend.answer("lifecycle", (501, none), 501);
    match scene.enforce(Probe::Skip).await.unwrap_err() {
        EnforceError::StoreUnsupported { remedy, .. } => assert!(remedy.contains("OperatorOnly"), "{remedy}"),
        other => panic!("{other:?}"),
    }
    scene.spec.operator_only = true;
    scene.enforce(Probe::Run).await.unwrap();
    pretend.writes();
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
    assert_eq!(pretend.writes(), Vec::<String>::new());
    let now = Timestamp::now();
    let key = scene.record("hal", now - HOUR).await;
    assert_eq!(swept(&scene, 28, now + HOUR * 24 * 28).await.deleted, 1);
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
