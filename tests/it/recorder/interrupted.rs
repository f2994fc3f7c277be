//! The recorder or a camera goes away without a word.

use jiff::{SignedDuration, Timestamp};
use toezicht::wire::{CameraReport, CameraState, GapCause};

use super::bench::{Bench, camera};
use super::cameras::{Cameras, testbed_camera};

/// A fragment lasts a second, and a picture comes within it.
const TWO_FRAGMENTS: SignedDuration = SignedDuration::from_millis(2500);
const HALF: SignedDuration = SignedDuration::from_millis(500);

/// SIGKILL costs what was not yet a fragment, and the time until it runs again; nothing else.
#[tokio::test]
async fn killed_recorder_loses_at_most_one_fragment() {
    let mut bench =
        Bench::started(vec![testbed_camera("een", "h264/2"), testbed_camera("twee", "h265/2")]).await;
    bench.uploaded(1).await;
    // Well into a segment, so that there is something to be recovered.
    let status = bench
        .until("two fragments of open segments", |status| {
            let into = |camera: &CameraReport| {
                let (last, segment) = (camera.last_frame?, camera.last_segment.as_ref()?);
                let duration = i64::try_from(segment.duration_ms).unwrap();
                Some(last.duration_since(segment.start + SignedDuration::from_millis(duration)))
            };
            let is_open = |camera| into(camera).is_some_and(|into| into > TWO_FRAGMENTS);
            status.cameras.iter().all(is_open).then(|| status.clone())
        })
        .await;
    bench.kill().await;
    bench.start();
    bench.uploaded(2).await;
    bench.stop_cleanly().await;

    for name in ["een", "twee"] {
        let (_, holes) = bench.recorded(name).await;
        let [hole] = holes.as_slice() else { panic!("{name}: {holes:?}") };
        // What it had before it was killed, and what of that is there.
        let had = camera(&status, name).unwrap().last_frame.unwrap();
        let lost = had.duration_since(hole.from).as_secs_f64();
        assert!(lost < 1.3, "{name}: of what it had, {lost} s are missing");
    }
}

/// A camera without power is a gap of that camera and of no other; it is recorded again when it is back.
#[tokio::test]
async fn unreachable_camera_affects_no_other() {
    let mut cameras = Cameras::start(&["--count", "1"]).await;
    let nowhere = super::cameras::camera("nergens", "rtsp://127.0.0.1:9/h264", &serde_json::Value::Null);
    let mut bench =
        Bench::started(vec![cameras.camera("stuk", "h264/0"), nowhere, testbed_camera("heel", "h264/3")])
            .await;
    bench.wait_for_camera_state("stuk", CameraState::Recording).await;
    bench.wait_for_uploads_of("stuk", 1).await;
    cameras.kill().await;
    let killed = Timestamp::now();
    let report = bench.wait_for_camera_state("stuk", CameraState::Disconnected).await;
    assert!(report.last_error.is_some());
    let restarted = Timestamp::now();
    cameras.restart().await;
    bench.wait_for_camera_state("stuk", CameraState::Recording).await;
    let gap = bench
        .until("the gap's end", |status| {
            let ended =
                |gap: &&toezicht::wire::Gap| gap.cause == GapCause::Disconnected && gap.until.is_some();
            camera(status, "stuk")?.gaps.iter().find(ended).cloned()
        })
        .await;
    // Keys and gaps are true within half a second.
    let (from, until) = (gap.from.unwrap() - HALF, gap.until.unwrap() + HALF);
    assert!(from <= killed && until >= restarted, "{gap:?}, killed {killed}, back {restarted}");
    let nowhere = bench.wait_for_camera_state("nergens", CameraState::Disconnected).await;
    assert_eq!(nowhere.last_error.as_deref(), Some("the camera cannot be reached: connection refused"));
    bench.stop_cleanly().await;
    let (segments, holes) = bench.recorded("heel").await;
    assert!(segments.len() >= 2 && holes.is_empty(), "{holes:?}");
}

/// A camera that freezes closes nothing: no picture for ten seconds is the only sign, and a gap.
#[tokio::test]
async fn frozen_camera_is_detected_and_leaves_a_gap() {
    let cameras = Cameras::start(&["--count", "1"]).await;
    let mut bench = Bench::started(vec![cameras.camera("bevroren", "h264/0")]).await;
    bench.wait_for_camera_state("bevroren", CameraState::Recording).await;
    bench.wait_for_uploads_of("bevroren", 1).await;
    let frozen = Timestamp::now();
    cameras.freeze();
    bench.wait_for_camera_state("bevroren", CameraState::Disconnected).await;
    cameras.thaw();
    bench.wait_for_camera_state("bevroren", CameraState::Recording).await;
    let gap = bench
        .until("the gap's end", |status| {
            let ended =
                |gap: &&toezicht::wire::Gap| gap.cause == GapCause::Disconnected && gap.until.is_some();
            camera(status, "bevroren")?.gaps.iter().find(ended).cloned()
        })
        .await;
    bench.stop_cleanly().await;
    let (_, holes) = bench.recorded("bevroren").await;
    let [hole] = holes.as_slice() else { panic!("{holes:?}") };
    assert!(hole.from <= frozen, "{hole:?}, frozen {frozen}");
    let late = gap.from.unwrap().duration_since(hole.from);
    assert!(late.abs() < HALF, "the gap begins {late} after the last picture: {gap:?} {hole:?}");
}

/// Two who watch one camera both have every frame of it.
#[tokio::test]
async fn camera_serves_two_recorders() {
    let mut one = Bench::started(vec![testbed_camera("gedeeld", "h265/7")]).await;
    one.wait_for_camera_state("gedeeld", CameraState::Recording).await;
    let mut other = Bench::started(vec![testbed_camera("gedeeld", "h265/7")]).await;
    other.wait_for_uploads_of("gedeeld", 2).await;
    other.stop_cleanly().await;
    one.stop_cleanly().await;
    for bench in [one, other] {
        let (segments, holes) = bench.recorded("gedeeld").await;
        assert!(segments.len() >= 2 && holes.is_empty(), "{holes:?}");
    }
}
