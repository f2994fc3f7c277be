//! A restarted recorder leaves one gap and loses nothing else.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use toezicht::api::Camera;

use crate::support::cluster;
use crate::support::operator;
use crate::support::pod;
use crate::support::recorded::{FrameGap, UNWRITTEN, keys, segments_with_gaps, time};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn deleted_recorder_leaves_one_gap() {
    let _operator = operator::shared().await;
    let scene = recording_scene("line-delete", 9).await;
    let pod = format!("{SITE}-recorder-0");
    let taken = pod::frames(&scene.namespace, "receptie").await.unwrap();
    let deleted = Timestamp::now();
    scene.namespace.api::<Pod>().delete(&pod, &DeleteParams::default()).await.unwrap();
    wait_for_single_gap(&scene, taken, deleted).await;
    scene.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_recorder_keeps_its_spool() {
    let _operator = operator::shared().await;
    let scene = recording_scene("line-kill", 10).await;
    let pod: Pod = scene.namespace.api().get(&format!("{SITE}-recorder-0")).await.unwrap();
    let taken = pod::frames(&scene.namespace, "receptie").await.unwrap();
    let killed = pod::kill_recorder(&pod.metadata.uid.unwrap());
    let missing = wait_for_single_gap(&scene, taken, killed).await;
    println!(
        "{} s from the kill at {killed}: {missing:?}",
        missing.until.duration_since(killed).as_secs_f64()
    );
    scene.delete().await;
}

async fn recording_scene(prefix: &str, camera: u32) -> Scene {
    let scene = Scene::new(&cluster::client().await, prefix, S3Server::primary(), |_, _| ()).await;
    scene.camera("receptie", &format!("h264/{camera}")).await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    let uploaded = newest_key(&scene).await.expect("a segment where Recording is True");
    wait_for_newer_segment(&scene, &uploaded).await;
    scene
}

/// Waits until the restarted recorder has reported its gap and uploaded a segment after it. Asserts that no other
/// frames are missing, and that the `taken` frames in the spool before the restart are in the bucket. The recorder recorded until `end`.
async fn wait_for_single_gap(scene: &Scene, taken: u64, end: Timestamp) -> FrameGap {
    let api: Api<Camera> = scene.namespace.api();
    let gap = eventually("a finished gap with cause Restart", HANG, || async {
        let status = api.get("receptie").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        let gap = status
            .gaps
            .iter()
            .find(|g| g.reason == "RecorderRestarted" && g.from.is_some() && g.until.is_some());
        let gap = gap.cloned().ok_or(format!("{:?}", status.gaps))?;
        let today = status.gaps_today.ok_or("no gaps of today")?;
        let zone = TimeZone::get(&today.time_zone).unwrap();
        let day = gap.from.as_ref().unwrap().0.to_zoned(zone).date().to_string();
        let is_of_today = day == serde_json::to_value(&today.date).unwrap();
        if today.count >= i32::from(is_of_today) { Ok(gap) } else { Err(format!("{today:?}")) }
    })
    .await;
    let uploaded = newest_key(scene).await.expect("a segment before the restart");
    wait_for_newer_segment(scene, &uploaded).await;
    let (recorded, gaps) = segments_with_gaps(&scene.bucket, "receptie", 1).await;
    let [missing] = gaps.as_slice() else { panic!("{gaps:?}") };
    let (from, until) = (gap.from.as_ref().unwrap().0, gap.until.as_ref().unwrap().0);
    // Statuses are in whole seconds and keys are exact within half a second. The delay of a camera's first frames is
    // estimated less precisely than that of later ones.
    let slack = jiff::SignedDuration::from_millis(2000);
    assert!(
        missing.from >= from - slack && missing.until <= until + slack,
        "{missing:?} is not within {gap:?}"
    );
    assert!(missing.from >= end - UNWRITTEN, "{missing:?} begins before the recorder ended at {end}");
    // No fragment that was in the spool is lost.
    let frames = recorded.iter().flat_map(|segment| &segment.frames);
    let before = frames.filter(|frame| time(frame) <= missing.from).count();
    assert!(before as u64 >= taken, "{before} frames before {missing:?}, {taken} were in the spool");
    *missing
}

/// Waits until the bucket has a newer segment than `key`.
async fn wait_for_newer_segment(scene: &Scene, key: &str) {
    eventually("a newer segment", HANG, || async {
        let newest = newest_key(scene).await.unwrap_or_default();
        if newest.as_str() > key { Ok(()) } else { Err(newest) }
    })
    .await;
}

async fn newest_key(scene: &Scene) -> Option<String> {
    keys(&scene.bucket, "receptie").await.pop()
}
