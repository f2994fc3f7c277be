//! Step five: applies the plan.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::{Api, ResourceExt};

use super::drain::SpoolReport;
use super::names::{ChildNames, FIELD_MANAGER};
use super::plan::{RecorderPlan, closing_config};
use super::query::ShardReply;
use super::rollout::Rollout;
use super::workload::{
    AppliedRecorders, ExpectedRecorders, cached_site_pods, delete_workload, fetch_recorder_config,
    is_recorder, is_terminated, list_site_pods, read_config, replicas, touch_pods,
};
use super::{drain, objects, query, rollout};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::apply::{AppliedObject, WriteReason, apply_child, apply_over, get_owned};
use crate::controllers::kubernetes::{ApplyError, meta};
use crate::controllers::recorder_client::RecorderClient;
use crate::controllers::watch_cache::WatchCache;
use crate::wire::{GapCause, RecorderConfig};

#[derive(Clone, Debug, Default)]
pub struct AppliedPlan {
    /// The recorders; `None`: the plan has none.
    pub recorders: Option<AppliedRecorders>,
    /// Spools of pods that are to be removed. These pods stay until their spools are empty.
    pub pending: SpoolReport,
    /// Step of a change of the pods' template.
    pub rollout: Rollout,
    /// Spools of pods that were removed although they were not proved empty.
    pub given_up: SpoolReport,
    /// Recorder pods that are terminating or to be removed. They may upload by an earlier configuration.
    pub leaving_pods: usize,
    pub is_changed: bool,
}

/// Applies `plan` in the order of its dependencies. Writes nothing if everything is in sync. `is_held`: holds depend on what the
/// recorders acknowledge. `is_given_up`: people give up what is in the spools of pods that are to be removed.
pub async fn apply(
    context: &Context,
    names: &ChildNames,
    plan: Option<RecorderPlan>,
    is_held: bool,
    is_given_up: bool,
) -> Result<AppliedPlan, ApplyError> {
    let Context { client, cache, recorders, .. } = context;
    let namespace = names.namespace.as_str();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let Some(planned) = plan else {
        return Ok(AppliedPlan {
            leaving_pods: count_leaving_pods(&list_site_pods(&pods, names).await?, names, 0, &[]),
            ..AppliedPlan::default()
        });
    };
    // Without `..`: the compiler then finds a field that this function forgets.
    let RecorderPlan {
        service_account,
        service,
        mut config_secret,
        mut workload,
        mut expected,
        recorded_until,
    } = planned;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let workloads = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    let account = apply_child(&accounts, &cache.service_accounts, FIELD_MANAGER, service_account).await?;
    let service = apply_child(&services, &cache.services, FIELD_MANAGER, service).await?;
    let (live, mut all) = match cached_recorders(cache, names, &workload).filter(|_| !is_held) {
        Some((live, pods)) => (Some(live), pods),
        None => {
            (get_owned(&workloads, &names.recorder, &names.uid).await?, list_site_pods(&pods, names).await?)
        }
    };
    let removal = live.clone().and_then(|live| Removal::new(live, &workload));
    if let Some(removal) = &removal
        && removal.must_recreate
    {
        let replies = removal.query(recorders, names, &expected, &all).await;
        let current = fetch_recorder_config(secrets.clone(), names).await?;
        if let Some(closing) = closing_plan(names, &config_secret, current.as_ref(), &replies) {
            (config_secret, expected.revision) = closing;
        }
    }
    let secret = apply_child(&secrets, &cache.recorder_configs, FIELD_MANAGER, config_secret).await?;
    let (mut pending, mut given_up) = (SpoolReport::default(), SpoolReport::default());
    if let Some(removal) = &removal {
        let replies = removal.query(recorders, names, &expected, &all).await;
        let is_empty = drain::is_empty_at(&expected.revision);
        let report = drain::report_spools(&removal.live, names, &all, &replies, is_empty);
        *(if is_given_up { &mut given_up } else { &mut pending }) = report;
    }
    let mut rollout = Rollout::default();
    if let Some(live) = live.as_ref().filter(|live| objects::can_be_updated(&workload, live)) {
        if let Some(outdated) = rollout::outdated_shards(live, &workload, names, &all) {
            let replies = query_live(live, recorders, names, &expected, &all).await;
            rollout =
                rollout::next_step(live, &outdated, names, &all, &replies, &recorded_until, is_given_up);
            given_up.extend(std::mem::take(&mut rollout.given_up));
        }
        // Closed otherwise: a change that this comparison does not see must not reach a pod.
        let closed = replicas(live).max(replicas(&workload));
        objects::set_partition(&mut workload, rollout.partition.unwrap_or(closed));
    }
    let workload = match &removal {
        Some(Removal { live, must_recreate: true, .. }) if !pending.is_empty() => {
            AppliedObject { object: live.clone(), write_reason: None }
        }
        Some(Removal { live, must_recreate: true, .. }) => {
            let (namespace, site) = (&names.namespace, &names.site);
            tracing::info!(namespace, site, "re-creating the recorders' StatefulSet");
            delete_workload(&workloads, live).await?;
            apply_child(&workloads, &cache.workloads, FIELD_MANAGER, workload).await?
        }
        Some(Removal { live, .. }) if !pending.is_empty() => {
            // Everything but the replicas.
            workload.spec.get_or_insert_default().replicas = i32::try_from(replicas(live)).ok();
            apply_over(&workloads, &cache.workloads, FIELD_MANAGER, workload, Some(live.clone())).await?
        }
        _ => apply_over(&workloads, &cache.workloads, FIELD_MANAGER, workload, live).await?,
    };
    let writes = [
        ("ServiceAccount", account.write_reason),
        ("Service", service.write_reason),
        ("Secret", secret.write_reason),
        ("StatefulSet", workload.write_reason),
    ];
    let is_written = log_writes(names, &writes);
    if is_written {
        all = list_site_pods(&pods, names).await?;
    }
    let applied = AppliedRecorders::new(expected, &workload.object, &all);
    let AppliedRecorders { expected, pods: own, .. } = &applied;
    let leaving_pods = count_leaving_pods(&all, names, expected.pods, own);
    // After the Secret, or the kubelet would renew the mount with the previous configuration.
    let is_touched = touch_pods(&pods, own, &expected.revision).await?;
    Ok(AppliedPlan {
        recorders: Some(applied),
        pending,
        rollout,
        given_up,
        leaving_pods,
        is_changed: is_touched || is_written,
    })
}

/// Returns StatefulSet and pods as the watch cache has them; `None`: what follows needs the API server. A pod that the cache does
/// not have yet must not count as gone when others are removed.
fn cached_recorders(
    cache: &WatchCache,
    names: &ChildNames,
    desired: &StatefulSet,
) -> Option<(StatefulSet, Vec<Pod>)> {
    let live = cache.workloads.get_current(&names.namespace, &names.recorder)?;
    let is_own = meta::is_controlled_by(&*live, &names.uid);
    let live = StatefulSet::clone(&live);
    (is_own && Removal::new(live.clone(), desired).is_none()).then(|| (live, cached_site_pods(cache, names)))
}

/// Counts the recorders in `pods` that this operator does not query, so that their acknowledgement is unknown. It queries one
/// of the `own` pods for each shard.
fn count_leaving_pods(pods: &[Pod], names: &ChildNames, shards: u32, own: &[Pod]) -> usize {
    let is_expected = |pod: &Pod| (0..shards).any(|shard| pod.name_any() == names.pod(shard));
    let is_queried = |pod: &Pod| is_expected(pod) && own.iter().any(|own| own.uid() == pod.uid());
    let leaving =
        pods.iter().filter(|pod| is_recorder(pod, names) && !is_terminated(pod) && !is_queried(pod));
    leaving.count()
}

/// Recorders that exist, and what the plan does to them.
struct Removal {
    live: StatefulSet,
    /// The StatefulSet cannot be updated: its pods go, and it is created again.
    must_recreate: bool,
    /// First shard whose pod is to be removed.
    first_shard: u32,
}

impl Removal {
    /// Returns the removal that `desired` needs; `None`: no pod is to be removed.
    fn new(live: StatefulSet, desired: &StatefulSet) -> Option<Self> {
        let must_recreate = !objects::can_be_updated(desired, &live);
        let first_shard = if must_recreate { 0 } else { replicas(desired) };
        (must_recreate || first_shard < replicas(&live)).then_some(Self { live, must_recreate, first_shard })
    }

    /// Queries the recorders that are to be removed. `pods` are all pods of the Site.
    async fn query(
        &self,
        recorders: &RecorderClient,
        names: &ChildNames,
        expected: &ExpectedRecorders,
        pods: &[Pod],
    ) -> Vec<ShardReply> {
        let mut replies = query_live(&self.live, recorders, names, expected, pods).await;
        replies.retain(|reply| reply.shard >= self.first_shard);
        replies
    }
}

/// Queries all recorders of `live`. `pods` are all pods of the Site.
async fn query_live(
    live: &StatefulSet,
    recorders: &RecorderClient,
    names: &ChildNames,
    expected: &ExpectedRecorders,
    pods: &[Pod],
) -> Vec<ShardReply> {
    let expected = ExpectedRecorders { pods: replicas(live), ..expected.clone() };
    query::query_recorders(recorders, names, &AppliedRecorders::new(expected, live, pods)).await
}

/// Returns the configuration of recorders that are to be replaced, and its revision, if they should stop recording now.
fn closing_plan(
    names: &ChildNames,
    planned: &Secret,
    current: Option<&RecorderConfig>,
    replies: &[ShardReply],
) -> Option<(Secret, String)> {
    let closed = closing_config(&read_config(planned)?, current, GapCause::RecorderRestarted);
    let is_closing = current.is_some_and(|current| {
        current.cameras.iter().all(|camera| camera.permitted.is_empty()) && !current.cameras.is_empty()
    });
    let owner = planned.metadata.owner_references.clone().unwrap_or_default();
    let secret = objects::config_secret(names, &owner, &closed);
    drain::should_close(replies, is_closing).then_some((secret, closed.revision))
}

/// Logs the writes by kind and returns whether there were any.
fn log_writes(names: &ChildNames, writes: &[(&str, Option<WriteReason>)]) -> bool {
    for (kind, reason) in writes {
        log_write(names, kind, reason.as_ref());
    }
    writes.iter().any(|(_, reason)| reason.is_some())
}

fn log_write(names: &ChildNames, kind: &str, reason: Option<&WriteReason>) {
    let (namespace, site) = (&names.namespace, &names.site);
    match reason {
        None => {}
        Some(WriteReason::Created) => tracing::info!(namespace, site, kind, "created"),
        Some(WriteReason::Changed) => tracing::info!(namespace, site, kind, "updated"),
        Some(WriteReason::Drifted(path)) => {
            tracing::warn!(namespace, site, kind, path, "restored after a change by another party");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing;

    fn pod(shard: u32, uid: &str, phase: &str) -> Pod {
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "zwembad-recorder", "uid": "w", "controller": true});
        serde_json::from_value(json!({
            "metadata": {"name": format!("zwembad-recorder-{shard}"), "uid": uid, "ownerReferences": [owner]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn unqueried_recorders_count_as_leaving_until_terminated() {
        let names = &ChildNames::of(&testing::site());
        let pods = [pod(0, "a", "Running"), pod(1, "b", "Running")];
        assert_eq!(count_leaving_pods(&pods, names, 2, &pods), 0);
        assert_eq!(count_leaving_pods(&pods, names, 1, &pods), 1, "scaled down");
        assert_eq!(count_leaving_pods(&pods, names, 2, &pods[..1]), 1, "being deleted, or of another owner");
        assert_eq!(count_leaving_pods(&pods, names, 0, &[]), 2, "the plan has no recorders");
        assert_eq!(count_leaving_pods(&[pod(0, "a", "Succeeded")], names, 0, &[]), 0);
    }
}
