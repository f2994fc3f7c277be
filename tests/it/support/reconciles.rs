//! Triggers reconciles, so that a test can count the writes they cause.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};

use super::audit;
use super::cluster::TestNamespace;
use super::wait::{HANG, eventually};

/// Number of consecutive rounds without a write. A reconcile that began earlier may still end in the first.
const QUIET_ROUNDS: usize = 3;
const RECONCILES_TOTAL: &str = "toezicht_reconciles_total{controller=\"";

/// Reconciles all objects of `namespace` in rounds, until three consecutive rounds cause no write. An operator that
/// keeps writing the same state never gets there, and the test fails. `metrics` returns the metrics of all the
/// operator's processes. `is_operator_write` selects the operator's writes in the audit log.
pub async fn wait_until_in_sync<M>(
    namespace: &TestNamespace,
    metrics: impl Fn() -> M,
    is_operator_write: impl Fn(&Value) -> bool,
) where
    M: Future<Output = Result<String, String>>,
{
    let quiet_rounds = AtomicUsize::new(0);
    eventually("reconciles of objects in sync write nothing", HANG, || async {
        let mark = audit::end();
        reconcile_all(namespace, &metrics).await;
        let mut writes = audit::writes_until_now(namespace, mark).await;
        writes.retain(&is_operator_write);
        if writes.is_empty() {
            quiet_rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            quiet_rounds.store(0, Ordering::Relaxed);
        }
        let writes = || format!("{:#?}", writes.iter().map(audit::describe).collect::<Vec<_>>());
        (quiet_rounds.load(Ordering::Relaxed) == QUIET_ROUNDS).then_some(()).ok_or_else(writes)
    })
    .await;
}

/// Touches all objects of `namespace` and waits until every controller of their kinds has reconciled them.
pub async fn reconcile_all<M>(namespace: &TestNamespace, metrics: impl Fn() -> M)
where
    M: Future<Output = Result<String, String>>,
{
    let before =
        eventually("the operator serves metrics", HANG, || async { Ok(reconcile_counts(&metrics().await?)) })
            .await;
    let sites = touch::<Site>(namespace).await;
    let expected = [
        ("Site", sites),
        ("Retention", sites),
        ("Audit", sites),
        ("Camera", touch::<Camera>(namespace).await),
        ("RecordingPolicy", touch::<RecordingPolicy>(namespace).await),
        ("IncidentHold", touch::<IncidentHold>(namespace).await),
    ];
    eventually("the operator has reconciled all objects", HANG, || async {
        let now = reconcile_counts(&metrics().await?);
        let count_of = |all: &BTreeMap<String, u64>, kind: &str| all.get(kind).copied().unwrap_or_default();
        let is_missing =
            |(kind, count): &&(&str, u64)| count_of(&now, kind) < count_of(&before, kind) + count;
        match expected.iter().find(is_missing) {
            None => Ok(()),
            Some(missing) => Err(format!("{missing:?}: {before:?}, now {now:?}")),
        }
    })
    .await;
}

/// Returns the number of reconciles of each controller.
fn reconcile_counts(metrics: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, count)) =
            line.strip_prefix(RECONCILES_TOTAL).and_then(|line| line.rsplit_once(' '))
        else {
            continue;
        };
        let (controller, _) = labels.split_once('"').unwrap();
        *all.entry(controller.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    all
}

/// Changes an annotation of all objects of a kind and returns their number.
async fn touch<K>(namespace: &TestNamespace) -> u64
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api = namespace.api::<K>();
    let objects = api.list_metadata(&ListParams::default()).await.unwrap().items;
    let now = jiff::Timestamp::now().to_string();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"touched": now}}}));
    for object in &objects {
        api.patch_metadata(&object.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
    objects.len() as u64
}
