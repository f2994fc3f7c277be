//! The end of a policy: with the operator gone the recorder closes by itself.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::{segments, time};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_ends_stops_recording_without_the_operator() {
    let _alone = operator::alone().await;
    let scene = Scene::new(
        &cluster::client().await,
        "line-gates",
        S3Server::first(),
        |_, _| (),
    )
    .await;
    scene.camera("receptie", "h264/7").await;
    scene.camera_is("receptie", "Recording", "True", SOON).await;
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(20);
    let patch = json!({"spec": {"inForce": {"until": until.to_string()}}}).to_string();
    let namespace = scene.namespace.name.as_str();
    run(
        "kubectl",
        &[
            "-n",
            namespace,
            "patch",
            "recordingpolicies.toezicht.dev",
            "heusden-2020",
            "--type=merge",
            "-p",
            &patch,
        ],
        None,
    )
    .await;
    let revision = format!("{until:.0}");
    eventually(
        "the recorder has the policy's end",
        Duration::from_secs(15),
        || async {
            let secret = scene.recorder_config().await;
            if secret.contains(revision.trim_end_matches('Z')) {
                Ok(())
            } else {
                Err("not in its configuration".into())
            }
        },
    )
    .await;
    let away = operator::away().await;
    let gone = jiff::Timestamp::now();
    assert!(
        gone < until,
        "the operator was there until {gone}, after the policy's end {until}: this proves nothing"
    );
    let stopped = eventually("the last segment", SOON, || async {
        let recorded = segments(&scene.bucket, "receptie").await;
        let last = recorded
            .iter()
            .flat_map(|s| &s.frames)
            .map(time)
            .max()
            .ok_or("nothing recorded")?;
        if jiff::Timestamp::now().duration_since(until).as_secs() >= 8 {
            Ok(last)
        } else {
            Err(format!("{last}"))
        }
    })
    .await;
    away.back().await;
    let late = stopped.duration_since(until).as_secs_f64();
    assert!(late <= 2.0, "a frame taken {late} s after the policy's end");
    assert!(
        late >= -4.0,
        "the last frame was taken {} s before the policy's end",
        -late
    );
    scene.camera_is("receptie", "Permitted", "False", SOON).await;
    scene.delete().await;
}
