//! Suspensions (article 5): recording stops and resumes at their bounds, and the status has the current and the next one.

use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::json;
use toezicht::api::{Camera, DeadlineReason, Site};

use crate::support::cluster;
use crate::support::operator;
use crate::support::pod;
use crate::support::recorded::{READING_PAUSE, segments, time};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually, eventually_every};

/// Limit from the issue, for cameras that send a keyframe in time. Those of the test bed do when they begin to send.
const LIMIT: SignedDuration = SignedDuration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn recording_stops_and_resumes_within_two_seconds() {
    let _operator = operator::shared().await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-covered", S3Server::primary(), |_, _| ()).await;
    scene.camera("receptie", "h264/9").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    let stream = eventually("the status has the stream", HANG, || async {
        let camera: Camera = scene.namespace.api().get("receptie").await.map_err(|e| e.to_string())?;
        camera.status.and_then(|status| status.stream).ok_or_else(|| "none".into())
    })
    .await;
    println!("{stream:?}");
    // The test bed's clip has 15 frames a second and about 600 kbit/s.
    assert_eq!((stream.codec.as_str(), stream.width, stream.height), ("H264", 640, 360));
    let rate: f64 = stream.frames_per_second.parse().unwrap();
    assert!((14.0..16.0).contains(&rate) && stream.bits_per_second > 100_000, "{stream:?}");
    // On a slow machine, the recorder gets the suspension after it begins: then once more, with more time.
    for seconds in [15, 60, 180] {
        if check_suspension_after(&scene, SignedDuration::from_secs(seconds)).await {
            scene.delete().await;
            return;
        }
    }
    panic!("the recorder never had the suspension before it began");
}

/// Checks a suspension of 15 s that begins after `wait`, and another a day later. Returns whether the recorder had it in time.
async fn check_suspension_after(scene: &Scene, wait: SignedDuration) -> bool {
    let from = (Timestamp::now() + wait).round(Unit::Second).unwrap();
    let until = from + SignedDuration::from_secs(15);
    let [next_from, next_until] = [24, 25].map(|hours| from + SignedDuration::from_hours(hours));
    let suspensions = json!([
        {"reason": "Verkiezing", "from": from, "until": until},
        {"reason": "Herstemming", "from": next_from, "until": next_until, "cameras": ["receptie"]},
    ]);
    scene.patch_site(json!({"spec": {"suspensions": suspensions}})).await;
    eventually("the recorders' configuration has the suspension", HANG, || async {
        let config = scene.recorder_config().await;
        let is_there = config.contains(until.to_string().trim_end_matches('Z'));
        is_there.then_some(()).ok_or_else(|| "not in the configuration".into())
    })
    .await;
    // The kubelet renews the mounted Secret within a second, as the operator touches the pod.
    if Timestamp::now() + SignedDuration::from_secs(5) > from {
        return false;
    }
    eventually("the status has the next suspension", HANG, || async {
        let status = site(scene).await?;
        let next = status.suspensions.and_then(|suspensions| suspensions.next);
        let deadline = status.next_deadline.map(|deadline| (deadline.time.0, deadline.reason));
        let is_there = next.as_ref().is_some_and(|next| next.from_time.0 == from)
            && deadline == Some((from, DeadlineReason::SuspensionBegins));
        // On a slow machine it may have begun.
        (is_there || Timestamp::now() >= from).then_some(()).ok_or_else(|| format!("{next:?} {deadline:?}"))
    })
    .await;
    eventually("the status has both suspensions", HANG, || async {
        let camera: Camera = scene.namespace.api().get("receptie").await.map_err(|e| e.to_string())?;
        let of_camera = camera.status.and_then(|status| status.suspensions).ok_or("none")?;
        let of_site = site(scene).await?.suspensions.ok_or("none")?;
        let is_there = of_camera.current.as_ref().is_some_and(|current| current.until_time.0 == until)
            && of_camera.next.as_ref().is_some_and(|next| next.reason == "Herstemming")
            && of_site.current.iter().any(|current| current.reason == "Verkiezing")
            && of_site.next.as_ref().is_some_and(|next| next.cameras == Some(1));
        is_there.then_some(()).ok_or_else(|| format!("{of_camera:?} {of_site:?}"))
    })
    .await;
    let segments = eventually_every(READING_PAUSE, "a segment after the suspension", HANG, || async {
        // Segments arrive out of order. With no more than the open one in the spool, none of before is missing.
        let waiting = pod::metric(&scene.namespace, "toezicht_recorder_spool_segments").await?;
        if waiting > 1 {
            return Err(format!("{waiting} segments wait in the spool"));
        }
        let recorded = segments(&scene.bucket, "receptie").await;
        let last = recorded.last().map(|segment| segment.key.end());
        if last.is_some_and(|last| last > until) { Ok(recorded) } else { Err(format!("{last:?}")) }
    })
    .await;
    let frames = || segments.iter().flat_map(|segment| &segment.frames).map(time);
    let last = frames().filter(|frame| *frame < from).max().expect("a frame before the suspension");
    let first = frames().filter(|frame| *frame >= from).min().expect("a frame after the suspension");
    let (stopped, resumed) = (from.duration_since(last), first.duration_since(until));
    println!("the last frame is {stopped:?} before the start, the first {resumed:?} after the end");
    assert!(stopped <= LIMIT, "recording stopped {stopped:?} before the suspension");
    assert!(first >= until, "a frame was recorded {:?} before the end", until.duration_since(first));
    assert!(resumed <= LIMIT, "recording resumed {resumed:?} after the suspension");
    true
}

async fn site(scene: &Scene) -> Result<toezicht::api::SiteStatus, String> {
    let site: Site = scene.namespace.api().get(SITE).await.map_err(|e| e.to_string())?;
    Ok(site.status.unwrap_or_default())
}
