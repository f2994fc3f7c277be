//! The protocol changes (a stricter ceiling, a looser one), and what a bucket goes through meanwhile: parts of uploads that
//! nobody finishes, versioning that is suspended, a store without lifecycle.

use jiff::{SignedDuration, Timestamp};
use toezicht::api::{Ceilings, Days};
use toezicht::storage::sweep::{Reach, Swept, sweep};
use toezicht::storage::{Aspect, EnforceError, Trials};

use super::holds::{Declared, prepared};
use super::parts::pretended;
use super::scene::Scene;
use crate::support::settings::S3Server;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn swept(scene: &Scene, video: u32, now: Timestamp) -> Swept {
    let ceilings = Ceilings {
        video: Days(video),
        calls: Days(5),
    };
    let nothing = Declared(Vec::new());
    sweep(&scene.operator, &ceilings, &nothing, Reach::All, now)
        .await
        .unwrap()
}

/// What is stored goes by the ceiling that is in force now; what was hidden or removed by a stricter one stays so.
async fn another_ceiling_counts_for_what_is_stored(server: S3Server) {
    let mut scene = prepared(server).await;
    let now = Timestamp::now();
    let old = scene.record("hal", now - HOUR).await;
    let hidden = scene.record("gang", now - HOUR).await;
    let in_ten_days = now + HOUR * 240;
    assert_eq!(swept(&scene, 28, in_ten_days).await.deleted, 0);

    scene.spec.video_ceiling = Days(9);
    let stricter = scene.enforce(Trials::Keep).await.unwrap();
    assert_eq!(stricter.read_back.video_expiration_days(), Some(5));
    scene.hide(&hidden).await;
    scene.spec.video_ceiling = Days(28);
    let looser = scene.enforce(Trials::Keep).await.unwrap();
    assert_eq!(looser.read_back.video_expiration_days(), Some(24));
    assert_eq!(swept(&scene, 28, in_ten_days).await.deleted, 0);
    let marker = scene
        .operator_client()
        .list_objects_v2()
        .bucket(scene.bucket())
        .prefix(&hidden);
    assert_eq!(
        marker.send().await.unwrap().key_count(),
        Some(0),
        "it stays hidden"
    );

    assert_eq!(
        swept(&scene, 9, in_ten_days).await.deleted,
        2,
        "by the stricter ceiling"
    );
    assert_eq!(swept(&scene, 28, in_ten_days).await.deleted, 0);
    assert!(scene.versions(&old).await.is_empty() && scene.versions(&hidden).await.is_empty());
}

#[tokio::test]
async fn seaweedfs_another_ceiling_counts() {
    another_ceiling_counts_for_what_is_stored(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_another_ceiling_counts() {
    another_ceiling_counts_for_what_is_stored(S3Server::second()).await;
}

/// Parts that no listing of versions shows are ended once nobody can be at it any more.
async fn unfinished_uploads_are_ended(server: S3Server) {
    let scene = prepared(server).await;
    let client = scene.client("recorder");
    let begun = client.create_multipart_upload().bucket(scene.bucket());
    let key = "video/hal/2026/03/07/080910.011Z-60033-abababababababab.mp4";
    begun
        .key(key)
        .tagging("toezicht-retention=video")
        .send()
        .await
        .unwrap();
    let unfinished = async || {
        let page = scene
            .operator_client()
            .list_multipart_uploads()
            .bucket(scene.bucket());
        page.send().await.unwrap().uploads().len()
    };
    assert_eq!(unfinished().await, 1);
    assert_eq!(
        swept(&scene, 28, Timestamp::now() + HOUR).await.aborted,
        0,
        "it may be under way"
    );
    assert_eq!(swept(&scene, 28, Timestamp::now() + HOUR * 48).await.aborted, 1);
    assert_eq!(unfinished().await, 0);
}

#[tokio::test]
async fn seaweedfs_unfinished_uploads_are_ended() {
    unfinished_uploads_are_ended(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_unfinished_uploads_are_ended() {
    unfinished_uploads_are_ended(S3Server::second()).await;
}

/// Both servers refuse to suspend the versioning of a bucket with Object Lock; on one that does not, it is on again.
async fn suspended_versioning_is_put_back(server: S3Server) {
    let (scene, pretend) = pretended(server, "suspended").await;
    scene.enforce(Trials::Keep).await.unwrap();
    pretend.writes();
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    pretend.answer("versioning", (200, suspended), 200);
    let enforced = scene.enforce(Trials::Keep).await.unwrap();
    let told: Vec<_> = enforced.changed.iter().map(|change| change.what).collect();
    assert_eq!(told, [Aspect::Versioning]);
    assert!(
        pretend
            .writes()
            .iter()
            .any(|write| write.starts_with("PUT ") && write.contains("?versioning"))
    );
    assert!(enforced.read_back.versioning);
    assert!(scene.enforce(Trials::Keep).await.unwrap().changed.is_empty());
}

#[tokio::test]
async fn seaweedfs_suspended_versioning_is_put_back() {
    suspended_versioning_is_put_back(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_suspended_versioning_is_put_back() {
    suspended_versioning_is_put_back(S3Server::second()).await;
}

/// A store without lifecycle is refused, unless somebody decided that the operator alone deletes: then it is in sync
/// without one, and the sweep keeps the ceiling.
async fn without_a_lifecycle_somebody_has_to_decide(server: S3Server) {
    let (mut scene, pretend) = pretended(server, "nolifecycle").await;
    let none = "<Error><Code>NotImplemented</Code></Error>";
    pretend.answer("lifecycle", (501, none), 501);
    match scene.enforce(Trials::Keep).await.unwrap_err() {
        EnforceError::StoreUnfit { remedy, .. } => assert!(remedy.contains("OperatorOnly"), "{remedy}"),
        other => panic!("{other:?}"),
    }
    scene.spec.operator_only = true;
    scene.enforce(Trials::Run).await.unwrap();
    pretend.writes();
    assert!(scene.enforce(Trials::Keep).await.unwrap().changed.is_empty());
    assert_eq!(pretend.writes(), Vec::<String>::new());
    let now = Timestamp::now();
    let key = scene.record("hal", now - HOUR).await;
    assert_eq!(swept(&scene, 28, now + HOUR * 24 * 28).await.deleted, 1);
    assert!(scene.versions(&key).await.is_empty());
}

#[tokio::test]
async fn seaweedfs_without_a_lifecycle_somebody_decides() {
    without_a_lifecycle_somebody_has_to_decide(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_without_a_lifecycle_somebody_decides() {
    without_a_lifecycle_somebody_has_to_decide(S3Server::second()).await;
}
