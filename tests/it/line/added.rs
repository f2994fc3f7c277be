//! A camera added by `kubectl apply` records as soon as its recorder is told, and the others lose no frame.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::support::cluster;
use crate::support::operator;
use crate::support::pod;
use crate::support::recorded::{complete, segments};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

/// The annotation by which the operator tells the kubelet of a new configuration.
const REVISION: &str = "toezicht.dev/config-revision";

#[tokio::test(flavor = "multi_thread")]
async fn added_camera_records_without_disturbing_others() {
    let _operator = operator::present().await;
    let scene = Scene::new(&cluster::client().await, "line-add", S3Server::first(), |_, _| ()).await;
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
    println!("its first picture was taken {began} s after apply");
    // Not by luck: the kubelet was told, so that it need not find out within a minute, and the pod is the same.
    let pod = pods.get(&pod::name()).await.unwrap();
    let revision = format!("\"revision\":\"{}\"", pod.annotations()[REVISION]);
    let config = scene.recorder_config().await;
    assert!(config.contains(&revision), "{revision}");
    assert_eq!(pod.uid(), before.uid());
    for camera in ["gang", "receptie"] {
        let (_, holes) = complete(&scene.bucket, camera, 0).await;
        assert_eq!(holes, [], "{camera}: frames are missing");
    }
    scene.delete().await;
}
