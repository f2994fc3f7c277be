//! Secrets and policies that are wrong, or gone for a moment: they stop nothing but what depends on them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy};
use tokio::time::sleep;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::cluster::TestNamespace;
use crate::support::pod;
use crate::support::recorded::{UNWRITTEN, ensure_complete, segments, time, wait_until_complete};
use crate::support::scene::{POLICY, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

async fn recording_scene(namespace: TestNamespace, instance: &str) -> (Process, Scene) {
    let server = S3Server::primary();
    let config = config_for_store(&server.endpoint);
    let process = Process::with_config(&namespace, &namespace, instance, config);
    wait_for_leader(&namespace, instance).await;
    let scene = Scene::within(namespace, server, |_, _| ()).await;
    scene.camera("hal", "h264/9").await;
    scene.wait_for_camera("hal", "Recording", "True", HANG).await;
    (process, scene)
}

async fn set_secret_key(scene: &Scene, key: &str) {
    set_recorder_key(scene, json!({"secretAccessKey": key})).await;
}

async fn set_recorder_key(scene: &Scene, data: Value) {
    set_secret(scene, "s3-recorder", data).await;
}

async fn set_secret(scene: &Scene, name: &str, data: Value) {
    let secrets = scene.namespace.api::<Secret>();
    let patch = json!({"stringData": data});
    secrets.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Waits until the recorder has `count` frames more.
async fn wait_for_frames(scene: &Scene, count: u64) {
    let before = pod::frames(&scene.namespace, "hal").await.unwrap();
    eventually("more frames", HANG, || async {
        let frames = pod::frames(&scene.namespace, "hal").await?;
        if frames >= before + count { Ok(()) } else { Err(format!("{frames}, before {before}")) }
    })
    .await;
}

/// A blank inside, since blanks around a key do not count.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_recorder_key_stops_neither_recording_nor_suspensions_nor_holds() {
    with_chart_scaled_down("secret-unusable", |namespace| async move {
        let (_process, scene) = recording_scene(namespace, "secret-unusable").await;
        let key = scene.bucket.server.identity("recorder").secret_key.clone();
        set_secret_key(&scene, "x y").await;
        let message = scene.wait_for_site_reason("Accepted", "InvalidField", HANG).await;
        assert!(message.starts_with("spec.storage.recorder.credentialsRef: "), "{message}");
        wait_for_frames(&scene, 50).await;
        scene.declare("inbraak", &["hal"], Timestamp::now() - SignedDuration::from_secs(20), None).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let from = Timestamp::now();
        let suspension =
            json!([{"reason": "Verkiezing", "from": from, "until": from + SignedDuration::from_hours(1)}]);
        scene.patch_site(json!({"spec": {"suspensions": suspension}})).await;
        eventually("the camera is suspended", HANG, || async {
            let frames = pod::frames(&scene.namespace, "hal").await?;
            sleep(Duration::from_secs(3)).await;
            let later = pod::frames(&scene.namespace, "hal").await?;
            if later == frames { Ok(()) } else { Err(format!("{frames}, then {later}")) }
        })
        .await;
        set_secret_key(&scene, &format!(" {key}\n")).await;
        scene.wait_for_site("Accepted", "True", HANG).await;
        eventually("the spool is empty", HANG, || async {
            let spooled = pod::metric(&scene.namespace, "toezicht_recorder_spool_segments").await?;
            if spooled == 0 { Ok(()) } else { Err(format!("{spooled}")) }
        })
        .await;
        let recorded = segments(&scene.bucket, "hal").await;
        let gaps = ensure_complete("hal", &recorded, &[], from - UNWRITTEN);
        assert_eq!(gaps, Ok(vec![]), "frames are missing");
        let last = time(recorded.last().unwrap().frames.last().unwrap());
        let late = last.duration_since(from);
        assert!(late < SignedDuration::from_secs(15), "recorded for {late} after the suspension began");
        scene.resolve("inbraak").await;
        scene.wait_for_hold("inbraak", "Released", "True", HANG).await;
    })
    .await;
}

/// The operator reaches no bucket with it, which says nothing about the bucket. A hold is placed once the key is corrected.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_operator_key_stops_no_recording() {
    with_chart_scaled_down("secret-operator", |namespace| async move {
        let (_process, scene) = recording_scene(namespace, "secret-operator").await;
        let key = scene.bucket.server.bucket_maker().secret_key.clone();
        set_secret(&scene, "s3-operator", json!({"secretAccessKey": "two words"})).await;
        let message = scene.wait_for_site_reason("Accepted", "InvalidField", HANG).await;
        assert!(message.starts_with("spec.storage.operator.credentialsRef: "), "{message}");
        let message = scene.wait_for_site_reason("StorageEnforced", "InvalidField", HANG).await;
        assert!(message.contains("recording continues"), "{message}");
        wait_for_frames(&scene, 50).await;
        let config: Value = serde_json::from_str(&scene.recorder_config().await).unwrap();
        assert_ne!(config["cameras"][0]["permitted"], json!([]), "the recorders' windows");
        scene.declare("inbraak", &["hal"], Timestamp::now() - SignedDuration::from_secs(20), None).await;
        set_secret(&scene, "s3-operator", json!({"secretAccessKey": key})).await;
        scene.wait_for_site("Accepted", "True", HANG).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let gaps = wait_until_complete(&scene.bucket, "hal", &[], Timestamp::now() - UNWRITTEN).await;
        assert_eq!(gaps, [], "frames are missing");
        scene.resolve("inbraak").await;
        scene.wait_for_hold("inbraak", "Released", "True", HANG).await;
    })
    .await;
}

/// The operator probes the store with them: the recorder can put nothing, which says nothing about the store.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_recorder_keys_stop_no_recording() {
    with_chart_scaled_down("secret-wrong", |namespace| async move {
        let (_process, scene) = recording_scene(namespace, "secret-wrong").await;
        let recorder = scene.bucket.server.identity("recorder");
        let right = json!({"accessKeyId": recorder.access_key, "secretAccessKey": recorder.secret_key});
        for wrong in [
            json!({"accessKeyId": "AKIANOBODY", "secretAccessKey": recorder.secret_key}),
            json!({"accessKeyId": recorder.access_key, "secretAccessKey": "this-secret-is-of-nobody"}),
        ] {
            set_recorder_key(&scene, wrong).await;
            let message = scene.wait_for_site_reason("StorageEnforced", "InvalidField", HANG).await;
            assert!(message.contains("cameras record on"), "{message}");
            wait_for_frames(&scene, 50).await;
            set_recorder_key(&scene, right.clone()).await;
            scene.wait_for_site("StorageEnforced", "True", HANG).await;
        }
        let ended = Timestamp::now();
        let gaps = wait_until_complete(&scene.bucket, "hal", &[], ended - UNWRITTEN).await;
        assert_eq!(gaps, [], "frames are missing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_secret_and_policy_stop_nothing() {
    with_chart_scaled_down("secret-replaced", |namespace| async move {
        let (_process, scene) = recording_scene(namespace, "secret-replaced").await;
        let (secrets, policies) = (scene.namespace.api::<Secret>(), scene.namespace.api::<RecordingPolicy>());
        // The operator's finalizer may keep the Secret; a Site without holds has none.
        let mut secret = secrets.get("s3-operator").await.unwrap();
        let mut policy = policies.get(POLICY).await.unwrap();
        for meta in [&mut secret.metadata, &mut policy.metadata] {
            (meta.resource_version, meta.uid, meta.managed_fields) = (None, None, None);
        }
        policy.status = None;
        secrets.delete("s3-operator", &DeleteParams::default()).await.unwrap();
        let message = scene.wait_for_site_reason("Accepted", "ReferenceNotFound", HANG).await;
        assert!(message.contains("cameras that recorded go on until "), "{message}");
        wait_for_frames(&scene, 50).await;
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        scene.wait_for_site("Accepted", "True", HANG).await;
        policies.delete(POLICY, &DeleteParams::default()).await.unwrap();
        scene.wait_for_site_reason("Accepted", "ReferenceNotFound", HANG).await;
        wait_for_frames(&scene, 50).await;
        policies.create(&PostParams::default(), &policy).await.unwrap();
        scene.wait_for_site("Accepted", "True", HANG).await;
        scene.wait_for_site("Recording", "True", HANG).await;
        let camera = scene.namespace.api::<Camera>().get("hal").await.unwrap();
        let gaps = camera.status.unwrap_or_default().gaps;
        let stopped = gaps.iter().find(|gap| ["NotPermitted", "SiteNotReady"].contains(&gap.reason.as_str()));
        assert!(stopped.is_none(), "{gaps:?}");
    })
    .await;
}
