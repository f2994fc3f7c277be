//! Of several operators one writes: also when it is frozen, thawed, or asked to stop.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use toezicht::api::RecordingPolicy;
use tokio_util::sync::CancellationToken;

use super::process::{Process, audit_length, leader, leads, without_the_chart, writes_of};
use crate::support::cluster::TestNamespace;
use crate::support::scene::{has, policy};
use crate::support::wait::{eventually, throughout};

/// Policies that change all the time, so that a leader is in the middle of a write whenever it is stopped.
const BUSY: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_replaced_and_writes_nothing_when_thawed() {
    without_the_chart("leader-frozen", |namespace| async move {
        let mut first = Process::start(&namespace, "frozen-first");
        leads(&namespace, "frozen-first", Duration::from_secs(20)).await;
        let second = Process::start(&namespace, "frozen-second");
        first.is_ready().await;
        second.is_ready().await;
        let (status, metrics) = first.get("/metrics").await.unwrap();
        assert!(
            status == 200 && metrics.lines().any(|line| line == "toezicht_leader 1"),
            "{metrics}"
        );
        assert!(
            second
                .get("/metrics")
                .await
                .unwrap()
                .1
                .lines()
                .any(|line| line == "toezicht_leader 0")
        );

        for number in 0..BUSY {
            create(&namespace, &format!("busy-{number}")).await;
        }
        let calm = CancellationToken::new();
        let churn = tokio::spawn(churn(
            namespace.client.clone(),
            namespace.name.clone(),
            calm.clone(),
        ));
        is_reported(&namespace, "busy-0", Duration::from_secs(20)).await;

        let before = audit_length();
        eventually("the leader writes", Duration::from_secs(10), || async {
            let writes = writes_of("frozen-first", before).len();
            if writes > 10 {
                Ok(())
            } else {
                Err(format!("{writes} writes"))
            }
        })
        .await;
        first.signal("STOP").await;
        let stopped = Instant::now();
        create(&namespace, "after").await;
        is_reported(&namespace, "after", Duration::from_secs(20)).await;
        assert!(
            stopped.elapsed() < Duration::from_secs(20),
            "{:?}",
            stopped.elapsed()
        );
        assert_eq!(leader(&namespace).await.unwrap(), "frozen-second");

        let thawed = audit_length();
        first.signal("CONT").await;
        let ended = first.ends(Duration::from_secs(15)).await;
        assert_eq!(ended.code(), Some(3), "{}", first.said());
        // Whatever it had under way would have arrived by now; the other goes on writing meanwhile.
        throughout("the second leads", Duration::from_secs(3), || async {
            let leader = leader(&namespace).await?;
            if leader == "frozen-second" {
                Ok(())
            } else {
                Err(format!("{leader} leads"))
            }
        })
        .await;
        let writes = writes_of("frozen-first", thawed);
        assert!(writes.is_empty(), "{writes:#?}\n{}", first.said());
        assert!(
            !writes_of("frozen-second", thawed).is_empty(),
            "{}",
            second.said()
        );
        calm.cancel();
        churn.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_stop_lets_go_at_once() {
    without_the_chart("leader-stops", |namespace| async move {
        let mut first = Process::start(&namespace, "stops-first");
        leads(&namespace, "stops-first", Duration::from_secs(20)).await;
        let second = Process::start(&namespace, "stops-second");
        second.is_ready().await;
        first.signal("TERM").await;
        let took = leads(&namespace, "stops-second", Duration::from_secs(12)).await;
        assert!(
            took < Duration::from_secs(8),
            "as if nobody had let go: {took:?}\n{}",
            first.said()
        );
        let ended = first.ends(Duration::from_secs(10)).await;
        assert!(ended.success(), "{ended}: {}", first.said());
        create(&namespace, "after").await;
        is_reported(&namespace, "after", Duration::from_secs(10)).await;
    })
    .await;
}

async fn create(namespace: &TestNamespace, name: &str) {
    let mut policy = policy();
    policy["metadata"]["name"] = name.into();
    let policy: RecordingPolicy = serde_json::from_value(policy).unwrap();
    namespace
        .api::<RecordingPolicy>()
        .create(&PostParams::default(), &policy)
        .await
        .unwrap();
}

async fn is_reported(namespace: &TestNamespace, name: &str, limit: Duration) {
    eventually(&format!("{name} is reported"), limit, || async {
        let policy = namespace
            .api::<RecordingPolicy>()
            .get(name)
            .await
            .map_err(|e| e.to_string())?;
        has(&policy.status.unwrap_or_default().conditions, "Ready", "True")
    })
    .await;
}

/// Changes policies such that their status has to be written anew each time.
async fn churn(client: kube::Client, namespace: String, calm: CancellationToken) {
    let api = kube::Api::<RecordingPolicy>::namespaced(client, &namespace);
    let mut round = 0_i64;
    while !calm.is_cancelled() {
        round += 1;
        let until = Timestamp::from_second(4_000_000_000 + round).unwrap();
        let patch = json!({"spec": {"inForce": {"until": until.to_string()}}});
        for number in 0..BUSY {
            let name = format!("busy-{number}");
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
