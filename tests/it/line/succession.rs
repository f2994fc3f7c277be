//! Succession of policies (article 10): a policy that replaces another takes over its sites without a gap in recording or
//! retention.

use jiff::{SignedDuration, Timestamp, Unit};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::{Ceilings, Days, RecordingPolicy, Site, SiteStatus};

use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::{segments, segments_with_gaps};
use crate::support::scene::{POLICY, SITE, Scene, has, policy};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const SUCCESSOR: &str = "heusden-2026";

#[tokio::test(flavor = "multi_thread")]
async fn successor_takes_over_without_a_gap() {
    let _operator = operator::shared().await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-succession", S3Server::primary(), |_, _| ()).await;
    scene.camera("receptie", "h264/6").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;

    let from = (Timestamp::now() + SignedDuration::from_secs(15)).round(Unit::Second).unwrap();
    scene.create::<RecordingPolicy>(successor(SUCCESSOR, from)).await;
    eventually("the predecessor names its successor", HANG, || async {
        let policy: RecordingPolicy = scene.namespace.api().get(POLICY).await.map_err(|e| e.to_string())?;
        let replaced_by = policy.status.and_then(|status| status.replaced_by);
        let is_named = replaced_by.as_ref().is_some_and(|by| by.name == SUCCESSOR && by.from_time.0 == from);
        is_named.then_some(()).ok_or_else(|| format!("{replaced_by:?}"))
    })
    .await;
    let before = site_status(&scene).await.unwrap();
    // On a slow machine the time may have come.
    if Timestamp::now() < from {
        assert_eq!(before.policy.unwrap().name, POLICY);
        assert_eq!(before.ceilings, Some(Ceilings { video: Days(28), calls: Days(7) }));
    }
    wait_until_governed(&scene, Days(20), Days(6)).await;
    eventually("the predecessor is withdrawn", HANG, || async {
        let policy: RecordingPolicy = scene.namespace.api().get(POLICY).await.map_err(|e| e.to_string())?;
        has(&policy.status.unwrap_or_default().conditions, "InForce", "False")
    })
    .await;

    let policies = scene.namespace.api::<RecordingPolicy>();
    policies.delete(POLICY, &DeleteParams::default()).await.unwrap();
    // A rival changes nothing at a site that the other one governs.
    scene.create::<RecordingPolicy>(successor("rival", from)).await;
    for name in [SUCCESSOR, "rival"] {
        eventually(&format!("{name} is rejected"), HANG, || async {
            let policy = policies.get(name).await.map_err(|e| e.to_string())?;
            let conditions = policy.status.unwrap_or_default().conditions;
            let accepted = conditions.iter().find(|condition| condition.type_ == "Accepted");
            let is_named = accepted.is_some_and(|accepted| {
                accepted.status == "False"
                    && [SUCCESSOR, "rival"].iter().all(|name| accepted.message.contains(name))
            });
            is_named.then_some(()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await;
    }
    // Ceilings follow the successor's edits.
    let retention = json!({"spec": {"retention": {"video": "19d"}}});
    policies.patch(SUCCESSOR, &PatchParams::default(), &Patch::Merge(retention)).await.unwrap();
    wait_until_governed(&scene, Days(19), Days(6)).await;
    let edited_at = Timestamp::now();
    eventually("a segment after all changes", HANG, || async {
        let recorded = segments(&scene.bucket, "receptie").await;
        let last = recorded.last().map(|segment| segment.key.start());
        last.filter(|last| *last > edited_at).map(|_| ()).ok_or_else(|| format!("{last:?}"))
    })
    .await;
    let (_, gaps) = segments_with_gaps(&scene.bucket, "receptie", 0).await;
    assert_eq!(gaps, [], "recording went on through the succession");
    scene.wait_for_site("Ready", "True", HANG).await;
    scene.delete().await;
}

/// Returns a policy that replaces the scene's, with lower ceilings.
fn successor(name: &str, from: Timestamp) -> Value {
    let mut policy = policy();
    policy["metadata"]["name"] = name.into();
    policy["spec"]["replaces"] = POLICY.into();
    policy["spec"]["inForce"]["from"] = from.to_string().into();
    policy["spec"]["retention"] = json!({"video": "20d", "calls": "6d"});
    policy
}

async fn site_status(scene: &Scene) -> Result<SiteStatus, String> {
    let site: Site = scene.namespace.api().get(SITE).await.map_err(|e| e.to_string())?;
    Ok(site.status.unwrap_or_default())
}

/// Waits until the successor governs the site, with these ceilings in status and lifecycle rules.
async fn wait_until_governed(scene: &Scene, video: Days, calls: Days) {
    eventually(&format!("the successor governs, with {video} and {calls}"), HANG, || async {
        let status = site_status(scene).await?;
        has(&status.conditions, "Accepted", "True")?;
        let policy = status.policy.ok_or("no policy")?;
        let storage = status.storage.ok_or("no storage")?;
        let rules = [storage.video_expiration_days, storage.calls_expiration_days];
        let expected = [video, calls].map(|days| i32::try_from(days.0).ok().map(|days| days - 4));
        let is_there = policy.name == SUCCESSOR
            && policy.policy_ref == POLICY
            && status.ceilings == Some(Ceilings { video, calls })
            && rules == expected;
        is_there.then_some(()).ok_or_else(|| format!("{policy:?} {:?} {rules:?}", status.ceilings))
    })
    .await;
}
