//! A recorder that the operator cannot reach, and a suspension: nobody knows whether the recorder heard of it, so neither the Camera nor
//! the Site says that nothing is recorded.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;
use toezicht::api::{Camera, Site};
use tokio::time::sleep;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::pod;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::silence::Silence;
use crate::support::wait::{HANG, eventually};

/// Longer than a configuration, a restart of a recorder and a start of the operator take.
const OBSERVED: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn silent_recorder_is_not_reported_as_covered() {
    with_chart_scaled_down("silent-claim", |namespace| async move {
        let config = config_for_store(&S3Server::primary().endpoint);
        let _process = Process::with_config(&namespace, &namespace, "silent-claim", config);
        wait_for_leader(&namespace, "silent-claim").await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, _| ()).await;
        scene.camera("hal", "h264/9").await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        scene.wait_for_site("Recording", "True", HANG).await;

        let silence = Silence::new(&pod::address(&scene.namespace, &pod::name()).await.unwrap()).await;
        scene.wait_for_site("Recording", "Unknown", HANG).await;
        let from = Timestamp::now() - SignedDuration::from_secs(1);
        let until = from + SignedDuration::from_hours(1);
        let suspension = json!([{"reason": "Verkiezing", "from": from, "until": until}]);
        scene.patch_site(json!({"spec": {"suspensions": suspension}})).await;
        scene.wait_for_site("Permitted", "False", HANG).await;
        scene.wait_for_camera("hal", "Permitted", "False", HANG).await;
        let start = Instant::now();
        while start.elapsed() < OBSERVED {
            for (object, conditions) in conditions(&scene).await.unwrap() {
                let row = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_).unwrap();
                let (recording, ready) = (row("Recording"), row("Ready"));
                let elapsed = start.elapsed();
                assert_eq!(recording.status, "Unknown", "{object} after {elapsed:?}: {recording:?}");
                assert_eq!(ready.status, "False", "{object} after {elapsed:?}: {ready:?}");
            }
            sleep(Duration::from_secs(1)).await;
        }
        drop(silence);
        eventually("Camera and Site say that nothing is recorded", HANG, || async {
            for (object, conditions) in conditions(&scene).await? {
                let is = |type_: &str, status: &str| {
                    let mut own = conditions.iter().filter(|condition| condition.type_ == type_);
                    own.any(|condition| condition.status == status && condition.reason == "Suspended")
                };
                if !is("Recording", "False") || !is("Ready", "True") {
                    return Err(format!("{object}: {conditions:?}"));
                }
            }
            Ok(())
        })
        .await;
    })
    .await;
}

/// Returns the conditions of the Camera and of the Site.
async fn conditions(scene: &Scene) -> Result<[(&'static str, Vec<Condition>); 2], String> {
    let camera = scene.namespace.api::<Camera>().get("hal").await.map_err(|e| e.to_string())?;
    let site = scene.namespace.api::<Site>().get(SITE).await.map_err(|e| e.to_string())?;
    Ok([
        ("Camera", camera.status.map(|status| status.conditions).unwrap_or_default()),
        ("Site", site.status.map(|status| status.conditions).unwrap_or_default()),
    ])
}
