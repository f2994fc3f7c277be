//! Step five: applies the plan.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::{Api, Client, ResourceExt};

use super::names::{ChildNames, FIELD_MANAGER};
use super::plan::{RecorderPlan, SitePlan};
use super::workload::{
    AppliedRecorders, ExpectedRecorders, controlled_by, delete_workload, is_recorder, is_terminated,
    list_site_pods, replicas, touch_pods, workload_pods,
};
use super::{drain, objects, query};
use crate::controllers::kubernetes::apply::{AppliedObject, ApplyError, WriteReason, apply_child, get_owned};
use crate::controllers::recorder_client::RecorderClient;

#[derive(Clone, Debug, Default)]
pub struct AppliedPlan {
    /// The recorders; `None`: the plan has none.
    pub recorders: Option<AppliedRecorders>,
    /// Segments in the spools of pods that are to be removed. These pods stay until the segments are uploaded.
    pub pending_segments: u64,
    /// Recorder pods that are terminating or to be removed. They may upload by an earlier configuration.
    pub leaving_pods: usize,
    pub is_changed: bool,
}

/// Applies `plan` in the order of its dependencies. Writes nothing if everything is in sync.
pub async fn apply(
    client: &Client,
    recorders: &RecorderClient,
    names: &ChildNames,
    plan: SitePlan,
) -> Result<AppliedPlan, ApplyError> {
    let namespace = names.namespace.as_str();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let Some(planned) = plan.recorders else {
        return Ok(AppliedPlan {
            leaving_pods: count_leaving_pods(&list_site_pods(&pods, names).await?, names, 0, &[]),
            ..AppliedPlan::default()
        });
    };
    // Without `..`: the compiler then finds a field that this function forgets.
    let RecorderPlan { service_account, service, config_secret, workload, expected } = planned;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let account = apply_child(&accounts, FIELD_MANAGER, service_account).await?;
    let service = apply_child(&services, FIELD_MANAGER, service).await?;
    let secret = apply_child(&secrets, FIELD_MANAGER, config_secret).await?;
    let (workload, pending_segments) =
        Box::pin(ensure_workload(client, recorders, names, workload, &expected)).await?;
    let writes = [
        ("ServiceAccount", account.write_reason),
        ("Service", service.write_reason),
        ("Secret", secret.write_reason),
        ("StatefulSet", workload.write_reason),
    ];
    for (kind, reason) in &writes {
        log_write(names, kind, reason.as_ref());
    }
    let all = list_site_pods(&pods, names).await?;
    let own: Vec<Pod> = controlled_by(&workload.object, &all).cloned().collect();
    let leaving_pods = count_leaving_pods(&all, names, expected.pods, &own);
    // After the Secret, or the kubelet would renew the mount with the previous configuration.
    let is_touched = touch_pods(&pods, &own, &expected.revision).await?;
    Ok(AppliedPlan {
        recorders: Some(AppliedRecorders { expected, pods: own }),
        pending_segments,
        leaving_pods,
        is_changed: is_touched || writes.iter().any(|(_, reason)| reason.is_some()),
    })
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

/// Applies the StatefulSet, and returns the segments that wait in the spools of pods to be removed: a spool is lost with its
/// pod. Re-creates a StatefulSet that cannot be updated, once none waits: the old pods then terminate.
async fn ensure_workload(
    client: &Client,
    recorders: &RecorderClient,
    names: &ChildNames,
    mut desired: StatefulSet,
    expected: &ExpectedRecorders,
) -> Result<(AppliedObject<StatefulSet>, u64), ApplyError> {
    let api = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let Some(live) = get_owned(&api, &names.recorder, &names.uid).await? else {
        return Ok((apply_child(&api, FIELD_MANAGER, desired).await?, 0));
    };
    let must_recreate = !objects::can_be_updated(&desired, &live);
    let (current_replicas, desired_replicas) = (replicas(&live), replicas(&desired));
    let first_removed_shard = if must_recreate { 0 } else { desired_replicas };
    if first_removed_shard < current_replicas {
        let pods = workload_pods(&Api::namespaced(client.clone(), &names.namespace), names, &live).await?;
        let expected = ExpectedRecorders { pods: current_replicas, ..expected.clone() };
        let mut replies =
            query::query_recorders(recorders, names, &AppliedRecorders { expected, pods }).await;
        replies.retain(|reply| reply.shard >= first_removed_shard);
        let pending = drain::pending_segments(&replies);
        if pending > 0 && must_recreate {
            return Ok((AppliedObject { object: live, write_reason: None }, pending));
        }
        if pending > 0 {
            // Everything but the replicas: the pods that stay need the new template now.
            desired.spec.get_or_insert_default().replicas = i32::try_from(current_replicas).ok();
            return Ok((apply_child(&api, FIELD_MANAGER, desired).await?, pending));
        }
    }
    if must_recreate {
        tracing::info!(
            namespace = names.namespace,
            site = names.site,
            "re-creating the recorders' StatefulSet"
        );
        delete_workload(&api, &live).await?;
    }
    Ok((apply_child(&api, FIELD_MANAGER, desired).await?, 0))
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
