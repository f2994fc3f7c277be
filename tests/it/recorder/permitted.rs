//! The gate opens and closes by itself, with nobody to tell it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::contract::{CameraState, GapCause};

use super::bench::{Bench, camera};
use super::cameras::of_the_bed;
use crate::support::recorded::time;

/// A policy that ends (article 11): no frame after its end; and a camera that is covered for a while
/// (article 5): the gap says so.
#[tokio::test]
async fn it_stops_at_the_instant_and_pauses_while_covered() {
    let now = Timestamp::now();
    let [until, from, to] = [12, 6, 11].map(|seconds| now + SignedDuration::from_secs(seconds));
    let mut ending = of_the_bed("eindigt", "h264/4");
    ending["permitted"] = json!([{"from": "2020-01-01T00:00:00Z", "until": until}]);
    let mut covered = of_the_bed("afgedekt", "h265/4");
    covered["suspended"] = json!([{"from": from, "until": to}]);
    let mut never = of_the_bed("nooit", "h264/5");
    never["permitted"] = json!([]);
    let mut bench = Bench::started(vec![ending, covered, never]).await;

    bench.in_state("afgedekt", CameraState::Suspended, 20).await;
    let ended = bench.in_state("eindigt", CameraState::NotPermitted, 20).await;
    assert!(ended.since.duration_since(until).as_secs_f64() < 2.0, "{ended:?}");
    bench.in_state("afgedekt", CameraState::Recording, 20).await;
    let gap = bench
        .until("the gap's end", 10, |status| {
            camera(status, "afgedekt")?
                .gaps
                .iter()
                .find(|gap| gap.from.is_some() && gap.until.is_some())
                .cloned()
        })
        .await;
    assert_eq!(gap.cause, GapCause::Suspended);
    let never = bench.in_state("nooit", CameraState::NotPermitted, 1).await;
    assert_eq!((never.last_frame, never.uploaded), (None, 0));
    bench.stop_well().await;

    let (segments, holes) = bench.recorded("eindigt").await;
    assert_eq!(holes, []);
    let left = until
        .duration_since(time(segments.last().unwrap().frames.last().unwrap()))
        .as_secs_f64();
    assert!(
        (0.0..1.0).contains(&left),
        "the last frame was taken {left} s before the end"
    );

    let (segments, holes) = bench.recorded("afgedekt").await;
    let [hole] = holes.as_slice() else {
        panic!("{holes:?}")
    };
    let frames = || segments.iter().flat_map(|segment| &segment.frames).map(time);
    assert!(
        frames().all(|taken| taken < from || taken >= to),
        "frames while covered: {hole:?}"
    );
    assert!(hole.seconds() < 8.0, "{hole:?}");
    assert!(
        gap.from.unwrap().duration_since(hole.from).abs().as_secs_f64() < 0.5,
        "{gap:?} {hole:?}"
    );
    assert!(
        gap.until.unwrap().duration_since(hole.until).abs().as_secs_f64() < 0.5,
        "{gap:?} {hole:?}"
    );
}
