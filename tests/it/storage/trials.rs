//! What the recorders' credentials were tried to do on each store, and that others get nowhere either.

use std::collections::BTreeSet;

use toezicht::storage::Trials;

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tools::attempt;

/// What a store lets happen though it must not; everything else is refused.
async fn lets_happen(server: S3Server) -> (Scene, BTreeSet<&'static str>, Vec<&'static str>) {
    let scene = Scene::new(server, "trials");
    let enforced = scene.enforce(Trials::Run).await.unwrap();
    let trials = enforced.trials.unwrap();
    assert_eq!(trials.len(), 19);
    assert!(scene.versions("probe/").await.is_empty(), "canaries are gone");
    let had_effect = trials
        .iter()
        .filter(|trial| !trial.refused)
        .map(|trial| trial.operation.as_str());
    (scene.clone(), had_effect.collect(), enforced.gaps)
}

#[tokio::test]
async fn seaweedfs_refuses_the_recorder_all_but_tags_and_a_second_version() {
    let (scene, had_effect, gaps) = lets_happen(S3Server::first()).await;
    assert_eq!(
        had_effect,
        BTreeSet::from(["Overwrite", "PutHeld", "PutUntagged"])
    );
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].contains("s3:RequestObjectTag"));
    nobody_else_gets_anywhere(&scene, &["admin", "other", "manager"]).await;
}

#[tokio::test]
async fn ceph_refuses_the_recorder_all_but_a_hold_at_birth_and_a_second_version() {
    let (scene, had_effect, gaps) = lets_happen(S3Server::second()).await;
    assert_eq!(
        had_effect,
        BTreeSet::from(["Overwrite", "PutAgain", "PutWithLegalHold"])
    );
    assert_eq!(gaps, Vec::<&str>::new());
    nobody_else_gets_anywhere(&scene, &["admin", "other", "manager"]).await;
}

/// Tried with plain clients: on a recording, and by people that the operator has no credentials of.
async fn nobody_else_gets_anywhere(scene: &Scene, identities: &[&str]) {
    let key = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";
    let put = scene
        .client("recorder")
        .put_object()
        .bucket(scene.bucket())
        .key(key);
    put.tagging("toezicht-retention=video")
        .body(b"picture".to_vec().into())
        .send()
        .await
        .unwrap();
    let [(_, version)] = &scene.versions(key).await[..] else {
        panic!("one version")
    };
    for identity in identities.iter().chain(&["recorder"]) {
        let client = scene.client(identity);
        let get = client.get_object().bucket(scene.bucket()).key(key).send().await;
        assert!(get.is_err(), "{identity} reads");
        let get = client
            .get_object()
            .bucket(scene.bucket())
            .key(key)
            .version_id(version)
            .send()
            .await;
        assert!(get.is_err(), "{identity} reads by version");
        let list = client.list_objects_v2().bucket(scene.bucket()).send().await;
        assert!(list.is_err(), "{identity} lists");
        let _ = client
            .delete_object()
            .bucket(scene.bucket())
            .key(key)
            .version_id(version)
            .send()
            .await;
        let _ = client
            .delete_object()
            .bucket(scene.bucket())
            .key(key)
            .send()
            .await;
        assert_eq!(scene.versions(key).await.len(), 1, "{identity} deletes");
    }
    let get = scene
        .operator_client()
        .get_object()
        .bucket(scene.bucket())
        .key(key)
        .send()
        .await;
    assert!(get.is_err(), "the operator reads a recording");
    // The same by a client of another make.
    for operation in [&["get", key][..], &["list"]] {
        let answer = attempt(&scene.server, scene.bucket(), "recorder", operation).await;
        assert_eq!(answer["ok"], false, "{operation:?}: {answer}");
    }
}
