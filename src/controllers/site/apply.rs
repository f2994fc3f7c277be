//! Step five: make it so.

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::delete::{has_ended, is_recorder};
use super::names::{MANAGER, NUDGER, Names, REVISION, SITE_LABEL};
use super::objects;
use super::plan::{Expected, Plan, RecorderPlan};
use super::{drain, recording};
use crate::controllers::kit::apply::{Applied as Kept, ApplyError, Written, child, owned};
use crate::controllers::kit::error::{ApiError, KubeErrorExt};
use crate::controllers::kit::meta;
use crate::controllers::recorders::Recorders;

/// More pods are not looked after: anybody who may scale a StatefulSet could ask for billions, and with so many
/// a site has outgrown one bucket.
const MOST_PODS: u32 = 256;

/// What is there now.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The recorders; `None`: there should be none.
    pub recorders: Option<AppliedRecorders>,
    /// Segments in the spools of pods that are to go, and stay until these are uploaded.
    pub waits_for: u64,
    /// Pods of recorders that are going, and may upload what they have by a configuration of before.
    pub leaving: usize,
    /// Whether anything was written.
    pub is_changed: bool,
}

/// The recorders that are there now.
#[derive(Clone, Debug)]
pub struct AppliedRecorders {
    /// What they should say of themselves.
    pub expected: Expected,
    /// Their pods, those being deleted left out.
    pub pods: Vec<Pod>,
}

/// Applies `plan`, in the order in which one needs the other. Everything in sync means that nothing is written.
pub async fn apply(
    client: &Client,
    recorders: &Recorders,
    names: &Names,
    plan: Plan,
) -> Result<Applied, ApplyError> {
    let Plan { recorders: planned } = plan;
    let namespace = names.namespace.as_str();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let Some(planned) = planned else {
        return Ok(Applied {
            leaving: leaving(&labelled(&pods, names).await?, names, 0, &[]),
            ..Applied::default()
        });
    };
    // Destructured without `..`, so that what is added to the plan cannot be forgotten here.
    let RecorderPlan { account, service, config, workload, expected } = planned;
    let account =
        child(&Api::<ServiceAccount>::namespaced(client.clone(), namespace), MANAGER, account).await?;
    let service = child(&Api::<Service>::namespaced(client.clone(), namespace), MANAGER, service).await?;
    let config = child(&Api::<Secret>::namespaced(client.clone(), namespace), MANAGER, config).await?;
    let (workload, waits_for) =
        Box::pin(keep_workload(client, recorders, names, workload, &expected)).await?;
    for (kind, written) in [
        ("ServiceAccount", &account.written),
        ("Service", &service.written),
        ("Secret", &config.written),
        ("StatefulSet", &workload.written),
    ] {
        report(names, kind, written.as_ref());
    }
    let all = labelled(&pods, names).await?;
    let ours: Vec<Pod> = kept_by(&workload.object, &all).cloned().collect();
    let leaving = leaving(&all, names, expected.pods, &ours);
    let is_nudged = nudge_all(&pods, &ours, &expected.revision).await?;
    let written = [account.written, service.written, config.written, workload.written];
    let is_changed = written.iter().any(Option::is_some) || is_nudged;
    Ok(Applied { recorders: Some(AppliedRecorders { expected, pods: ours }), waits_for, leaving, is_changed })
}

/// How many of `pods` are recorders that are going, or are to go: they may still upload. The others are those of `ours`
/// that are asked what they follow, one for each of so many shards.
fn leaving(pods: &[Pod], names: &Names, shards: u32, ours: &[Pod]) -> usize {
    let is_expected =
        |pod: &Pod| (0..shards).any(|shard| pod.name_any() == format!("{}-{shard}", names.recorder));
    let is_asked = |pod: &Pod| is_expected(pod) && ours.iter().any(|kept| kept.uid() == pod.uid());
    let leaving = pods.iter().filter(|pod| is_recorder(pod, names) && !has_ended(pod) && !is_asked(pod));
    leaving.count()
}

/// Tells the kubelets of all of `pods` which configuration there is; whether that was news to any.
pub async fn nudge_all(api: &Api<Pod>, pods: &[Pod], revision: &str) -> Result<bool, ApiError> {
    let nudged = try_join_all(pods.iter().map(|pod| nudge(api, pod, revision))).await?;
    Ok(nudged.contains(&true))
}

/// Applies the StatefulSet, and tells for how many segments it waits before pods go: a spool goes with its pod.
/// One that can only be made what it must be by making it anew is deleted; its pods close what is open and go,
/// and the next look creates it.
async fn keep_workload(
    client: &Client,
    recorders: &Recorders,
    names: &Names,
    mut desired: StatefulSet,
    expected: &Expected,
) -> Result<(Kept<StatefulSet>, u64), ApplyError> {
    let api = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let Some(live) = owned(&api, &names.recorder, &names.uid).await? else {
        return Ok((child(&api, MANAGER, desired).await?, 0));
    };
    let is_anew = !objects::can_be_updated(&desired, &live);
    let (there, wanted) = (replicas(&live), replicas(&desired));
    // Of those that stay nothing is lost.
    let first_to_go = if is_anew { 0 } else { wanted };
    if first_to_go < there {
        let pods = pods_of(&Api::namespaced(client.clone(), &names.namespace), names, &live).await?;
        let expected = Expected { pods: there, ..expected.clone() };
        let mut answers = recording::ask(recorders, names, &AppliedRecorders { expected, pods }).await;
        answers.retain(|answer| answer.shard >= first_to_go);
        let waiting = drain::waiting(&answers);
        if waiting > 0 && is_anew {
            let kept = Kept { object: live, written: None };
            return Ok((kept, waiting));
        }
        if waiting > 0 {
            let spec = desired.spec.get_or_insert_default();
            spec.replicas = i32::try_from(there).ok();
            return Ok((child(&api, MANAGER, desired).await?, waiting));
        }
    }
    if is_anew {
        tracing::info!(
            namespace = names.namespace,
            site = names.site,
            "the recorders' StatefulSet is made anew"
        );
        delete_workload(&api, &live).await?;
    }
    Ok((child(&api, MANAGER, desired).await?, 0))
}

/// How many pods `workload` asks for, as far as they are looked after.
pub fn replicas(workload: &StatefulSet) -> u32 {
    let replicas = workload.spec.as_ref().and_then(|spec| spec.replicas);
    u32::try_from(replicas.unwrap_or_default()).unwrap_or_default().min(MOST_PODS)
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

fn report(names: &Names, kind: &str, written: Option<&Written>) {
    let (namespace, site) = (&names.namespace, &names.site);
    match written {
        None => {}
        Some(Written::Created) => tracing::info!(namespace, site, kind, "created"),
        Some(Written::Changed) => tracing::info!(namespace, site, kind, "updated"),
        Some(Written::Drifted(path)) => {
            tracing::warn!(namespace, site, kind, path, "put back what somebody else had changed");
        }
    }
}

/// The pods that `workload` controls.
pub async fn pods_of(api: &Api<Pod>, names: &Names, workload: &StatefulSet) -> Result<Vec<Pod>, ApiError> {
    Ok(kept_by(workload, &labelled(api, names).await?).cloned().collect())
}

async fn labelled(api: &Api<Pod>, names: &Names) -> Result<Vec<Pod>, ApiError> {
    let params = ListParams::default().labels(&format!("{SITE_LABEL}={}", names.site));
    Ok(api.list(&params).await?.items)
}

fn kept_by<'a>(workload: &StatefulSet, pods: &'a [Pod]) -> impl Iterator<Item = &'a Pod> {
    let uid = workload.uid().unwrap_or_default();
    pods.iter().filter(move |pod| meta::is_controlled_by(*pod, &uid) && !meta::is_deleting(*pod))
}

/// Tells the kubelet of `pod` by an annotation that there is a new configuration: it renews mounted Secrets
/// when it looks at a pod, which it does at once when the pod changes and otherwise up to a minute later.
async fn nudge(api: &Api<Pod>, pod: &Pod, revision: &str) -> Result<bool, ApiError> {
    if pod.annotations().get(REVISION).is_some_and(|current| current == revision) {
        return Ok(false);
    }
    // The UID makes this fail for another pod of the same name.
    let patch = json!({"metadata": {"uid": pod.uid(), "annotations": {REVISION: revision}}});
    let params = PatchParams { field_manager: Some(NUDGER.to_owned()), ..PatchParams::default() };
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
    fn recorders_that_nobody_asks_are_leaving_until_they_have_ended() {
        let names = &Names::of(&fixture().site);
        let ours = [pod(0, "a", "Running"), pod(1, "b", "Running")];
        assert_eq!(leaving(&ours, names, 2, &ours), 0);
        assert_eq!(leaving(&ours, names, 1, &ours), 1, "more than there are to be");
        assert_eq!(leaving(&ours, names, 2, &ours[..1]), 1, "being deleted, or another's by now");
        assert_eq!(leaving(&ours, names, 0, &[]), 2, "nothing is to be there any more");
        assert_eq!(leaving(&[pod(0, "a", "Succeeded")], names, 0, &[]), 0);
    }
}
