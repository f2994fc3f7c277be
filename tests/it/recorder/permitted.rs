//! Permitted and suspended windows: the recorder starts and stops at their bounds without further configuration.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::wire::{CameraState, GapCause, RecorderStatus};

use super::cameras::testbed_camera;
use super::fixture::{RecorderFixture, camera};
use crate::support::recorded::time;

const TOLERANCE: SignedDuration = SignedDuration::from_millis(500);

/// After a policy's end (article 11) no frame is recorded. A suspension of a camera (article 5) is reported as a gap.
#[tokio::test]
async fn recorder_stops_at_policy_end_and_pauses_while_suspended() {
    // Retry with more time if the recorder receives the windows only after they begin.
    for seconds in [6, 40, 200] {
        if check_stop_and_pause_after(SignedDuration::from_secs(seconds)).await {
            return;
        }
    }
    panic!("the recorder never applied the windows before they began");
}

/// Checks windows that begin after `wait`. Returns whether the recorder applied the configuration before that.
async fn check_stop_and_pause_after(wait: SignedDuration) -> bool {
    let mut never = testbed_camera("nooit", "h264/5");
    never["permitted"] = json!([]);
    let [ending, suspended] = [testbed_camera("eindigt", "h264/4"), testbed_camera("afgedekt", "h265/4")];
    let mut fixture = RecorderFixture::started(vec![ending, suspended, never]).await;
    for name in ["eindigt", "afgedekt"] {
        fixture.wait_for_uploads_of(name, 1).await;
    }
    let from = Timestamp::now() + wait;
    let [to, until] = [5, 6].map(|seconds| from + SignedDuration::from_secs(seconds));
    fixture.reconfigure(|config| {
        config["cameras"][0]["permitted"] = json!([{"from": "2020-01-01T00:00:00Z", "until": until}]);
        config["cameras"][1]["suspended"] = json!([{"from": from, "until": to}]);
    });
    let revision = fixture.config["revision"].as_str().unwrap();
    let applied_at = |status: &RecorderStatus| (status.revision == revision).then_some(status.now);
    if fixture.wait_for_status("the windows are applied", applied_at).await >= from {
        return false;
    }

    fixture.wait_for_camera_state("afgedekt", CameraState::Suspended).await;
    let ended = fixture.wait_for_camera_state("eindigt", CameraState::NotPermitted).await;
    assert!(ended.since >= until, "{ended:?}, permitted until {until}");
    fixture.wait_for_camera_state("afgedekt", CameraState::Recording).await;
    let gap = fixture
        .wait_for_status("the end of the gap", |status| {
            camera(status, "afgedekt")?
                .gaps
                .iter()
                .find(|gap| gap.from.is_some() && gap.until.is_some())
                .cloned()
        })
        .await;
    assert_eq!(gap.cause, GapCause::Suspended);
    let never = fixture.wait_for_camera_state("nooit", CameraState::NotPermitted).await;
    assert_eq!((never.last_frame, never.uploaded), (None, 0));
    fixture.stop_cleanly().await;

    let (segments, gaps) = fixture.segments_with_gaps("eindigt").await;
    assert_eq!(gaps, []);
    let last = time(segments.last().unwrap().frames.last().unwrap());
    assert!(last <= until, "a frame was captured at {last}, permitted until {until}");
    // Every frame received before the end is recorded. Keys and reports are exact within half a second.
    let missing = ended.last_frame.unwrap().duration_since(last);
    assert!(missing < TOLERANCE, "{ended:?}, recorded until {last}");

    let (segments, gaps) = fixture.segments_with_gaps("afgedekt").await;
    let [frame_gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    let frames = || segments.iter().flat_map(|segment| &segment.frames).map(time);
    assert!(
        frames().all(|captured| captured < from || captured >= to),
        "frames while suspended: {frame_gap:?}"
    );
    let (begins, ends) = (gap.from.unwrap(), gap.until.unwrap());
    assert!(begins.duration_since(frame_gap.from).abs() < TOLERANCE, "{gap:?} {frame_gap:?}");
    assert!(ends.duration_since(frame_gap.until).abs() < TOLERANCE, "{gap:?} {frame_gap:?}");
    true
}
