//! An incident outlives its ceiling while its neighbours go, and goes when it is resolved: declared and resolved at
//! the API server, recorded by a recorder, expired by the store.

use std::collections::BTreeSet;
use std::time::Instant;

use aws_sdk_s3::Client;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use toezicht::api::IncidentHold;
use toezicht::rules::recording::key::Key;

use super::CEILING;
use crate::storage::scene::{client, marks};
use crate::support::cluster;
use crate::support::operator;
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const CAMERA: &str = "receptie";

/// How many ceilings an incident outlives; ten take eight minutes.
fn ceilings() -> u32 {
    let outlive = std::env::var("TOEZICHT_TEST_LIFECYCLE");
    outlive.map_or(1, |outlive| outlive.parse().expect("TOEZICHT_TEST_LIFECYCLE: a number"))
}

/// All versions and delete markers of recordings, as the operator sees them: key and version.
async fn all(client: &Client, bucket: &str) -> Result<BTreeSet<(String, String)>, String> {
    let page = client.list_object_versions().bucket(bucket).prefix("video/");
    let page = page.send().await.map_err(|error| format!("{error:?}"))?;
    assert_ne!(page.is_truncated(), Some(true));
    let versions = page.versions().iter().map(|it| (it.key(), it.version_id()));
    let markers = page.delete_markers().iter().map(|it| (it.key(), it.version_id()));
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(versions.chain(markers).map(|(key, id)| (text(key), text(id))).collect())
}

fn of<'a>(all: &'a BTreeSet<(String, String)>, keys: &BTreeSet<String>) -> Vec<&'a (String, String)> {
    all.iter().filter(|(key, _)| keys.contains(key)).collect()
}

/// Waits until a ceiling has passed, or as many as were asked for, and until what came last is gone: what is held is as it was
/// `before`.
async fn outlives(
    s3: &Client,
    bucket: &str,
    held: &BTreeSet<String>,
    before: &[&(String, String)],
    began: Instant,
) {
    loop {
        let newest = eventually("the recorder goes on", HANG, || async {
            let keys = all(s3, bucket).await?.into_iter().map(|(key, _)| key);
            let newest = keys.filter(|key| !held.contains(key)).max();
            Ok(BTreeSet::from([newest.ok_or("nothing new")?]))
        })
        .await;
        eventually("no version and no marker of what came later", HANG, || async {
            let all = all(s3, bucket).await?;
            let left = of(&all, &newest);
            left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
        })
        .await;
        let all = all(s3, bucket).await.unwrap();
        assert_eq!(of(&all, held), before, "what is held is there, and nothing else of it");
        if began.elapsed() > CEILING * ceilings() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_incident_outlives_ceiling_and_expires_after_resolution() {
    let _operator = operator::present().await;
    let server = S3Server::second();
    let s3 = client(&server, server.bucket_maker());
    let scene = Scene::new(&cluster::client().await, "outlives", server, |policy, _| {
        policy["spec"]["retention"] = json!({"video": "5d", "calls": "5d"});
    })
    .await;
    let bucket = scene.bucket.name.clone();
    scene.camera(CAMERA, "h264/5").await;
    scene.wait_for_camera(CAMERA, "Recording", "True", HANG).await;

    // What matters begins once the recorder knows: what came before may be gone by then, on a store with days of seconds.
    scene.declare("incident", &[CAMERA], Timestamp::now(), None).await;
    scene.wait_for_hold("incident", "Placed", "True", HANG).await;
    let from = Timestamp::now();
    let until = from + SignedDuration::from_secs(15);
    let holds = scene.namespace.api::<IncidentHold>();
    let ends = Patch::Merge(json!({"spec": {"window": {"until": until}}}));
    holds.patch("incident", &PatchParams::default(), &ends).await.unwrap();
    // Its recorder may seal some more until it knows of the end.
    let (recorded, neighbour) = eventually("what comes after the incident", HANG, || async {
        let recorded = all(&s3, &bucket).await?.into_iter().map(|(key, _)| key);
        let recorded: BTreeSet<String> = recorded.collect();
        let newest = recorded.last().cloned().ok_or("nothing yet")?;
        let found = marks(&s3, &bucket, &newest).await;
        let is_after = newest.parse::<Key>().unwrap().start() >= until;
        let is_free = matches!(&found, Some((false, tag)) if tag == "video");
        (is_after && is_free)
            .then_some((recorded, newest.clone()))
            .ok_or_else(|| format!("{newest}: {found:?}"))
    })
    .await;
    let is_covered = |key: &String| {
        let key: Key = key.parse().unwrap();
        key.start() < until && key.start() > from
    };
    let held: BTreeSet<String> = recorded.iter().filter(|key| is_covered(key)).cloned().collect();
    let neighbours = BTreeSet::from([neighbour]);
    assert!(!held.is_empty(), "{recorded:?}");
    for key in &held {
        // Sealed by its recorder from the start, it has its legal hold soon.
        eventually("a covered segment is held", HANG, || async {
            let found = marks(&s3, &bucket, key).await;
            let is_held = matches!(&found, Some((true, tag)) if tag == "sealed" || tag == "held");
            is_held.then_some(()).ok_or_else(|| format!("{key}: {found:?}"))
        })
        .await;
    }
    let (began, before) = (Instant::now(), all(&s3, &bucket).await.unwrap());
    let before = of(&before, &held);
    assert_eq!(before.len(), held.len(), "one version each and no marker: {before:?}");

    eventually("no version and no marker of the neighbours", HANG, || async {
        let all = all(&s3, &bucket).await?;
        let left = of(&all, &neighbours);
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
    println!("{} neighbours are gone {:?} later", neighbours.len(), began.elapsed());
    outlives(&s3, &bucket, &held, &before, began).await;
    println!("{} segments held for {:?}, of a ceiling of {CEILING:?}", held.len(), began.elapsed());

    let resolved = Instant::now();
    scene.resolve("incident").await;
    eventually("no version and no marker of what was held", HANG, || async {
        let all = all(&s3, &bucket).await?;
        let left = of(&all, &held);
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
    println!("gone {:?} after its resolution", resolved.elapsed());
    scene.wait_for_hold("incident", "Released", "True", HANG).await;
    scene.delete().await;
}
