//! The recorder or a camera goes away without a word.

use std::time::Duration;

use jiff::Timestamp;
use toezicht::contract::{CameraState, GapCause};

use super::bench::{Bench, camera};
use super::cameras::{Cameras, of_the_bed};
use crate::support::wait::eventually;

/// SIGKILL costs what was not yet a fragment, and the time until it runs again; nothing else.
#[tokio::test]
async fn killed_it_loses_at_most_a_fragment() {
    let mut bench = Bench::started(vec![of_the_bed("een", "h264/2"), of_the_bed("twee", "h265/2")]).await;
    bench.uploaded(1, 30).await;
    // Well into a segment, so that there is something to be recovered.
    eventually(
        "two fragments of an open segment",
        Duration::from_secs(20),
        || async {
            let now = Timestamp::now().as_millisecond() % 5000;
            if (2500..4000).contains(&now) {
                Ok(())
            } else {
                Err(format!("{now} ms into it"))
            }
        },
    )
    .await;
    let killed = Timestamp::now();
    bench.kill().await;
    bench.start();
    bench.uploaded(2, 30).await;
    bench.stop_well().await;

    for name in ["een", "twee"] {
        let (_, holes) = bench.recorded(name).await;
        let [hole] = holes.as_slice() else {
            panic!("{name}: {holes:?}")
        };
        let lost = killed.duration_since(hole.from).as_secs_f64();
        assert!(lost < 1.3, "{name}: {lost} s before it was killed are missing");
        assert!(hole.seconds() < 10.0, "{name}: {hole:?}");
    }
}

/// A camera without power is a gap of that camera and of no other; it is recorded again when it is back.
#[tokio::test]
async fn a_dead_camera_harms_no_other() {
    let mut cameras = Cameras::start(&["--count", "1"]).await;
    let nowhere = super::cameras::camera("nergens", "rtsp://127.0.0.1:9/h264", &serde_json::Value::Null);
    let mut bench = Bench::started(vec![
        cameras.camera("stuk", "h264/0"),
        nowhere,
        of_the_bed("heel", "h264/3"),
    ])
    .await;
    bench.in_state("stuk", CameraState::Recording, 20).await;
    bench.uploaded_of("stuk", 1, 30).await;
    cameras.kill().await;
    let report = bench.in_state("stuk", CameraState::Disconnected, 20).await;
    assert!(report.last_error.is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    cameras.restart().await;
    bench.in_state("stuk", CameraState::Recording, 40).await;
    let gap = bench
        .until("the gap's end", 10, |status| {
            let ended =
                |gap: &&toezicht::contract::Gap| gap.cause == GapCause::Disconnected && gap.until.is_some();
            camera(status, "stuk")?.gaps.iter().find(ended).cloned()
        })
        .await;
    let lasted = gap.until.unwrap().duration_since(gap.from.unwrap()).as_secs_f64();
    assert!((2.0..40.0).contains(&lasted), "{gap:?}");
    let nowhere = bench.in_state("nergens", CameraState::Disconnected, 5).await;
    assert_eq!(
        nowhere.last_error.as_deref(),
        Some("the camera cannot be reached: connection refused")
    );
    bench.stop_well().await;
    let (segments, holes) = bench.recorded("heel").await;
    assert!(segments.len() >= 2 && holes.is_empty(), "{holes:?}");
}

/// A camera that freezes closes nothing: no picture for ten seconds is the only sign, and a gap.
#[tokio::test]
async fn a_frozen_camera_is_noticed_and_leaves_a_gap() {
    let cameras = Cameras::start(&["--count", "1"]).await;
    let mut bench = Bench::started(vec![cameras.camera("bevroren", "h264/0")]).await;
    bench.in_state("bevroren", CameraState::Recording, 20).await;
    bench.uploaded_of("bevroren", 1, 30).await;
    let frozen = Timestamp::now();
    cameras.freeze();
    bench.in_state("bevroren", CameraState::Disconnected, 15).await;
    cameras.thaw();
    bench.in_state("bevroren", CameraState::Recording, 40).await;
    let gap = bench
        .until("the gap's end", 10, |status| {
            let ended =
                |gap: &&toezicht::contract::Gap| gap.cause == GapCause::Disconnected && gap.until.is_some();
            camera(status, "bevroren")?.gaps.iter().find(ended).cloned()
        })
        .await;
    let late = gap.from.unwrap().duration_since(frozen).as_secs_f64();
    assert!(
        late.abs() < 1.5,
        "the gap begins {late} s after the camera froze: {gap:?}"
    );
    bench.stop_well().await;
}

/// Two who watch one camera both have every frame of it.
#[tokio::test]
async fn a_camera_has_room_for_another_viewer() {
    let mut one = Bench::started(vec![of_the_bed("gedeeld", "h265/7")]).await;
    one.in_state("gedeeld", CameraState::Recording, 20).await;
    let mut other = Bench::started(vec![of_the_bed("gedeeld", "h265/7")]).await;
    other.uploaded_of("gedeeld", 2, 30).await;
    other.stop_well().await;
    one.stop_well().await;
    for bench in [one, other] {
        let (segments, holes) = bench.recorded("gedeeld").await;
        assert!(segments.len() >= 2 && holes.is_empty(), "{holes:?}");
    }
}
