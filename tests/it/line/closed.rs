//! The protocol's gates: without consent, notices or a policy in force nothing is recorded, and with all of
//! them it is.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy, Site};

use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::{segments, time};
use crate::support::scene::{POLICY, SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn recording_waits_for_consent_notices_and_policy() {
    let _operator = operator::present().await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-closed", S3Server::first(), |policy, site| {
        policy["spec"]["worksCouncilConsent"].take();
        policy["spec"]["inForce"]["from"] = "2190-01-01".into();
        site["spec"]["notices"].take();
    })
    .await;
    scene.camera("receptie", "h264/8").await;

    is_closed(&scene, "NoConsent", "article 8").await;
    policy(&scene, json!({"worksCouncilConsent": {"date": "2020-04-21"}})).await;
    is_closed(&scene, "NotInformed", "article 7").await;
    let told =
        json!({"spec": {"notices": {"staffInformedDate": "2020-05-05", "signsPostedDate": "2020-05-05"}}});
    let sites = scene.namespace.api::<Site>();
    sites.patch(SITE, &PatchParams::default(), &Patch::Merge(told)).await.unwrap();
    is_closed(&scene, "NotYetInForce", "article 11").await;

    let opened = Timestamp::now();
    policy(&scene, json!({"inForce": {"from": "2020-05-06"}})).await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    // By the camera's clock, which is this machine's.
    let recorded = segments(&scene.bucket, "receptie").await;
    let first = recorded.iter().flat_map(|s| &s.frames).map(time).min();
    assert!(first.is_some_and(|first| first > opened), "{first:?}, opened {opened}");
    scene.delete().await;
}

async fn policy(scene: &Scene, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let policies = scene.namespace.api::<RecordingPolicy>();
    policies.patch(POLICY, &PatchParams::default(), &patch).await.unwrap();
}

/// Site and camera say which gate is closed, by which article, and the camera does not record.
async fn is_closed(scene: &Scene, reason: &str, article: &str) {
    eventually(&format!("Permitted=False {reason}"), HANG, || async {
        let site = scene.namespace.api::<Site>().get(SITE).await.map_err(|e| e.to_string())?;
        let camera = scene.namespace.api::<Camera>().get("receptie").await.map_err(|e| e.to_string())?;
        for conditions in
            [site.status.unwrap_or_default().conditions, camera.status.unwrap_or_default().conditions]
        {
            let of = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
            let permitted = of("Permitted").ok_or("no Permitted yet")?;
            let recording = of("Recording").ok_or("no Recording yet")?;
            let is_told = permitted.reason == reason && permitted.message.contains(article);
            if permitted.status != "False" || recording.status != "False" || !is_told {
                return Err(format!("{permitted:?} {recording:?}"));
            }
        }
        Ok(())
    })
    .await;
}
