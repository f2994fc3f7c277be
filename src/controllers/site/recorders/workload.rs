//! The StatefulSet of a Site's recorders and its pods: reading, touching and deleting them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::hold_widening::Widening;
use super::names::{CONFIG_TOUCH_MANAGER, ChildNames, FIELD_MANAGER, REVISION_ANNOTATION};
use crate::controllers::handoff::HoldScopes;
use crate::controllers::kubernetes::meta::StoredObject;
use crate::controllers::kubernetes::{ApiError, ApplyError, apply, meta};
use crate::controllers::watch_cache::WatchCache;
use crate::wire::{CONFIG_KEY, RecorderConfig, StatusApi};

/// Recorders as their status should report them.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedRecorders {
    /// Number of pods.
    pub pods: u32,
    pub revision: String,
    pub api: StatusApi,
    /// Holds whose segments the recorders seal once they acknowledge `revision`.
    pub holds: HoldScopes,
    /// Widening of `holds` in the configuration; `None`: recorders seal nothing more.
    pub widening: Option<Widening>,
    /// Names of the cameras that do not fit into the configuration, sorted.
    pub omitted_cameras: Vec<String>,
    /// Shards whose recorders are lost with their nodes. Their pods stay until each has returned or is gone.
    pub lost: BTreeSet<u32>,
}

/// Last recording of a camera, by its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRecording {
    /// Recorder that the camera is configured for.
    pub shard: u32,
    /// End of the last known segment.
    pub until: Timestamp,
}

/// The last recordings of the configured cameras, by their names.
pub type LastRecordings = BTreeMap<String, LastRecording>;

/// Pods that the operator queries. Anybody who may scale a StatefulSet could ask for billions.
pub(crate) const MAX_PODS: u32 = 256;

#[derive(Clone, Debug)]
pub struct AppliedRecorders {
    pub expected: ExpectedRecorders,
    /// Pods, without those that are being deleted.
    pub pods: Vec<Pod>,
    /// Pods that are being deleted.
    pub terminating: Vec<Pod>,
}

impl AppliedRecorders {
    /// Selects the pods of `workload` among all pods of the Site.
    pub fn new(expected: ExpectedRecorders, workload: &StatefulSet, pods: &[Pod]) -> Self {
        let own = controlled_by(workload, pods).cloned().collect();
        let terminating = pods.iter().filter(|pod| meta::is_deleting(*pod)).cloned().collect();
        Self { expected, pods: own, terminating }
    }
    /// Returns the recorders of a plan that could not be applied, as they are in the watch cache.
    pub fn unapplied(expected: ExpectedRecorders, names: &ChildNames, pods: &[Pod]) -> Self {
        let own = pods.iter().filter(|pod| is_recorder(pod, names) && !meta::is_deleting(*pod));
        let terminating = pods.iter().filter(|pod| meta::is_deleting(*pod));
        Self { expected, pods: own.cloned().collect(), terminating: terminating.cloned().collect() }
    }
}

/// Returns the replicas of `workload`, at most [`MAX_PODS`].
pub fn replicas(workload: &StatefulSet) -> u32 {
    let replicas = workload.spec.as_ref().and_then(|spec| spec.replicas);
    u32::try_from(replicas.unwrap_or_default()).unwrap_or_default().min(MAX_PODS)
}

/// Deletes this StatefulSet and its pods, but no other that took its name.
pub async fn delete_workload(api: &Api<StatefulSet>, live: &StatefulSet) -> Result<(), ApiError> {
    meta::delete_exactly(api, &live.name_any(), live.uid()).await
}

/// Deletes the children of a deleted Site beside its StatefulSet and its claims.
pub async fn delete_other_children(client: &Client, names: &ChildNames) -> Result<(), ApiError> {
    delete_child::<core::Secret>(client, names, &names.config).await?;
    delete_child::<core::Service>(client, names, &names.recorder).await?;
    delete_child::<core::ServiceAccount>(client, names, &names.recorder).await
}

async fn delete_child<K: StoredObject<Scope = NamespaceResourceScope>>(
    client: &Client,
    names: &ChildNames,
    name: &str,
) -> Result<(), ApiError> {
    let api = Api::<K>::namespaced(client.clone(), &names.namespace);
    match api.get_metadata_opt(name).await? {
        Some(found) if names.owns(&found.metadata) => {
            meta::delete_exactly(&api, name, found.metadata.uid).await
        }
        _ => Ok(()),
    }
}

/// Raises the replicas of this StatefulSet, but of no other that took its name.
pub async fn scale_workload(api: &Api<StatefulSet>, live: &StatefulSet, pods: u32) -> Result<(), ApiError> {
    let patch = json!({"metadata": {"uid": live.uid()}, "spec": {"replicas": pods}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&live.name_any(), &params, &Patch::Merge(&patch)).await.map_err(ApiError) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Deletes this pod, with its grace period, but no other that took its name.
pub async fn delete_pod(api: &Api<Pod>, pod: &Pod) -> Result<(), ApiError> {
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    match api.delete(&pod.name_any(), &params).await {
        Ok(_) => Ok(()),
        // It is gone, or another one has its name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn controlled_by<'a>(workload: &StatefulSet, pods: &'a [Pod]) -> impl Iterator<Item = &'a Pod> {
    let uid = workload.uid().unwrap_or_default();
    pods.iter().filter(move |pod| meta::is_controlled_by(*pod, &uid) && !meta::is_deleting(*pod))
}

/// Touches all of `pods`. Returns whether any changed.
pub async fn touch_pods(api: &Api<Pod>, pods: &[Pod], revision: &str) -> Result<bool, ApiError> {
    let touched = try_join_all(pods.iter().map(|pod| touch_pod(api, pod, revision))).await?;
    Ok(touched.contains(&true))
}

/// Annotates `pod` with the revision. The kubelet renews mounted Secrets when it syncs a pod: at once if the pod changes, and
/// otherwise up to a minute later.
async fn touch_pod(api: &Api<Pod>, pod: &Pod, revision: &str) -> Result<bool, ApiError> {
    if pod.annotations().get(REVISION_ANNOTATION).is_some_and(|current| current == revision) {
        return Ok(false);
    }
    // With the UID, the server rejects this patch for another pod that took the name.
    let patch = json!({"metadata": {"uid": pod.uid(), "annotations": {REVISION_ANNOTATION: revision}}});
    let params =
        PatchParams { field_manager: Some(CONFIG_TOUCH_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(&pod.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        // The pod was deleted or replaced meanwhile.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `pod` is a recorder of this Site, by the name of its owner: the StatefulSet itself may be deleted already.
pub fn is_recorder(pod: &Pod, names: &ChildNames) -> bool {
    pod.owner_references().iter().any(|owner| {
        owner.controller == Some(true) && owner.kind == "StatefulSet" && owner.name == names.recorder
    })
}

/// Whether `pod` is a recorder that lost its StatefulSet: somebody deleted it with `--cascade=orphan`, or removed a label of the pod
/// that the StatefulSet selects it by. It records on.
pub fn is_orphan(pod: &Pod, names: &ChildNames) -> bool {
    let is_controlled = pod.owner_references().iter().any(|owner| owner.controller == Some(true));
    !is_controlled
        && !is_terminated(pod)
        && names.shard_of_pod(&pod.name_any()).is_some_and(|shard| shard < MAX_PODS)
}

/// Returns a condition of `pod`.
pub fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Whether no node can run `pod`. It does not keep a claim that is deleted, and can never use it.
pub fn is_unscheduled(pod: &Pod) -> bool {
    pod_condition(pod, "PodScheduled").is_some_and(|scheduled| scheduled.status == "False")
}

/// Whether a pod of `shard` exists that has a node or may get one.
pub fn has_user(names: &ChildNames, pods: &[Pod], shard: u32) -> bool {
    let name = names.pod(shard);
    pods.iter().any(|pod| pod.name_any() == name && !is_unscheduled(pod))
}

/// Returns the recorders in `pods` whose acknowledgement the operator does not wait for. It waits for one of the `own` pods for each
/// shard.
pub fn leaving_pods(pods: &[Pod], names: &ChildNames, shards: u32, own: &[Pod]) -> Vec<Pod> {
    let is_expected = |pod: &Pod| (0..shards).any(|shard| pod.name_any() == names.pod(shard));
    let is_awaited = |pod: &Pod| is_expected(pod) && own.iter().any(|own| own.uid() == pod.uid());
    let is_running = |pod: &Pod| is_recorder(pod, names) && !is_terminated(pod) || is_orphan(pod, names);
    let leaving = pods.iter().filter(|pod| is_running(pod) && !is_awaited(pod));
    leaving.cloned().collect()
}

/// Whether all containers of `pod` have ended.
pub fn is_terminated(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Returns the current configuration of the recorders. A foreign or unreadable one counts as none: a later step reports or
/// replaces it.
pub async fn fetch_recorder_config(
    api: Api<core::Secret>,
    names: &ChildNames,
) -> Result<Option<RecorderConfig>, ApiError> {
    let secret = match apply::get_owned(&api, &names.config, |live| names.owns(live)).await {
        Ok(secret) => secret,
        Err(ApplyError::Api(error) | ApplyError::Invalid { error, .. }) => return Err(error),
        Err(ApplyError::ForeignObject { .. } | ApplyError::NotSerializable(_)) => None,
    };
    Ok(secret.as_ref().and_then(read_config))
}

/// Returns the configuration of the recorders in the watch cache. A foreign or unreadable one counts as none.
pub fn own_recorder_config(cache: &WatchCache, names: &ChildNames) -> Option<RecorderConfig> {
    let secret = cache.recorder_configs.get(&names.namespace, &names.config)?;
    read_config(&secret).filter(|_| names.owns(&secret.metadata))
}

/// Returns the replicas of the recorders' StatefulSet in the watch cache; `None`: there is none, or a foreign one.
pub fn own_replicas(cache: &WatchCache, names: &ChildNames) -> Option<u32> {
    let workload = cache.workloads.get(&names.namespace, &names.recorder)?;
    names.owns(&workload.metadata).then(|| replicas(&workload))
}

/// Returns the pods of a Site in the watch cache.
pub fn cached_site_pods(cache: &WatchCache, names: &ChildNames) -> Vec<Pod> {
    let pods = cache.pods.of_site(&names.namespace, &names.site);
    pods.iter().map(|pod| Pod::clone(pod)).collect()
}

/// Returns the configuration in a Secret; `None`: it has none, or an unreadable one.
pub fn read_config(secret: &core::Secret) -> Option<RecorderConfig> {
    parse_config(secret).ok()
}

/// Returns the configuration in a Secret.
pub fn parse_config(secret: &core::Secret) -> Result<RecorderConfig, serde_json::Error> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(CONFIG_KEY));
    serde_json::from_slice(bytes.map(|bytes| bytes.0.as_slice()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
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
        let count = |pods: &[Pod], names: &ChildNames, shards, own: &[Pod]| {
            leaving_pods(pods, names, shards, own).len()
        };
        let pods = [pod(0, "a", "Running"), pod(1, "b", "Running")];
        assert_eq!(count(&pods, names, 2, &pods), 0);
        assert_eq!(count(&pods, names, 1, &pods), 1, "scaled down");
        assert_eq!(count(&pods, names, 2, &pods[..1]), 1, "being deleted, or of another owner");
        assert_eq!(count(&pods, names, 0, &[]), 2, "the plan has no recorders");
        assert_eq!(count(&[pod(0, "a", "Succeeded")], names, 0, &[]), 0);
        let mut released = pod(0, "a", "Running");
        released.metadata.owner_references = None;
        assert_eq!(count(&[released], names, 1, &[]), 1, "its StatefulSet released it, and it records on");
    }
}
