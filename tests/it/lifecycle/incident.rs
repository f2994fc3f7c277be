//! Held recordings outlive their ceiling while others expire, and expire after the resolution. Hold and resolution go
//! through the API server, a recorder records, and the store's lifecycle rules expire.

use std::collections::BTreeSet;
use std::time::Instant;

use aws_sdk_s3::Client;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use toezicht::api::IncidentHold;
use toezicht::rules::recording::key::Key;

use super::CEILING;
use crate::storage::scene::{client, protection};
use crate::support::cluster;
use crate::support::operator;
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const CAMERA: &str = "receptie";

/// Returns the number of ceilings that held recordings must outlive. Ten take eight minutes.
fn outlived_ceilings() -> u32 {
    let number = std::env::var("TOEZICHT_TEST_LIFECYCLE");
    number.map_or(1, |number| number.parse().expect("TOEZICHT_TEST_LIFECYCLE: a number"))
}

/// Lists key and version of all versions and delete markers of recordings, as the operator sees them.
async fn list_recordings(client: &Client, bucket: &str) -> Result<BTreeSet<(String, String)>, String> {
    let page = client.list_object_versions().bucket(bucket).prefix("video/");
    let page = page.send().await.map_err(|error| format!("{error:?}"))?;
    assert_ne!(page.is_truncated(), Some(true));
    let versions = page.versions().iter().map(|entry| (entry.key(), entry.version_id()));
    let markers = page.delete_markers().iter().map(|entry| (entry.key(), entry.version_id()));
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(versions.chain(markers).map(|(key, id)| (text(key), text(id))).collect())
}

fn versions_of<'a>(
    all: &'a BTreeSet<(String, String)>,
    keys: &BTreeSet<String>,
) -> Vec<&'a (String, String)> {
    all.iter().filter(|(key, _)| keys.contains(key)).collect()
}

/// Asserts that the held versions equal `before` until the required number of ceilings has passed. Each round waits
/// until the newest other recording has expired.
async fn assert_held_past_ceilings(
    s3: &Client,
    bucket: &str,
    held: &BTreeSet<String>,
    before: &[&(String, String)],
    began: Instant,
) {
    loop {
        let newest = eventually("the recorder records a new segment", HANG, || async {
            let keys = list_recordings(s3, bucket).await?.into_iter().map(|(key, _)| key);
            let newest = keys.filter(|key| !held.contains(key)).max();
            Ok(BTreeSet::from([newest.ok_or("nothing new")?]))
        })
        .await;
        eventually("no version and no delete marker of a later recording", HANG, || async {
            let recordings = list_recordings(s3, bucket).await?;
            let left = versions_of(&recordings, &newest);
            left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
        })
        .await;
        let recordings = list_recordings(s3, bucket).await.unwrap();
        assert_eq!(versions_of(&recordings, held), before, "held versions are unchanged");
        if began.elapsed() > CEILING * outlived_ceilings() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_incident_outlives_ceiling_and_expires_after_resolution() {
    let _operator = operator::shared().await;
    let server = S3Server::secondary();
    let s3 = client(&server, server.bucket_maker());
    let scene = Scene::new(&cluster::client().await, "outlives", server, |policy, _| {
        policy["spec"]["retention"] = json!({"video": "5d", "calls": "5d"});
    })
    .await;
    let bucket = scene.bucket.name.clone();
    scene.camera(CAMERA, "h264/5").await;
    scene.wait_for_camera(CAMERA, "Recording", "True", HANG).await;

    // The window starts once the recorder has acknowledged the hold. Earlier segments may have expired by then: a day
    // is ten seconds here.
    scene.declare("incident", &[CAMERA], Timestamp::now(), None).await;
    scene.wait_for_hold("incident", "Placed", "True", HANG).await;
    let from = Timestamp::now();
    let until = from + SignedDuration::from_secs(15);
    let holds = scene.namespace.api::<IncidentHold>();
    let ends = Patch::Merge(json!({"spec": {"window": {"until": until}}}));
    holds.patch("incident", &PatchParams::default(), &ends).await.unwrap();
    // The recorder may seal more segments until it knows the window's end.
    let (recorded, neighbour) = eventually("a segment after the incident", HANG, || async {
        let recorded = list_recordings(&s3, &bucket).await?.into_iter().map(|(key, _)| key);
        let recorded: BTreeSet<String> = recorded.collect();
        let newest = recorded.last().cloned().ok_or("nothing yet")?;
        let found = protection(&s3, &bucket, &newest).await;
        let is_after = newest.parse::<Key>().unwrap().start() >= until;
        let is_unprotected = matches!(&found, Some((false, tag)) if tag == "video");
        (is_after && is_unprotected)
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
        // The recorder uploads it sealed; the operator sets the legal hold soon after.
        eventually("a covered segment is held", HANG, || async {
            let found = protection(&s3, &bucket, key).await;
            let is_held = matches!(&found, Some((true, tag)) if tag == "sealed" || tag == "held");
            is_held.then_some(()).ok_or_else(|| format!("{key}: {found:?}"))
        })
        .await;
    }
    let (began, before) = (Instant::now(), list_recordings(&s3, &bucket).await.unwrap());
    let before = versions_of(&before, &held);
    assert_eq!(before.len(), held.len(), "one version each and no delete marker: {before:?}");

    eventually("no version and no delete marker of the recordings next to it", HANG, || async {
        let all = list_recordings(&s3, &bucket).await?;
        let left = versions_of(&all, &neighbours);
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
    println!("{} recordings next to it expired {:?} later", neighbours.len(), began.elapsed());
    assert_held_past_ceilings(&s3, &bucket, &held, &before, began).await;
    println!("{} segments held for {:?}, of a ceiling of {CEILING:?}", held.len(), began.elapsed());

    let resolved = Instant::now();
    scene.resolve("incident").await;
    eventually("no version and no delete marker of the released recordings", HANG, || async {
        let all = list_recordings(&s3, &bucket).await?;
        let left = versions_of(&all, &held);
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
    println!("expired {:?} after the resolution", resolved.elapsed());
    scene.wait_for_hold("incident", "Released", "True", HANG).await;
    scene.delete().await;
}
