//! Looks of an operator that a test causes, so that it can count what the operator writes meanwhile.

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

/// So many rounds on end without a write. In the first, a look may end that began before.
const ROUNDS: usize = 3;
const LOOKS: &str = "toezicht_reconciles_total{controller=\"";

/// Touches all objects of `namespace` and waits until the operator has looked at each, round by round, until it has written
/// nothing in three rounds on end. An operator that writes the same again never comes to that.
///
/// `metrics` gives what the operator serves, of all its processes; `is_its` tells its writes.
pub async fn wait_until_in_sync<M>(
    namespace: &TestNamespace,
    metrics: impl Fn() -> M,
    is_its: impl Fn(&Value) -> bool,
) where
    M: Future<Output = Result<String, String>>,
{
    let silent = AtomicUsize::new(0);
    eventually("looks at what is in sync write nothing", HANG, || async {
        let mark = audit::end();
        reconcile_all(namespace, &metrics).await;
        let mut writes = audit::writes_until_now(namespace, mark).await;
        writes.retain(&is_its);
        if writes.is_empty() {
            silent.fetch_add(1, Ordering::Relaxed);
        } else {
            silent.store(0, Ordering::Relaxed);
        }
        let writes = || format!("{:#?}", writes.iter().map(audit::told).collect::<Vec<_>>());
        (silent.load(Ordering::Relaxed) == ROUNDS).then_some(()).ok_or_else(writes)
    })
    .await;
}

/// Touches all objects of `namespace`, and waits until each was looked at by every controller of its kind.
pub async fn reconcile_all<M>(namespace: &TestNamespace, metrics: impl Fn() -> M)
where
    M: Future<Output = Result<String, String>>,
{
    let before =
        eventually("the operator serves metrics", HANG, || async { Ok(looks(&metrics().await?)) }).await;
    let sites = touch::<Site>(namespace).await;
    let caused = [
        ("Site", sites),
        ("Retention", sites),
        ("Audit", sites),
        ("Camera", touch::<Camera>(namespace).await),
        ("RecordingPolicy", touch::<RecordingPolicy>(namespace).await),
        ("IncidentHold", touch::<IncidentHold>(namespace).await),
    ];
    eventually("the operator has looked at all", HANG, || async {
        let now = looks(&metrics().await?);
        let of = |all: &BTreeMap<String, u64>, kind: &str| all.get(kind).copied().unwrap_or_default();
        let lacks = |(kind, count): &&(&str, u64)| of(&now, kind) < of(&before, kind) + count;
        match caused.iter().find(lacks) {
            None => Ok(()),
            Some(lacking) => Err(format!("{lacking:?}: {before:?}, now {now:?}")),
        }
    })
    .await;
}

/// How often each controller has looked at anything.
fn looks(metrics: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, count)) = line.strip_prefix(LOOKS).and_then(|line| line.rsplit_once(' ')) else {
            continue;
        };
        let (controller, _) = labels.split_once('"').unwrap();
        *all.entry(controller.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    all
}

/// Changes an annotation of all objects of a kind; how many there are.
async fn touch<K>(namespace: &TestNamespace) -> u64
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api = namespace.api::<K>();
    let all = api.list_metadata(&ListParams::default()).await.unwrap().items;
    let now = jiff::Timestamp::now().to_string();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"touched": now}}}));
    for object in &all {
        api.patch_metadata(&object.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
    all.len() as u64
}
