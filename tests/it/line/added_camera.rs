//! A camera added by `kubectl apply` records as soon as its recorder has the new configuration, and other cameras
//! lose no frame.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::support::cluster;
use crate::support::operator;
use crate::support::pod;
use crate::support::recorded::{segments, segments_with_gaps};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

/// Annotation by which the operator makes the kubelet refresh the mounted configuration.
const CONFIG_REVISION_ANNOTATION: &str = "toezicht.dev/config-revision";

#[tokio::test(flavor = "multi_thread")]
async fn added_camera_records_without_disturbing_others() {
    let _operator = operator::shared().await;
    let scene = Scene::new(&cluster::client().await, "line-add", S3Server::primary(), |_, _| ()).await;
    scene.camera("receptie", "h264/6").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;

    let pods = scene.namespace.api::<Pod>();
    let before = pods.get(&pod::name()).await.unwrap();
    let added = jiff::Timestamp::now();
    let clock = Instant::now();
    scene.camera("gang", "h265/6").await;
    scene.wait_for_camera("gang", "Recording", "True", HANG).await;
    println!("Recording=True {:?} after apply", clock.elapsed());

    let recorded = eventually("two segments of the added camera", HANG, || async {
        let recorded = segments(&scene.bucket, "gang").await;
        if recorded.len() >= 2 { Ok(recorded) } else { Err(format!("{} segments", recorded.len())) }
    })
    .await;
    let began = recorded[0].key.start().duration_since(added).as_secs_f64();
    println!("its first frame was captured {began} s after apply");
    // The annotation proves that the operator triggered the refresh, rather than the kubelet's periodic sync. The pod
    // is the same.
    let pod = pods.get(&pod::name()).await.unwrap();
    let revision = format!("\"revision\":\"{}\"", pod.annotations()[CONFIG_REVISION_ANNOTATION]);
    let config = scene.recorder_config().await;
    assert!(config.contains(&revision), "{revision}");
    assert_eq!(pod.uid(), before.uid());
    for camera in ["gang", "receptie"] {
        let (_, gaps) = segments_with_gaps(&scene.bucket, camera, 0).await;
        assert_eq!(gaps, [], "{camera}: frames are missing");
    }
    scene.delete().await;
}
