//! Step five: make it so.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::{Api, Client, ResourceExt};

use super::names::{ChildNames, FIELD_MANAGER};
use super::plan::{RecorderPlan, SitePlan};
use super::workload::{ExpectedRecorders, is_recorder, is_terminated};
use super::{drain, objects, query};
use crate::controllers::kubernetes::apply::{
    AppliedObject as Kept, ApplyError, WriteReason, apply_child, get_owned,
};
use crate::controllers::recorder_client::RecorderClient;
use crate::controllers::site::recorders::workload::{
    AppliedRecorders, controlled_by, delete_workload, list_site_pods, replicas, touch_pods, workload_pods,
};

#[derive(Clone, Debug, Default)]
pub struct AppliedPlan {
    /// The recorders; `None`: there should be none.
    pub recorders: Option<AppliedRecorders>,
    /// Segments in the spools of pods that are to go, and stay until these are uploaded.
    pub pending_segments: u64,
    /// Pods of recorders that are going, and may upload what they have by a configuration of before.
    pub leaving_pods: usize,
    pub is_changed: bool,
}

/// Applies `plan`, in the order in which one needs the other. Everything in sync means that nothing is written.
pub async fn apply(
    client: &Client,
    recorders: &RecorderClient,
    names: &ChildNames,
    plan: SitePlan,
) -> Result<AppliedPlan, ApplyError> {
    let SitePlan { recorders: planned } = plan;
    let namespace = names.namespace.as_str();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let Some(planned) = planned else {
        return Ok(AppliedPlan {
            leaving_pods: count_leaving_pods(&list_site_pods(&pods, names).await?, names, 0, &[]),
            ..AppliedPlan::default()
        });
    };
    // Destructured without `..`, so that what is added to the plan cannot be forgotten here.
    let RecorderPlan { service_account: account, service, config_secret: config, workload, expected } =
        planned;
    let account =
        apply_child(&Api::<ServiceAccount>::namespaced(client.clone(), namespace), FIELD_MANAGER, account)
            .await?;
    let service =
        apply_child(&Api::<Service>::namespaced(client.clone(), namespace), FIELD_MANAGER, service).await?;
    let config =
        apply_child(&Api::<Secret>::namespaced(client.clone(), namespace), FIELD_MANAGER, config).await?;
    let (workload, pending_segments) =
        Box::pin(ensure_workload(client, recorders, names, workload, &expected)).await?;
    for (kind, written) in [
        ("ServiceAccount", &account.write_reason),
        ("Service", &service.write_reason),
        ("Secret", &config.write_reason),
        ("StatefulSet", &workload.write_reason),
    ] {
        log_written(names, kind, written.as_ref());
    }
    let all = list_site_pods(&pods, names).await?;
    let ours: Vec<Pod> = controlled_by(&workload.object, &all).cloned().collect();
    let leaving_pods = count_leaving_pods(&all, names, expected.pods, &ours);
    let is_touched = touch_pods(&pods, &ours, &expected.revision).await?;
    let written = [account.write_reason, service.write_reason, config.write_reason, workload.write_reason];
    let is_changed = written.iter().any(Option::is_some) || is_touched;
    Ok(AppliedPlan {
        recorders: Some(AppliedRecorders { expected, pods: ours }),
        pending_segments,
        leaving_pods,
        is_changed,
    })
}

/// How many of `pods` are recorders that are going, or are to go: they may still upload. The others are those of `ours`
/// that are asked what they follow, one for each of so many shards.
fn count_leaving_pods(pods: &[Pod], names: &ChildNames, shards: u32, ours: &[Pod]) -> usize {
    let is_expected =
        |pod: &Pod| (0..shards).any(|shard| pod.name_any() == format!("{}-{shard}", names.recorder));
    let is_asked = |pod: &Pod| is_expected(pod) && ours.iter().any(|kept| kept.uid() == pod.uid());
    let leaving = pods.iter().filter(|pod| is_recorder(pod, names) && !is_terminated(pod) && !is_asked(pod));
    leaving.count()
}

/// Applies the StatefulSet, and tells for how many segments it waits before pods go: a spool goes with its pod.
/// One that can only be made what it must be by making it anew is deleted; its pods close what is open and go,
/// and the next look creates it.
async fn ensure_workload(
    client: &Client,
    recorders: &RecorderClient,
    names: &ChildNames,
    mut desired: StatefulSet,
    expected: &ExpectedRecorders,
) -> Result<(Kept<StatefulSet>, u64), ApplyError> {
    let api = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let Some(live) = get_owned(&api, &names.recorder, &names.uid).await? else {
        return Ok((apply_child(&api, FIELD_MANAGER, desired).await?, 0));
    };
    let must_recreate = !objects::can_be_updated(&desired, &live);
    let (current_replicas, desired_replicas) = (replicas(&live), replicas(&desired));
    // Of those that stay nothing is lost.
    let first_removed_shard = if must_recreate { 0 } else { desired_replicas };
    if first_removed_shard < current_replicas {
        let pods = workload_pods(&Api::namespaced(client.clone(), &names.namespace), names, &live).await?;
        let expected = ExpectedRecorders { pods: current_replicas, ..expected.clone() };
        let mut answers =
            query::query_recorders(recorders, names, &AppliedRecorders { expected, pods }).await;
        answers.retain(|answer| answer.shard >= first_removed_shard);
        let waiting = drain::pending_segments(&answers);
        if waiting > 0 && must_recreate {
            let kept = Kept { object: live, write_reason: None };
            return Ok((kept, waiting));
        }
        if waiting > 0 {
            let spec = desired.spec.get_or_insert_default();
            spec.replicas = i32::try_from(current_replicas).ok();
            return Ok((apply_child(&api, FIELD_MANAGER, desired).await?, waiting));
        }
    }
    if must_recreate {
        tracing::info!(
            namespace = names.namespace,
            site = names.site,
            "the recorders' StatefulSet is made anew"
        );
        delete_workload(&api, &live).await?;
    }
    Ok((apply_child(&api, FIELD_MANAGER, desired).await?, 0))
}

fn log_written(names: &ChildNames, kind: &str, written: Option<&WriteReason>) {
    let (namespace, site) = (&names.namespace, &names.site);
    match written {
        None => {}
        Some(WriteReason::Created) => tracing::info!(namespace, site, kind, "created"),
        Some(WriteReason::Changed) => tracing::info!(namespace, site, kind, "updated"),
        Some(WriteReason::Drifted(path)) => {
            tracing::warn!(namespace, site, kind, path, "put back what somebody else had changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::site::fixtures::fixture;
    use serde_json::json;

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
        let names = &ChildNames::of(&fixture().site);
        let ours = [pod(0, "a", "Running"), pod(1, "b", "Running")];
        assert_eq!(count_leaving_pods(&ours, names, 2, &ours), 0);
        assert_eq!(count_leaving_pods(&ours, names, 1, &ours), 1, "more than there are to be");
        assert_eq!(count_leaving_pods(&ours, names, 2, &ours[..1]), 1, "being deleted, or another's by now");
        assert_eq!(count_leaving_pods(&ours, names, 0, &[]), 2, "nothing is to be there any more");
        assert_eq!(count_leaving_pods(&[pod(0, "a", "Succeeded")], names, 0, &[]), 0);
    }
}
