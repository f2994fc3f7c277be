//! Configuration changes while the recorder runs.

use jiff::Timestamp;
use serde_json::json;
use toezicht::wire::CameraState;

use super::cameras::testbed_camera;
use super::fixture::{RecorderFixture, camera};
use crate::support::recorded::{UNWRITTEN, ensure_complete, segments, time};

/// An added camera records without a restart, a removed one is uploaded and disappears, and an invalid configuration
/// is rejected: as a whole, or only its invalid camera. The unchanged camera loses no frame.
#[tokio::test]
async fn config_change_affects_only_changed_cameras() {
    let mut fixture =
        RecorderFixture::started(vec![testbed_camera("blijft", "h264/6"), testbed_camera("gaat", "h265/6")])
            .await;
    fixture.wait_for_uploads(1).await;

    fixture.reconfigure(|config| {
        config["cameras"].as_array_mut().unwrap().push(testbed_camera("komt", "h264/7"));
    });
    fixture.wait_for_camera_state("komt", CameraState::Recording).await;

    let good = fixture.config.clone();
    let changed = Timestamp::now();
    fixture.reconfigure(|config| {
        config["cameras"][0]["url"] = json!("http://10.0.0.1/");
        config["cameras"][1]["suspended"] = json!([{"from": "2021-01-01T00:00:00Z"}]);
    });
    let rejection = fixture.wait_for_status("the rejection", |status| status.refused.clone()).await;
    assert!(rejection.message.contains("cameras[0].url"), "{rejection:?}");
    assert_eq!(rejection.revision.as_deref(), fixture.config["revision"].as_str());
    // The invalid camera is recorded as before, and the suspension of the other one takes effect.
    fixture.wait_for_camera_state("gaat", CameraState::Suspended).await;
    let status = fixture.status().await.unwrap();
    assert_eq!(Some(status.revision.as_str()), fixture.config["revision"].as_str(), "{status:?}");
    fixture.wait_for_uploads_of("blijft", camera(&status, "blijft").unwrap().uploaded + 1).await;
    let status = fixture.status().await.unwrap();
    assert_eq!(camera(&status, "blijft").unwrap().state, CameraState::Recording, "{status:?}");
    fixture.write("{ this is no JSON");
    fixture
        .wait_for_status("the second rejection", |s| {
            s.refused.as_ref().filter(|r| r.revision.is_none()).cloned()
        })
        .await;

    fixture.config = good;
    fixture.reconfigure(|config| {
        config["cameras"].as_array_mut().unwrap().remove(1);
        // A changed window does not affect the connection to the camera.
        config["cameras"][0]["permitted"] = json!([{"from": "2021-01-01T00:00:00Z"}]);
        config["segmentDurationMs"] = json!(4000);
    });
    fixture
        .wait_for_status("the removal", |s| {
            (camera(s, "gaat").is_none() && s.refused.is_none()).then_some(())
        })
        .await;
    fixture.wait_for_uploads_of("komt", 1).await;
    let stopped = Timestamp::now();
    fixture.stop_cleanly().await;

    for (name, until) in [("blijft", stopped), ("gaat", changed), ("komt", stopped)] {
        let recorded = segments(&fixture.bucket, name).await;
        let gaps = ensure_complete(name, &recorded, &[], until - UNWRITTEN).unwrap();
        assert!(gaps.is_empty(), "{name}: {gaps:?}");
    }
}

/// New storage credentials are used without a restart, and wrong ones lose nothing.
#[tokio::test]
async fn rotated_credentials_are_picked_up() {
    let mut fixture = RecorderFixture::new(vec![testbed_camera("een", "h264/8")]).await;
    let right = fixture.config["storage"]["secretAccessKey"].clone();
    fixture.reconfigure(|config| config["storage"]["secretAccessKey"] = json!("wrong-secret-of-this-test"));
    fixture.start();
    let error = fixture
        .wait_for_status("a failed upload", |status| {
            camera(status, "een")?.last_error.clone().filter(|error| error.contains("upload"))
        })
        .await;
    assert!(error.contains("403"), "{error}");
    let failed = Timestamp::now();
    fixture.reconfigure(|config| config["storage"]["secretAccessKey"] = right);
    fixture.wait_for_uploads(2).await;
    fixture.stop_cleanly().await;
    let (recorded, gaps) = fixture.segments_with_gaps("een").await;
    assert!(recorded.len() >= 2 && gaps.is_empty(), "{gaps:?}");
    let first = time(&recorded[0].frames[0]);
    assert!(
        first < failed,
        "the segment that was rejected at {failed} is lost: the first frame is of {first}"
    );
    assert!(!fixture.log().contains("wrong-secret-of-this-test"));
}
