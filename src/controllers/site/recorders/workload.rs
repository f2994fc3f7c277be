//! The StatefulSet of a Site's recorders and its pods: reading them, touching them, deleting them.

use std::fmt::Debug;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::hold_widening::Widening;
use crate::controllers::handoff::HoldScopes;
use crate::controllers::kubernetes::apply::ApplyError;
use crate::controllers::kubernetes::error::{ApiError, KubeErrorExt};
use crate::controllers::kubernetes::{apply, meta};
use crate::controllers::site::recorders::names::{
    CONFIG_TOUCH_MANAGER, ChildNames, REVISION_ANNOTATION, SITE_LABEL,
};
use crate::wire::{CONFIG_KEY, RecorderConfig, StatusApi};

/// What the recorders should say of themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedRecorders {
    /// How many pods there should be.
    pub pods: u32,
    pub revision: String,
    pub api: StatusApi,
    /// The holds that they follow when they follow this configuration: all that these cover they seal.
    pub holds: HoldScopes,
    /// How much more than that they seal; `None`: nothing more.
    pub widening: Option<Widening>,
}

/// More pods are not looked after: anybody who may scale a StatefulSet could ask for billions, and with so many
/// a site has outgrown one bucket.
pub(crate) const MAX_PODS: u32 = 256;

/// The recorders that are there now.
#[derive(Clone, Debug)]
pub struct AppliedRecorders {
    /// What they should say of themselves.
    pub expected: ExpectedRecorders,
    /// Their pods, those being deleted left out.
    pub pods: Vec<Pod>,
}

/// Tells the kubelets of all of `pods` which configuration there is; whether that was news to any.
pub async fn touch_pods(api: &Api<Pod>, pods: &[Pod], revision: &str) -> Result<bool, ApiError> {
    let touched = try_join_all(pods.iter().map(|pod| touch_pod(api, pod, revision))).await?;
    Ok(touched.contains(&true))
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

/// The pods that `workload` controls.
pub async fn workload_pods(
    api: &Api<Pod>,
    names: &ChildNames,
    workload: &StatefulSet,
) -> Result<Vec<Pod>, ApiError> {
    Ok(controlled_by(workload, &list_site_pods(api, names).await?).cloned().collect())
}

pub(crate) async fn list_site_pods(api: &Api<Pod>, names: &ChildNames) -> Result<Vec<Pod>, ApiError> {
    let params = ListParams::default().labels(&format!("{SITE_LABEL}={}", names.site));
    Ok(api.list(&params).await?.items)
}

pub(crate) fn controlled_by<'a>(workload: &StatefulSet, pods: &'a [Pod]) -> impl Iterator<Item = &'a Pod> {
    let uid = workload.uid().unwrap_or_default();
    pods.iter().filter(move |pod| meta::is_controlled_by(*pod, &uid) && !meta::is_deleting(*pod))
}

/// Tells the kubelet of `pod` by an annotation that there is a new configuration: it renews mounted Secrets
/// when it looks at a pod, which it does at once when the pod changes and otherwise up to a minute later.
pub(crate) async fn touch_pod(api: &Api<Pod>, pod: &Pod, revision: &str) -> Result<bool, ApiError> {
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

/// Whether `pod` is one of the recorders. The StatefulSet may be gone, so it is known by name.
pub fn is_recorder(pod: &Pod, names: &ChildNames) -> bool {
    let owners = pod.owner_references();
    owners.iter().any(|owner| {
        owner.controller == Some(true) && owner.kind == "StatefulSet" && owner.name == names.recorder
    })
}

/// Whether all containers of `pod` have ended: nothing records in it any more.
pub fn is_terminated(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What the recorders are configured with now. One that is not ours, or that somebody made unreadable, is as
/// none: it is reported, or written anew, in a later step.
pub async fn fetch_recorder_config(
    api: Api<core::Secret>,
    names: &ChildNames,
) -> Result<Option<RecorderConfig>, ApiError> {
    let secret = match apply::get_owned(&api, &names.config, &names.uid).await {
        Ok(secret) => secret,
        Err(ApplyError::Api(error)) => return Err(error),
        Err(ApplyError::ForeignObject { .. } | ApplyError::NotSerializable(_)) => None,
    };
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get(CONFIG_KEY).and_then(|bytes| serde_json::from_slice(&bytes.0).ok()))
}
