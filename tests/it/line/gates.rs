//! The end of a policy: with the operator gone the recorder closes by itself.

use jiff::{SignedDuration, Timestamp, Unit};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use toezicht::api::RecordingPolicy;

use crate::support::cluster;
use crate::support::operator::{self, Away};
use crate::support::pod;
use crate::support::recorded::{segments, time};
use crate::support::scene::{POLICY, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

/// The recorder's count of gaps of the one camera that began because nothing may be recorded.
const NOT_PERMITTED_GAPS_METRIC: &str =
    "toezicht_recorder_gaps_total{camera=\"receptie\",reason=\"NotPermitted\"}";

#[tokio::test(flavor = "multi_thread")]
async fn policy_end_stops_recording_without_operator() {
    let _alone = operator::alone().await;
    let scene = Scene::new(&cluster::client().await, "line-gates", S3Server::first(), |_, _| ()).await;
    scene.camera("receptie", "h264/7").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    let (until, ended, away) = end_policy_without_operator(&scene).await;
    let last = eventually("all that was recorded is in the bucket", HANG, || async {
        let now = gaps(&scene).await?;
        let taken = pod::frames(&scene.namespace, "receptie").await?;
        let recorded = segments(&scene.bucket, "receptie").await;
        let frames: Vec<Timestamp> = recorded.iter().flat_map(|s| &s.frames).map(time).collect();
        let is_all = now > ended && frames.len() as u64 == taken;
        let last = frames.into_iter().max().filter(|_| is_all);
        last.ok_or_else(|| format!("{now} gaps, was {ended}; {taken} pictures taken"))
    })
    .await;
    away.back().await;
    let late = last.duration_since(until).as_secs_f64();
    println!("the last picture was taken {late} s after the policy's end");
    assert!(last <= until, "a frame taken {late} s after the policy's end");
    scene.wait_for_camera("receptie", "Permitted", "False", HANG).await;
    scene.delete().await;
}

/// How many gaps began because nothing may be recorded.
async fn gaps(scene: &Scene) -> Result<u64, String> {
    let count = pod::metric(&scene.namespace, NOT_PERMITTED_GAPS_METRIC).await;
    // Until there is one, there is no such series.
    count.or_else(|text| if text.ends_with("# EOF\n") { Ok(0) } else { Err(text) })
}

/// Has the policy end after the operator has gone: when it ends, how many gaps there were before, and the operator's absence.
/// On a machine on which the operator does not go in time, it is tried again with more.
async fn end_policy_without_operator(scene: &Scene) -> (Timestamp, u64, Away) {
    let policies = scene.namespace.api::<RecordingPolicy>();
    for seconds in [20, 60, 180] {
        let until = (Timestamp::now() + SignedDuration::from_secs(seconds)).round(Unit::Second).unwrap();
        let before = eventually("the recorder serves metrics", HANG, || gaps(scene)).await;
        let patch = Patch::Merge(json!({"spec": {"inForce": {"until": until}}}));
        policies.patch(POLICY, &PatchParams::default(), &patch).await.unwrap();
        eventually("the recorder has the policy's end", HANG, || async {
            let config = scene.recorder_config().await;
            let is_there = config.contains(until.to_string().trim_end_matches('Z'));
            is_there.then_some(()).ok_or_else(|| "not in its configuration".into())
        })
        .await;
        let away = operator::away().await;
        if Timestamp::now() < until {
            return (until, before, away);
        }
        away.back().await;
    }
    panic!("the operator does not go in time: this proves nothing");
}
