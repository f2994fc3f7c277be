//! The end of a policy: the recorder stops recording even if the operator is down.

use jiff::{SignedDuration, Timestamp, Unit};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use toezicht::api::RecordingPolicy;

use crate::support::cluster;
use crate::support::operator::{self, Shutdown};
use crate::support::pod;
use crate::support::recorded::{segments, time};
use crate::support::scene::{POLICY, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

/// Metric of the camera's gaps with reason `NotPermitted`.
const NOT_PERMITTED_GAPS_METRIC: &str =
    "toezicht_recorder_gaps_total{camera=\"receptie\",reason=\"NotPermitted\"}";

#[tokio::test(flavor = "multi_thread")]
async fn policy_end_stops_recording_without_operator() {
    let _exclusive = operator::exclusive().await;
    let scene = Scene::new(&cluster::client().await, "line-gates", S3Server::primary(), |_, _| ()).await;
    scene.camera("receptie", "h264/7").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    let (until, gaps_before, shutdown) = end_policy_without_operator(&scene).await;
    let last = eventually("all recorded frames are in the bucket", HANG, || async {
        let now = not_permitted_gaps(&scene).await?;
        let taken = pod::frames(&scene.namespace, "receptie").await?;
        let recorded = segments(&scene.bucket, "receptie").await;
        let frames: Vec<Timestamp> = recorded.iter().flat_map(|s| &s.frames).map(time).collect();
        let is_complete = now > gaps_before && frames.len() as u64 == taken;
        let last = frames.into_iter().max().filter(|_| is_complete);
        last.ok_or_else(|| format!("{now} gaps, was {gaps_before}; {taken} frames recorded"))
    })
    .await;
    shutdown.end().await;
    let late = last.duration_since(until).as_secs_f64();
    println!("the last frame was captured {late} s after the policy's end");
    assert!(last <= until, "a frame was captured {late} s after the policy's end");
    scene.wait_for_camera("receptie", "Permitted", "False", HANG).await;
    scene.delete().await;
}

/// Returns the number of gaps with reason `NotPermitted`.
async fn not_permitted_gaps(scene: &Scene) -> Result<u64, String> {
    let count = pod::metric(&scene.namespace, NOT_PERMITTED_GAPS_METRIC).await;
    // The series does not exist before the first gap.
    count.or_else(|text| if text.ends_with("# EOF\n") { Ok(0) } else { Err(text) })
}

/// Sets the policy's end and shuts the operator down before it. Returns the end, the number of gaps before, and the
/// shutdown. If the shutdown takes longer, retries with a later end.
async fn end_policy_without_operator(scene: &Scene) -> (Timestamp, u64, Shutdown) {
    let policies = scene.namespace.api::<RecordingPolicy>();
    for seconds in [20, 60, 180] {
        let until = (Timestamp::now() + SignedDuration::from_secs(seconds)).round(Unit::Second).unwrap();
        let before = eventually("the recorder serves metrics", HANG, || not_permitted_gaps(scene)).await;
        let patch = Patch::Merge(json!({"spec": {"inForce": {"until": until}}}));
        policies.patch(POLICY, &PatchParams::default(), &patch).await.unwrap();
        eventually("the recorder has the policy's end", HANG, || async {
            let config = scene.recorder_config().await;
            let is_there = config.contains(until.to_string().trim_end_matches('Z'));
            is_there.then_some(()).ok_or_else(|| "not in the configuration".into())
        })
        .await;
        let shutdown = operator::shut_down().await;
        if Timestamp::now() < until {
            return (until, before, shutdown);
        }
        shutdown.end().await;
    }
    panic!("the operator never stopped before the policy's end");
}
