//! Sudden failures of the recorder or of a camera.

use jiff::{SignedDuration, Timestamp};
use toezicht::wire::{CameraReport, CameraState, GapCause};

use super::cameras::{CameraServer, testbed_camera};
use super::fixture::{RecorderFixture, camera};

/// Duration of two fragments, with a margin. A fragment lasts one second.
const TWO_FRAGMENTS: SignedDuration = SignedDuration::from_millis(2500);
const TOLERANCE: SignedDuration = SignedDuration::from_millis(500);

/// After SIGKILL only the unfinished fragment and the downtime are lost.
#[tokio::test]
async fn killed_recorder_loses_at_most_one_fragment() {
    let mut fixture =
        RecorderFixture::started(vec![testbed_camera("een", "h264/2"), testbed_camera("twee", "h265/2")])
            .await;
    fixture.wait_for_uploads(1).await;
    // Kill well inside a segment, so that its fragments must be recovered.
    let status = fixture
        .wait_for_status("two fragments of open segments", |status| {
            let into = |camera: &CameraReport| {
                let (last, segment) = (camera.last_frame?, camera.last_segment.as_ref()?);
                let duration = i64::try_from(segment.duration_ms).unwrap();
                Some(last.duration_since(segment.start + SignedDuration::from_millis(duration)))
            };
            let is_open = |camera| into(camera).is_some_and(|into| into > TWO_FRAGMENTS);
            status.cameras.iter().all(is_open).then(|| status.clone())
        })
        .await;
    fixture.kill().await;
    fixture.start();
    fixture.wait_for_uploads(2).await;
    fixture.stop_cleanly().await;

    for name in ["een", "twee"] {
        let (_, gaps) = fixture.segments_with_gaps(name).await;
        let [frame_gap] = gaps.as_slice() else { panic!("{name}: {gaps:?}") };
        // Compare the last frame before the kill with the last recovered one.
        let last_frame = camera(&status, name).unwrap().last_frame.unwrap();
        let lost = last_frame.duration_since(frame_gap.from).as_secs_f64();
        assert!(lost < 1.3, "{name}: {lost} s of received frames are missing");
    }
}

/// An unreachable camera gets a gap, other cameras do not. It is recorded again when it is back.
#[tokio::test]
async fn unreachable_camera_affects_no_other() {
    let mut cameras = CameraServer::start(&["--count", "1"]).await;
    let unreachable =
        super::cameras::camera_config("nergens", "rtsp://127.0.0.1:9/h264", &serde_json::Value::Null);
    let mut fixture = RecorderFixture::started(vec![
        cameras.camera_config("stuk", "h264/0"),
        unreachable,
        testbed_camera("heel", "h264/3"),
    ])
    .await;
    fixture.wait_for_camera_state("stuk", CameraState::Recording).await;
    fixture.wait_for_uploads_of("stuk", 1).await;
    cameras.kill().await;
    let killed = Timestamp::now();
    let report = fixture.wait_for_camera_state("stuk", CameraState::Disconnected).await;
    assert!(report.last_error.is_some());
    let restarted = Timestamp::now();
    cameras.restart().await;
    fixture.wait_for_camera_state("stuk", CameraState::Recording).await;
    let gap = fixture
        .wait_for_status("the end of the gap", |status| {
            let is_ended =
                |gap: &&toezicht::wire::Gap| gap.cause == GapCause::Disconnected && gap.until.is_some();
            camera(status, "stuk")?.gaps.iter().find(is_ended).cloned()
        })
        .await;
    // Keys and gaps are exact within half a second.
    let (from, until) = (gap.from.unwrap() - TOLERANCE, gap.until.unwrap() + TOLERANCE);
    assert!(from <= killed && until >= restarted, "{gap:?}, killed {killed}, back {restarted}");
    let unreachable = fixture.wait_for_camera_state("nergens", CameraState::Disconnected).await;
    assert_eq!(unreachable.last_error.as_deref(), Some("the camera cannot be reached: connection refused"));
    fixture.stop_cleanly().await;
    let (segments, gaps) = fixture.segments_with_gaps("heel").await;
    assert!(segments.len() >= 2 && gaps.is_empty(), "{gaps:?}");
}

/// A frozen camera keeps its connection open. The recorder detects it because no frame arrives for ten seconds, and
/// reports a gap.
#[tokio::test]
async fn frozen_camera_is_detected_and_leaves_a_gap() {
    let cameras = CameraServer::start(&["--count", "1"]).await;
    let mut fixture = RecorderFixture::started(vec![cameras.camera_config("bevroren", "h264/0")]).await;
    fixture.wait_for_camera_state("bevroren", CameraState::Recording).await;
    fixture.wait_for_uploads_of("bevroren", 1).await;
    let frozen = Timestamp::now();
    cameras.freeze();
    fixture.wait_for_camera_state("bevroren", CameraState::Disconnected).await;
    cameras.thaw();
    fixture.wait_for_camera_state("bevroren", CameraState::Recording).await;
    let gap = fixture
        .wait_for_status("the end of the gap", |status| {
            let is_ended =
                |gap: &&toezicht::wire::Gap| gap.cause == GapCause::Disconnected && gap.until.is_some();
            camera(status, "bevroren")?.gaps.iter().find(is_ended).cloned()
        })
        .await;
    fixture.stop_cleanly().await;
    let (_, gaps) = fixture.segments_with_gaps("bevroren").await;
    let [frame_gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert!(frame_gap.from <= frozen, "{frame_gap:?}, frozen {frozen}");
    let late = gap.from.unwrap().duration_since(frame_gap.from);
    assert!(late.abs() < TOLERANCE, "the gap begins {late} after the last frame: {gap:?} {frame_gap:?}");
}

/// Two recorders of the same camera both record every frame.
#[tokio::test]
async fn camera_serves_two_recorders() {
    let mut one = RecorderFixture::started(vec![testbed_camera("gedeeld", "h265/7")]).await;
    one.wait_for_camera_state("gedeeld", CameraState::Recording).await;
    let mut other = RecorderFixture::started(vec![testbed_camera("gedeeld", "h265/7")]).await;
    other.wait_for_uploads_of("gedeeld", 2).await;
    other.stop_cleanly().await;
    one.stop_cleanly().await;
    for fixture in [one, other] {
        let (segments, gaps) = fixture.segments_with_gaps("gedeeld").await;
        assert!(segments.len() >= 2 && gaps.is_empty(), "{gaps:?}");
    }
}
