//! A camera added by `kubectl apply` records within ten seconds, and the others lose no frame.

use std::time::{Duration, Instant};

use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::{complete, segments};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn an_added_camera_records_at_once_and_disturbs_nobody() {
    let _operator = operator::present().await;
    let scene = Scene::new(&cluster::client().await, "line-add", S3Server::first(), |_, _| ()).await;
    scene.camera("receptie", "h264/6").await;
    scene.camera_is("receptie", "Recording", "True", SOON).await;

    let added = jiff::Timestamp::now();
    let clock = Instant::now();
    scene.camera("gang", "h265/6").await;
    scene.camera_is("gang", "Recording", "True", SOON).await;
    println!("Recording=True {:?} after apply", clock.elapsed());

    let recorded = eventually("two segments of the added camera", SOON, || async {
        let recorded = segments(&scene.bucket, "gang").await;
        if recorded.len() >= 2 {
            Ok(recorded)
        } else {
            Err(format!("{} segments", recorded.len()))
        }
    })
    .await;
    let began = recorded[0].key.start().duration_since(added).as_secs_f64();
    assert!(began <= 10.0, "recorded only {began} s after apply");
    for camera in ["gang", "receptie"] {
        let (_, holes) = complete(&scene.bucket, camera, 0).await;
        assert_eq!(holes, [], "{camera}: frames are missing");
    }
    scene.delete().await;
}
