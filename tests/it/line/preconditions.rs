//! The policy's preconditions: nothing is recorded without consent, notices and a policy in force.

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
    let _operator = operator::shared().await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-closed", S3Server::primary(), |policy, site| {
        policy["spec"]["worksCouncilConsent"].take();
        policy["spec"]["inForce"]["from"] = "2190-01-01".into();
        site["spec"]["notices"].take();
    })
    .await;
    scene.camera("receptie", "h264/8").await;

    wait_until_not_permitted(&scene, "NoConsent", "article 8").await;
    patch_policy(&scene, json!({"worksCouncilConsent": {"date": "2020-04-21"}})).await;
    wait_until_not_permitted(&scene, "NotInformed", "article 7").await;
    let notices =
        json!({"spec": {"notices": {"staffInformedDate": "2020-05-05", "signsPostedDate": "2020-05-05"}}});
    let sites = scene.namespace.api::<Site>();
    sites.patch(SITE, &PatchParams::default(), &Patch::Merge(notices)).await.unwrap();
    wait_until_not_permitted(&scene, "NotYetInForce", "article 11").await;

    let permitted_at = Timestamp::now();
    patch_policy(&scene, json!({"inForce": {"from": "2020-05-06"}})).await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    // Frames carry the camera's clock, which is this machine's clock.
    let recorded = segments(&scene.bucket, "receptie").await;
    let first = recorded.iter().flat_map(|s| &s.frames).map(time).min();
    assert!(
        first.is_some_and(|first| first > permitted_at),
        "first frame {first:?}, permitted at {permitted_at}"
    );
    scene.delete().await;
}

async fn patch_policy(scene: &Scene, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let policies = scene.namespace.api::<RecordingPolicy>();
    policies.patch(POLICY, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until Site and Camera report the reason and the article in `Permitted=False`, and the camera does not
/// record.
async fn wait_until_not_permitted(scene: &Scene, reason: &str, article: &str) {
    eventually(&format!("Permitted=False {reason}"), HANG, || async {
        let site = scene.namespace.api::<Site>().get(SITE).await.map_err(|e| e.to_string())?;
        let camera = scene.namespace.api::<Camera>().get("receptie").await.map_err(|e| e.to_string())?;
        for conditions in
            [site.status.unwrap_or_default().conditions, camera.status.unwrap_or_default().conditions]
        {
            let find = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
            let permitted = find("Permitted").ok_or("no Permitted yet")?;
            let recording = find("Recording").ok_or("no Recording yet")?;
            let is_reported = permitted.reason == reason && permitted.message.contains(article);
            if permitted.status != "False" || recording.status != "False" || !is_reported {
                return Err(format!("{permitted:?} {recording:?}"));
            }
        }
        Ok(())
    })
    .await;
}
