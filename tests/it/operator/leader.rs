//! Only one of several operators writes, even if the leader is frozen, thawed or stopped.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use toezicht::api::RecordingPolicy;
use tokio_util::sync::CancellationToken;

use super::process::{LEASE, Process, leader, wait_for_leader, with_chart_scaled_down};
use crate::support::audit::{self, Mark};
use crate::support::cluster::TestNamespace;
use crate::support::scene::{has, policy};
use crate::support::wait::{HANG, eventually};

/// Number of policies that change continuously, so that a leader is always in the middle of a write.
const CHANGING_POLICIES: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn frozen_leader_is_replaced_and_writes_nothing_after_thaw() {
    with_chart_scaled_down("leader-frozen", |namespace| async move {
        let mut first = Process::start(&namespace, "frozen-first");
        wait_for_leader(&namespace, "frozen-first").await;
        let second = Process::start(&namespace, "frozen-second");
        first.wait_until_ready().await;
        second.wait_until_ready().await;
        let (status, metrics) = first.get("/metrics").await.unwrap();
        assert!(status == 200 && metrics.lines().any(|line| line == "toezicht_leader 1"), "{metrics}");
        assert!(second.get("/metrics").await.unwrap().1.lines().any(|line| line == "toezicht_leader 0"));

        for number in 0..CHANGING_POLICIES {
            create_policy(&namespace, &format!("busy-{number}")).await;
        }
        let stop = CancellationToken::new();
        let changes =
            tokio::spawn(change_policies(namespace.client.clone(), namespace.name.clone(), stop.clone()));
        wait_until_reported(&namespace, "busy-0").await;

        let before = audit::end();
        eventually("the leader writes", HANG, || async {
            let writes = writes_of("frozen-first", before);
            (writes.len() > 10).then_some(()).ok_or_else(|| format!("{writes:?}"))
        })
        .await;
        first.signal("STOP").await;
        create_policy(&namespace, "after").await;
        wait_until_reported(&namespace, "after").await;
        assert_eq!(leader(&namespace).await.unwrap(), "frozen-second");

        let thawed = audit::end();
        first.signal("CONT").await;
        let ended = first.wait_for_exit().await;
        assert_eq!(ended.code(), Some(3), "{}", first.log());
        // The second leader keeps writing. Pending writes of the first arrive before these.
        let exited = audit::end();
        eventually("the second leader writes", HANG, || async {
            let writes = writes_of("frozen-second", exited);
            (writes.len() > 10).then_some(()).ok_or_else(|| format!("{writes:?}"))
        })
        .await;
        let all = audit::writes_until_now(&namespace, thawed).await;
        let late = all.iter().filter(|event| audit::is_write_of(event, "frozen-first"));
        let late: Vec<String> = late.map(audit::describe).collect();
        assert!(late.is_empty(), "{late:#?}\n{}", first.log());
        assert_eq!(leader(&namespace).await.unwrap(), "frozen-second");
        stop.cancel();
        changes.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_leader_releases_its_lease_at_once() {
    with_chart_scaled_down("leader-stops", |namespace| async move {
        let mut first = Process::start(&namespace, "stops-first");
        wait_for_leader(&namespace, "stops-first").await;
        let second = Process::start(&namespace, "stops-second");
        second.wait_until_ready().await;
        let api = namespace.api::<Lease>();
        let version = api.get(LEASE).await.unwrap().metadata.resource_version.unwrap();
        first.signal("TERM").await;
        wait_for_leader(&namespace, "stops-second").await;
        let ended = first.wait_for_exit().await;
        assert!(ended.success(), "{ended}: {}", first.log());
        // The Lease was released, not expired: for a moment it had no holder.
        let name = WatchParams::default().fields(&format!("metadata.name={LEASE}"));
        let mut versions = api.watch(&name, &version).await.unwrap().boxed();
        let mut holders = Vec::new();
        while !holders.iter().any(|holder: &String| holder.starts_with("stops-second")) {
            let version = versions.try_next().await.unwrap();
            let Some(WatchEvent::Modified(lease)) = version else { panic!("{version:?} after {holders:?}") };
            holders.push(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default());
        }
        holders.dedup();
        let previous_holder = holders.iter().rev().nth(1);
        assert_eq!(previous_holder, Some(&String::new()), "{holders:?}\n{}", first.log());
        create_policy(&namespace, "after").await;
        wait_until_reported(&namespace, "after").await;
    })
    .await;
}

fn writes_of(instance: &str, from: Mark) -> Vec<Value> {
    let mut writes = audit::since(from);
    writes.retain(|event| audit::is_write_of(event, instance));
    writes
}

async fn create_policy(namespace: &TestNamespace, name: &str) {
    let mut policy = policy();
    policy["metadata"]["name"] = name.into();
    let policy: RecordingPolicy = serde_json::from_value(policy).unwrap();
    namespace.api::<RecordingPolicy>().create(&PostParams::default(), &policy).await.unwrap();
}

async fn wait_until_reported(namespace: &TestNamespace, name: &str) {
    eventually(&format!("the status of {name} is reported"), HANG, || async {
        let policy = namespace.api::<RecordingPolicy>().get(name).await.map_err(|e| e.to_string())?;
        has(&policy.status.unwrap_or_default().conditions, "Ready", "True")
    })
    .await;
}

/// Changes policies continuously, so that each change needs a new status.
async fn change_policies(client: kube::Client, namespace: String, stop: CancellationToken) {
    let api = kube::Api::<RecordingPolicy>::namespaced(client, &namespace);
    let mut round = 0_i64;
    while !stop.is_cancelled() {
        round += 1;
        let until = Timestamp::from_second(4_000_000_000 + round).unwrap();
        let patch = json!({"spec": {"inForce": {"until": until.to_string()}}});
        for number in 0..CHANGING_POLICIES {
            let name = format!("busy-{number}");
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
