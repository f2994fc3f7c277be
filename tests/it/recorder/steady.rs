//! Nothing goes wrong.

use toezicht::wire::GapCause;

use super::bench::{Bench, camera};
use super::cameras::testbed_camera;
use crate::support::recorded::time;

/// Issue's first "done when" of recordings: every frame from the first keyframe on, once, across segments;
/// video only; the key's times are the frames' times; stopping loses nothing of what was before.
#[tokio::test]
async fn every_frame_is_recorded_once_until_stop() {
    let paths = [("een", "h264/0"), ("twee", "h265/0"), ("drie", "h264/1"), ("vier", "h265/1")];
    let mut bench =
        Bench::started(paths.iter().map(|(name, path)| testbed_camera(name, path)).collect()).await;
    bench.uploaded(2).await;
    let status = bench.status().await.unwrap();
    // The same clock; an answer may have been on its way for a while.
    let ahead = status.clock_ahead_ms.expect("known after an upload");
    assert!(ahead.abs() < 60_000, "{ahead}");
    bench.stop_cleanly().await;
    let left = walk(&bench.spool().join("video"));
    assert!(left.is_empty(), "left in the spool: {left:?}");

    for (name, path) in paths {
        let (segments, holes) = bench.recorded(name).await;
        assert!(segments.len() >= 3, "{name}: {} segments", segments.len());
        assert_eq!(holes, [], "{name}");
        let last = time(segments.last().unwrap().frames.last().unwrap());
        let had = camera(&status, name).unwrap().last_frame.unwrap();
        let missing = had.duration_since(last).as_secs_f64();
        assert!(missing < 0.5, "{name}: {missing} s of what it had are missing");
        for pair in segments.windows(2) {
            assert_eq!(pair[0].key.end(), pair[1].key.start(), "{name}: keys touch");
        }
        let codec = if path.starts_with("h264") { "h264" } else { "hevc" };
        assert!(segments.iter().all(|segment| segment.streams[0]["codec_name"] == codec));
    }

    // Started again on the same spool, it knows where the recording had come to.
    let (segments, _) = bench.recorded("een").await;
    bench.start();
    let gap = bench
        .until("the gap of the restart", |status| {
            camera(status, "een")?.gaps.iter().find(|gap| gap.from.is_some() && gap.until.is_some()).cloned()
        })
        .await;
    assert_eq!(gap.cause, GapCause::RecorderRestarted);
    let end = segments.last().unwrap().key.end();
    assert!(
        gap.from.unwrap().duration_since(end).abs().as_secs_f64() < 0.01,
        "{gap:?}, recorded until {end}"
    );
    bench.stop_cleanly().await;
    let (_, holes) = bench.recorded("een").await;
    assert_eq!(holes.len(), 1, "{holes:?}");
    let until = gap.until.unwrap().duration_since(holes[0].until).as_secs_f64();
    assert!(until.abs() < 0.5, "{gap:?} {holes:?}");
}

/// All files under a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path] }
        })
        .collect()
}
