//! Step five: make it so.

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::delete::{is_recorder, is_terminated};
use super::names::{CONFIG_TOUCH_MANAGER, ChildNames, FIELD_MANAGER, REVISION_ANNOTATION, SITE_LABEL};
use super::objects;
use super::plan::{ExpectedRecorders, RecorderPlan, SitePlan};
use super::{drain, recording};
use crate::controllers::kit::apply::{
    AppliedObject as Kept, ApplyError, WriteReason, apply_child, get_owned,
};
use crate::controllers::kit::error::{ApiError, KubeErrorExt};
use crate::controllers::kit::meta;
use crate::controllers::recorders::RecorderClient;

/// More pods are not looked after: anybody who may scale a StatefulSet could ask for billions, and with so many
/// a site has outgrown one bucket.
const MAX_PODS: u32 = 256;

/// What is there now.
#[derive(Clone, Debug, Default)]
pub struct AppliedPlan {
    /// The recorders; `None`: there should be none.
    pub recorders: Option<AppliedRecorders>,
    /// Segments in the spools of pods that are to go, and stay until these are uploaded.
    pub pending_segments: u64,
    /// Pods of recorders that are going, and may upload what they have by a configuration of before.
    pub leaving_pods: usize,
    /// Whether anything was written.
    pub is_changed: bool,
}

/// The recorders that are there now.
#[derive(Clone, Debug)]
pub struct AppliedRecorders {
    /// What they should say of themselves.
    pub expected: ExpectedRecorders,
    /// Their pods, those being deleted left out.
    pub pods: Vec<Pod>,
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

/// Tells the kubelets of all of `pods` which configuration there is; whether that was news to any.
pub async fn touch_pods(api: &Api<Pod>, pods: &[Pod], revision: &str) -> Result<bool, ApiError> {
    let touched = try_join_all(pods.iter().map(|pod| touch_pod(api, pod, revision))).await?;
    Ok(touched.contains(&true))
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
            recording::query_recorders(recorders, names, &AppliedRecorders { expected, pods }).await;
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

/// How many pods `workload` asks for, as far as they are looked after.
pub fn replicas(workload: &StatefulSet) -> u32 {
    let replicas = workload.spec.as_ref().and_then(|spec| spec.replicas);
    u32::try_from(replicas.unwrap_or_default()).unwrap_or_default().min(MAX_PODS)
}

/// Deletes exactly this StatefulSet, and with it its pods.
pub async fn delete_workload(api: &Api<StatefulSet>, live: &StatefulSet) -> Result<(), ApiError> {
    let preconditions = Preconditions { uid: live.uid(), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    match api.delete(&live.name_any(), &params).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
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

/// The pods that `workload` controls.
pub async fn workload_pods(
    api: &Api<Pod>,
    names: &ChildNames,
    workload: &StatefulSet,
) -> Result<Vec<Pod>, ApiError> {
    Ok(controlled_by(workload, &list_site_pods(api, names).await?).cloned().collect())
}

async fn list_site_pods(api: &Api<Pod>, names: &ChildNames) -> Result<Vec<Pod>, ApiError> {
    let params = ListParams::default().labels(&format!("{SITE_LABEL}={}", names.site));
    Ok(api.list(&params).await?.items)
}

fn controlled_by<'a>(workload: &StatefulSet, pods: &'a [Pod]) -> impl Iterator<Item = &'a Pod> {
    let uid = workload.uid().unwrap_or_default();
    pods.iter().filter(move |pod| meta::is_controlled_by(*pod, &uid) && !meta::is_deleting(*pod))
}

/// Tells the kubelet of `pod` by an annotation that there is a new configuration: it renews mounted Secrets
/// when it looks at a pod, which it does at once when the pod changes and otherwise up to a minute later.
async fn touch_pod(api: &Api<Pod>, pod: &Pod, revision: &str) -> Result<bool, ApiError> {
    if pod.annotations().get(REVISION_ANNOTATION).is_some_and(|current| current == revision) {
        return Ok(false);
    }
    // The UID makes this fail for another pod of the same name.
    let patch = json!({"metadata": {"uid": pod.uid(), "annotations": {REVISION_ANNOTATION: revision}}});
    let params =
        PatchParams { field_manager: Some(CONFIG_TOUCH_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(&pod.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        // It went in the meantime.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::fixture;
    use super::*;

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
