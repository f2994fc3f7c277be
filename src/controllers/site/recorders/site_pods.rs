//! Pods of a Site on the API server, whatever labels they have.
//!
//! Anybody may remove a label of a pod, and its recorder continues. A pod without the label of the Site is in no list and no
//! watch. The StatefulSet releases a pod without a label of its selector, and cannot create another of the same name. So each
//! shard without a listed pod is read by name, and the operator restores the labels. Kubernetes then adopts the pod again.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::names::{CONFIG_TOUCH_MANAGER, ChildNames, SITE_LABEL};
use super::workload::{MAX_PODS, is_orphan, is_recorder, own_recorder_config, own_replicas};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApiError;
use crate::controllers::watch_cache::WatchCache;
use crate::wire::RecorderConfig;

/// Pods that are read one by one. For more, one list of the namespace costs less.
const MAX_SINGLE_READS: usize = 16;

/// Returns the pods of a Site, and restores their labels. Reads by name each of the first `count` pods, and each pod that the
/// StatefulSet or the configuration in the watch cache has, if the list does not have it.
pub async fn list_site_pods(context: &Context, names: &ChildNames, count: u32) -> Result<Vec<Pod>, ApiError> {
    let api = Api::<Pod>::namespaced(context.client.clone(), &names.namespace);
    let params = ListParams::default().labels(&format!("{SITE_LABEL}={}", names.site));
    let mut pods = api.list(&params).await?.items;
    let missing = missing_pods(names, &pods, count.max(known_pods(&context.cache, names)));
    let read = if missing.len() > MAX_SINGLE_READS {
        api.list(&ListParams::default()).await?.items
    } else {
        try_join_all(missing.iter().map(|name| api.get_opt(name))).await?.into_iter().flatten().collect()
    };
    let is_listed = |pod: &Pod| pods.iter().any(|listed| listed.name_any() == pod.name_any());
    let unlisted: Vec<Pod> = read.into_iter().filter(|pod| is_own(pod, names) && !is_listed(pod)).collect();
    pods.extend(unlisted);
    try_join_all(pods.iter_mut().map(|pod| restore_labels(&api, names, pod))).await?;
    Ok(pods)
}

/// Returns the number of pods that the StatefulSet or the configuration in the watch cache has, at most [`MAX_PODS`].
pub fn known_pods(cache: &WatchCache, names: &ChildNames) -> u32 {
    let configured = configured_pods(own_recorder_config(cache, names).as_ref());
    own_replicas(cache, names).unwrap_or_default().max(configured)
}

/// Returns the number of pods that `config` has cameras for, at most [`MAX_PODS`].
pub fn configured_pods(config: Option<&RecorderConfig>) -> u32 {
    let shards = config.into_iter().flat_map(|config| &config.cameras).map(|camera| camera.shard);
    shards.map(|shard| shard.saturating_add(1)).max().unwrap_or_default().min(MAX_PODS)
}

/// Whether `pods` has each of the first `count` pods of a Site, with all labels.
pub fn are_complete(names: &ChildNames, pods: &[Pod], count: u32) -> bool {
    missing_pods(names, pods, count).is_empty() && pods.iter().all(|pod| lost_labels(names, pod).is_empty())
}

/// Returns the names of the first `count` pods that are not in `pods`.
fn missing_pods(names: &ChildNames, pods: &[Pod], count: u32) -> Vec<String> {
    let all = (0..count.min(MAX_PODS)).map(|shard| names.pod(shard));
    all.filter(|name| pods.iter().all(|pod| pod.name_any() != *name)).collect()
}

/// Whether `pod` is a recorder of this Site. One that its StatefulSet released still mounts the configuration, which cannot be changed.
fn is_own(pod: &Pod, names: &ChildNames) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let mounts_config = volumes.into_iter().flatten().any(|volume| {
        let secret = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_ref());
        secret == Some(&names.config)
    });
    is_recorder(pod, names) || mounts_config && is_orphan(pod, names)
}

/// Returns the labels that a recorder pod of this Site must have and does not have.
fn lost_labels(names: &ChildNames, pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = names.labels();
    if is_recorder(pod, names) || is_orphan(pod, names) {
        labels.retain(|label, value| pod.labels().get(label) != Some(&*value));
    } else {
        labels.clear();
    }
    labels
}

async fn restore_labels(api: &Api<Pod>, names: &ChildNames, pod: &mut Pod) -> Result<(), ApiError> {
    let lost = lost_labels(names, pod);
    if lost.is_empty() || !is_own(pod, names) {
        return Ok(());
    }
    let (namespace, site, name) = (&names.namespace, &names.site, pod.name_any());
    tracing::warn!(namespace, site, pod = name, "restoring labels that another party removed");
    // With the UID, the server rejects this patch for another pod that took the name.
    let patch = json!({"metadata": {"uid": pod.uid(), "labels": lost}});
    let params =
        PatchParams { field_manager: Some(CONFIG_TOUCH_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {
            pod.labels_mut().extend(lost);
            Ok(())
        }
        // The pod was deleted or replaced meanwhile.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing;

    fn names() -> ChildNames {
        ChildNames::of(&testing::site())
    }

    fn pod(shard: u32, labels: &BTreeMap<String, String>) -> Pod {
        let metadata = json!({"name": names().pod(shard), "labels": labels});
        let volumes = json!([{"name": "config", "secret": {"secretName": names().config}}]);
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [], "volumes": volumes}}))
            .unwrap()
    }

    #[test]
    fn pod_without_any_of_its_labels_is_not_taken_for_complete() {
        let labels = names().labels();
        assert!(are_complete(&names(), &[pod(0, &labels), pod(1, &labels)], 2));
        assert!(
            !are_complete(&names(), &[pod(0, &labels)], 2),
            "its pod may have lost the label of the watch"
        );
        for label in labels.keys() {
            let mut rest = labels.clone();
            rest.remove(label);
            assert!(!are_complete(&names(), &[pod(0, &rest)], 1), "{label}");
            assert_eq!(lost_labels(&names(), &pod(0, &rest)).keys().collect::<Vec<_>>(), [label]);
        }
    }

    #[test]
    fn only_recorders_of_the_site_are_its_own() {
        let released = pod(0, &BTreeMap::new());
        assert!(is_own(&released, &names()));
        let mut foreign = released.clone();
        foreign.spec = None;
        assert!(!is_own(&foreign, &names()), "it mounts no configuration");
        let mut controlled = released;
        controlled.metadata.owner_references = serde_json::from_value(json!([{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "other", "uid": "o", "controller": true,
        }]))
        .unwrap();
        assert!(!is_own(&controlled, &names()));
    }
}
