//! An incident: what the cameras saw is held from `kubectl apply` to its resolution, in the bucket itself, with the operator
//! and its recorders on the cluster.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::api::IncidentHold;
use toezicht::rules::recording::key::Key;

use crate::storage::scene::{client, marks};
use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::keys;
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

struct Incident {
    scene: Scene,
    s3: aws_sdk_s3::Client,
}

impl Incident {
    async fn wait_for_hold(&self, name: &str, condition: &str, status: &str) {
        self.scene.wait_for_hold(name, condition, status, HANG).await;
    }

    /// The marks of a camera's segments, with their keys.
    async fn marked(&self, camera: &str) -> Vec<(Key, bool, String)> {
        let mut all = Vec::new();
        for key in keys(&self.scene.bucket, camera).await {
            let (hold, tag) = marks(&self.s3, &self.scene.bucket.name, &key).await.unwrap();
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
    let _operator = operator::present().await;
    let server = S3Server::first();
    let embargo = |policy: &mut serde_json::Value, _: &mut serde_json::Value| {
        policy["spec"]["liveView"] = json!({"sites": ["elsewhere"], "embargo": "20s"});
    };
    let scene = Scene::new(&cluster::client().await, "line-held", server.clone(), embargo).await;
    let incident = Incident { scene, s3: client(&server, server.bucket_maker()) };
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

    // It goes on, and began in the second segment.
    let second: Key = recorded[1].parse().unwrap();
    let from = second.start() + SignedDuration::from_secs(1);
    let clock = Instant::now();
    incident.declare("incident", from, None).await;
    incident.wait_for_hold("incident", "Placed", "True").await;
    println!("Placed=True {:?} after apply", clock.elapsed());
    let marked = incident.marked("receptie").await;
    let is_held = |(key, hold, tag): &(Key, bool, String)| {
        // What comes while the pass runs is sealed, and gets its legal hold by the next one.
        let was_there = recorded.contains(&key.to_string());
        (*hold || !was_there) && (tag == "held" || tag == "sealed")
    };
    assert_eq!((marked[0].1, marked[0].2.as_str()), (false, "video"), "what was before is not held");
    assert!(marked.iter().skip(1).all(is_held), "{marked:?}");
    assert!(marked.iter().skip(1).any(|(_, hold, _)| *hold), "{marked:?}");
    assert!(incident.marked("gang").await.iter().all(|(_, hold, tag)| !hold && tag == "video"));

    // What comes in meanwhile is sealed from the start and held soon; nothing younger than the embargo can be read.
    let newest = incident.marked("receptie").await.pop().unwrap().0;
    eventually("what came since is held, and opened when its embargo has passed", HANG, || async {
        let marked = incident.marked("receptie").await;
        let young = |key: &Key| Timestamp::now().duration_since(key.end()) < SignedDuration::from_secs(19);
        assert!(marked.iter().all(|(key, _, tag)| tag != "held" || !young(key)), "{marked:?}");
        let since: Vec<_> = marked.iter().filter(|(key, ..)| key.start() > newest.start()).collect();
        let is_open = since.first().is_some_and(|(_, hold, tag)| *hold && tag == "held");
        is_open.then_some(()).ok_or_else(|| format!("{since:?}"))
    })
    .await;

    // Another hold over a part of it; resolving the first changes nothing for that.
    let until = second.end() + SignedDuration::from_secs(3);
    incident.declare("narrow", from, Some(until)).await;
    incident.wait_for_hold("narrow", "Placed", "True").await;
    incident.scene.resolve("incident").await;
    incident.wait_for_hold("incident", "Released", "True").await;
    let marked = incident.marked("receptie").await;
    for (key, hold, tag) in &marked {
        let is_narrow = key.start() < until && key.end() > from;
        assert_eq!(*hold, is_narrow, "{key} {tag}");
        assert_eq!(tag == "video", !is_narrow, "{key} {tag}");
    }
    incident.scene.resolve("narrow").await;
    incident.wait_for_hold("narrow", "Released", "True").await;
    let marked = incident.marked("receptie").await;
    assert!(marked.iter().all(|(_, hold, tag)| !hold && tag == "video"), "{marked:?}");

    // The resources may go now, and the audit agrees with all of it.
    for name in ["incident", "narrow"] {
        let api = incident.scene.namespace.api::<IncidentHold>();
        api.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
        eventually("a resolved hold goes", HANG, || async {
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
