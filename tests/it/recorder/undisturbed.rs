//! Recording without disturbances.

use toezicht::wire::GapCause;

use super::cameras::testbed_camera;
use super::fixture::{RecorderFixture, camera};
use crate::support::recorded::time;

/// Every frame from the first keyframe on is recorded once across segments, as video only. Keys match the times of
/// the frames, and stopping loses no received frame.
#[tokio::test]
async fn every_frame_is_recorded_once_until_stop() {
    let paths = [("een", "h264/0"), ("twee", "h265/0"), ("drie", "h264/1"), ("vier", "h265/1")];
    let mut fixture =
        RecorderFixture::started(paths.iter().map(|(name, path)| testbed_camera(name, path)).collect()).await;
    fixture.wait_for_uploads(2).await;
    let status = fixture.status().await.unwrap();
    // Recorder and store share a clock, but a response may have been delayed.
    let ahead = status.clock_ahead_ms.expect("measured after an upload");
    assert!(ahead.abs() < 60_000, "{ahead}");
    fixture.stop_cleanly().await;
    let left = list_files(&fixture.spool().join("video"));
    assert!(left.is_empty(), "left in the spool: {left:?}");

    for (name, path) in paths {
        let (segments, gaps) = fixture.segments_with_gaps(name).await;
        assert!(segments.len() >= 3, "{name}: {} segments", segments.len());
        assert_eq!(gaps, [], "{name}");
        let last = time(segments.last().unwrap().frames.last().unwrap());
        let last_frame = camera(&status, name).unwrap().last_frame.unwrap();
        let missing = last_frame.duration_since(last).as_secs_f64();
        assert!(missing < 0.5, "{name}: {missing} s of received frames are missing");
        for pair in segments.windows(2) {
            assert_eq!(pair[0].key.end(), pair[1].key.start(), "{name}: keys touch");
        }
        let codec = if path.starts_with("h264") { "h264" } else { "hevc" };
        assert!(segments.iter().all(|segment| segment.streams[0]["codec_name"] == codec));
    }

    // After a restart with the same spool, the recorder knows the end of its last recording.
    let (segments, _) = fixture.segments_with_gaps("een").await;
    fixture.start();
    let gap = fixture
        .wait_for_status("the gap of the restart", |status| {
            camera(status, "een")?.gaps.iter().find(|gap| gap.from.is_some() && gap.until.is_some()).cloned()
        })
        .await;
    assert_eq!(gap.cause, GapCause::RecorderRestarted);
    let end = segments.last().unwrap().key.end();
    assert!(
        gap.from.unwrap().duration_since(end).abs().as_secs_f64() < 0.01,
        "{gap:?}, recorded until {end}"
    );
    fixture.stop_cleanly().await;
    let (_, gaps) = fixture.segments_with_gaps("een").await;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let until = gap.until.unwrap().duration_since(gaps[0].until).as_secs_f64();
    assert!(until.abs() < 0.5, "{gap:?} {gaps:?}");
}

/// Lists all files under a folder.
fn list_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { list_files(&path) } else { vec![path] }
        })
        .collect()
}
