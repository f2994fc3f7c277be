//! An incident's recordings are held in the bucket from `kubectl apply` to the resolution, with the operator and its
//! recorders on the cluster.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::api::IncidentHold;
use toezicht::rules::recording::key::Key;

use crate::storage::scene::{client, protection};
use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::keys;
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

struct IncidentScene {
    scene: Scene,
    s3: aws_sdk_s3::Client,
}

impl IncidentScene {
    async fn wait_for_hold(&self, name: &str, condition: &str, status: &str) {
        self.scene.wait_for_hold(name, condition, status, HANG).await;
    }

    /// Returns the keys of a camera's segments with their legal hold and retention tag.
    async fn segment_protections(&self, camera: &str) -> Vec<(Key, bool, String)> {
        let mut all = Vec::new();
        for key in keys(&self.scene.bucket, camera).await {
            let (hold, tag) = protection(&self.s3, &self.scene.bucket.name, &key).await.unwrap();
            all.push((key.parse().unwrap(), hold, tag));
        }
        all
    }

    async fn declare(&self, name: &str, from: Timestamp, until: Option<Timestamp>) {
        self.scene.declare(name, &["receptie"], from, until).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incident_is_held_from_declaration_to_resolution() {
    let _operator = operator::shared().await;
    let server = S3Server::primary();
    let embargo = |policy: &mut serde_json::Value, _: &mut serde_json::Value| {
        policy["spec"]["liveView"] = json!({"sites": ["elsewhere"], "embargo": "20s"});
    };
    let scene = Scene::new(&cluster::client().await, "line-held", server.clone(), embargo).await;
    let incident = IncidentScene { scene, s3: client(&server, server.bucket_maker()) };
    incident.scene.camera("receptie", "h264/8").await;
    incident.scene.camera("gang", "h264/9").await;
    for camera in ["receptie", "gang"] {
        incident.scene.wait_for_camera(camera, "Recording", "True", HANG).await;
    }
    let recorded = eventually("four segments", HANG, || async {
        let recorded = keys(&incident.scene.bucket, "receptie").await;
        (recorded.len() >= 4).then_some(recorded).ok_or_else(String::new)
    })
    .await;

    // The incident is ongoing and started in the second segment.
    let second: Key = recorded[1].parse().unwrap();
    let from = second.start() + SignedDuration::from_secs(1);
    let clock = Instant::now();
    incident.declare("incident", from, None).await;
    incident.wait_for_hold("incident", "Placed", "True").await;
    println!("Placed=True {:?} after apply", clock.elapsed());
    let protections = incident.segment_protections("receptie").await;
    // By time, not by place in the list: a segment whose upload took longer may arrive after its successors.
    for (key, hold, tag) in &protections {
        if key.end() <= from {
            assert_eq!(
                (*hold, tag.as_str()),
                (false, "video"),
                "segments before the incident are not held: {key}"
            );
        } else {
            // A segment that arrives during a pass is sealed, and gets its legal hold in the next one.
            let was_uploaded = recorded.contains(&key.to_string());
            assert!(
                (*hold || !was_uploaded) && (tag == "held" || tag == "sealed"),
                "{key} in {protections:?}"
            );
        }
    }
    assert!(protections.iter().any(|(_, hold, _)| *hold), "{protections:?}");
    assert!(incident.segment_protections("gang").await.iter().all(|(_, hold, tag)| !hold && tag == "video"));

    // New segments are sealed at upload and held soon after. Nothing younger than the embargo is readable.
    let newest = incident.segment_protections("receptie").await.pop().unwrap().0;
    eventually("new segments are held, and readable after their embargo", HANG, || async {
        let protections = incident.segment_protections("receptie").await;
        let young = |key: &Key| Timestamp::now().duration_since(key.end()) < SignedDuration::from_secs(19);
        assert!(protections.iter().all(|(key, _, tag)| tag != "held" || !young(key)), "{protections:?}");
        let newer: Vec<_> = protections.iter().filter(|(key, ..)| key.start() > newest.start()).collect();
        let is_open = newer.first().is_some_and(|(_, hold, tag)| *hold && tag == "held");
        is_open.then_some(()).ok_or_else(|| format!("{newer:?}"))
    })
    .await;

    // A second hold covers a part of the first. Resolving the first does not release that part.
    let until = second.end() + SignedDuration::from_secs(3);
    incident.declare("narrow", from, Some(until)).await;
    incident.wait_for_hold("narrow", "Placed", "True").await;
    incident.scene.resolve("incident").await;
    incident.wait_for_hold("incident", "Released", "True").await;
    let protections = incident.segment_protections("receptie").await;
    for (key, hold, tag) in &protections {
        let is_narrow = key.start() < until && key.end() > from;
        assert_eq!(*hold, is_narrow, "{key} {tag}");
        assert_eq!(tag == "video", !is_narrow, "{key} {tag}");
    }
    incident.scene.resolve("narrow").await;
    incident.wait_for_hold("narrow", "Released", "True").await;
    let protections = incident.segment_protections("receptie").await;
    assert!(protections.iter().all(|(_, hold, tag)| !hold && tag == "video"), "{protections:?}");

    // The resources can be deleted now, and the audit reports no violations.
    for name in ["incident", "narrow"] {
        let api = incident.scene.namespace.api::<IncidentHold>();
        api.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
        eventually("the resolved hold is deleted", HANG, || async {
            match api.get_opt(name).await.unwrap() {
                None => Ok(()),
                Some(hold) => Err(format!("{:?}", hold.status)),
            }
        })
        .await;
    }
    incident.scene.wait_for_site("Compliant", "True", HANG).await;
    incident.scene.delete().await;
}
