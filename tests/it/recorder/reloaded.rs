//! Another configuration while it records.

use serde_json::json;
use toezicht::wire::CameraState;

use super::bench::{Bench, camera};
use super::cameras::testbed_camera;

/// A camera that is added records without a restart; one that is removed is uploaded and gone; a bad
/// configuration is refused; and the one that stays loses no frame by any of it.
#[tokio::test]
async fn config_change_affects_only_changed_cameras() {
    let mut bench =
        Bench::started(vec![testbed_camera("blijft", "h264/6"), testbed_camera("gaat", "h265/6")]).await;
    bench.uploaded(1).await;

    bench.reconfigure(|config| {
        config["cameras"].as_array_mut().unwrap().push(testbed_camera("komt", "h264/7"));
    });
    bench.wait_for_camera_state("komt", CameraState::Recording).await;

    let good = bench.config.clone();
    bench.reconfigure(|config| config["cameras"][0]["url"] = json!("http://10.0.0.1/"));
    let refused = bench.until("the refusal", |status| status.refused.clone()).await;
    assert!(refused.message.contains("cameras[0].url"), "{refused:?}");
    assert_eq!(refused.revision.as_deref(), bench.config["revision"].as_str());
    let followed = good["revision"].as_str().unwrap();
    // As long as it takes for another segment of each, and at the end: the last good one is followed.
    let uploaded = bench.status().await.unwrap().cameras.iter().map(|c| c.uploaded).max();
    bench.uploaded(uploaded.unwrap() + 1).await;
    let status = bench.status().await.unwrap();
    assert_eq!(status.revision, followed, "{status:?}");
    assert!(status.cameras.iter().all(|c| c.state == CameraState::Recording), "{status:?}");
    bench.write("{ this is no JSON");
    bench.until("the second refusal", |s| s.refused.as_ref().filter(|r| r.revision.is_none()).cloned()).await;

    bench.config = good;
    bench.reconfigure(|config| {
        config["cameras"].as_array_mut().unwrap().remove(1);
        // Another window concerns the gate only: the connection stays.
        config["cameras"][0]["permitted"] = json!([{"from": "2021-01-01T00:00:00Z"}]);
        config["segmentDurationMs"] = json!(4000);
    });
    bench.until("the removal", |s| (camera(s, "gaat").is_none() && s.refused.is_none()).then_some(())).await;
    bench.wait_for_uploads_of("komt", 1).await;
    bench.stop_cleanly().await;

    for name in ["blijft", "gaat", "komt"] {
        let (segments, holes) = bench.recorded(name).await;
        assert!(!segments.is_empty() && holes.is_empty(), "{name}: {holes:?}");
    }
}

/// Other storage credentials are used without a restart, and wrong ones lose nothing.
#[tokio::test]
async fn rotated_credentials_are_picked_up() {
    let mut bench = Bench::new(vec![testbed_camera("een", "h264/8")]).await;
    let right = bench.config["storage"]["secretAccessKey"].clone();
    bench.reconfigure(|config| config["storage"]["secretAccessKey"] = json!("wrong-secret-of-this-test"));
    bench.start();
    let error = bench
        .until("a refused upload", |status| {
            camera(status, "een")?.last_error.clone().filter(|error| error.contains("upload"))
        })
        .await;
    assert!(error.contains("403"), "{error}");
    bench.reconfigure(|config| config["storage"]["secretAccessKey"] = right);
    bench.uploaded(2).await;
    bench.stop_cleanly().await;
    let (segments, holes) = bench.recorded("een").await;
    assert!(segments.len() >= 2 && holes.is_empty(), "{holes:?}");
    assert!(!bench.log().contains("wrong-secret-of-this-test"));
}
