//! The gate opens and closes by itself, with nobody to tell it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::wire::{CameraState, GapCause, RecorderStatus};

use super::bench::{Bench, camera};
use super::cameras::testbed_camera;
use crate::support::recorded::time;

const HALF: SignedDuration = SignedDuration::from_millis(500);

/// A policy that ends (article 11): no frame after its end; and a camera that is covered for a while
/// (article 5): the gap says so.
#[tokio::test]
async fn recorder_stops_at_policy_end_and_pauses_while_suspended() {
    // More time on a machine on which the recorder does not learn of it before it begins.
    for seconds in [6, 40, 200] {
        if check_stop_and_pause_after(SignedDuration::from_secs(seconds)).await {
            return;
        }
    }
    panic!("the recorder never follows in time: this proves nothing");
}

/// What is to happen begins after `wait`. Whether the recorder knew of it by then.
async fn check_stop_and_pause_after(wait: SignedDuration) -> bool {
    let mut never = testbed_camera("nooit", "h264/5");
    never["permitted"] = json!([]);
    let [ending, covered] = [testbed_camera("eindigt", "h264/4"), testbed_camera("afgedekt", "h265/4")];
    let mut bench = Bench::started(vec![ending, covered, never]).await;
    for name in ["eindigt", "afgedekt"] {
        bench.wait_for_uploads_of(name, 1).await;
    }
    let from = Timestamp::now() + wait;
    let [to, until] = [5, 6].map(|seconds| from + SignedDuration::from_secs(seconds));
    bench.reconfigure(|config| {
        config["cameras"][0]["permitted"] = json!([{"from": "2020-01-01T00:00:00Z", "until": until}]);
        config["cameras"][1]["suspended"] = json!([{"from": from, "until": to}]);
    });
    let revision = bench.config["revision"].as_str().unwrap();
    let follows = |status: &RecorderStatus| (status.revision == revision).then_some(status.now);
    if bench.until("the windows are known", follows).await >= from {
        return false;
    }

    bench.wait_for_camera_state("afgedekt", CameraState::Suspended).await;
    let ended = bench.wait_for_camera_state("eindigt", CameraState::NotPermitted).await;
    assert!(ended.since >= until, "{ended:?}, permitted until {until}");
    bench.wait_for_camera_state("afgedekt", CameraState::Recording).await;
    let gap = bench
        .until("the gap's end", |status| {
            camera(status, "afgedekt")?
                .gaps
                .iter()
                .find(|gap| gap.from.is_some() && gap.until.is_some())
                .cloned()
        })
        .await;
    assert_eq!(gap.cause, GapCause::Suspended);
    let never = bench.wait_for_camera_state("nooit", CameraState::NotPermitted).await;
    assert_eq!((never.last_frame, never.uploaded), (None, 0));
    bench.stop_cleanly().await;

    let (segments, holes) = bench.recorded("eindigt").await;
    assert_eq!(holes, []);
    let last = time(segments.last().unwrap().frames.last().unwrap());
    assert!(last <= until, "a frame taken at {last}, permitted until {until}");
    // All that it had until then is there; keys and reports are true within half a second.
    let missing = ended.last_frame.unwrap().duration_since(last);
    assert!(missing < HALF, "{ended:?}, recorded until {last}");

    let (segments, holes) = bench.recorded("afgedekt").await;
    let [hole] = holes.as_slice() else { panic!("{holes:?}") };
    let frames = || segments.iter().flat_map(|segment| &segment.frames).map(time);
    assert!(frames().all(|taken| taken < from || taken >= to), "frames while covered: {hole:?}");
    let (begins, ends) = (gap.from.unwrap(), gap.until.unwrap());
    assert!(begins.duration_since(hole.from).abs() < HALF, "{gap:?} {hole:?}");
    assert!(ends.duration_since(hole.until).abs() < HALF, "{gap:?} {hole:?}");
    true
}
