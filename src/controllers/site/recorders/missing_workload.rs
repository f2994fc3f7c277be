//! A deleted Site whose StatefulSet is gone before its spools were proved empty: another party deleted it, perhaps with its namespace.
//!
//! An emptyDir spool went with its pod, so its loss is reported. Volume claims and pods without an owner are left. They get a
//! StatefulSet again, so that recorders upload the content.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Api, ResourceExt};

use super::claims::{Spools, WantedSpools, needed_pods};
use super::drain::{has_worked, report_claims};
use super::names::{ChildNames, FIELD_MANAGER};
use super::objects;
use super::pod::RecorderPods;
use super::spool_report::SpoolReport;
use super::workload::{MAX_PODS, is_orphan, is_recorder};
use crate::api::Site;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApplyError;
use crate::controllers::kubernetes::apply::apply_child;
use crate::wire::RecorderConfig;

/// Reports the recorders whose spools may have gone with the StatefulSet. `config`: their configuration, unless it is gone too. `pods`
/// are all pods of the Site.
pub fn report_unproved(
    names: &ChildNames,
    config: Option<&RecorderConfig>,
    pods: &[Pod],
    spools: &Spools,
) -> SpoolReport {
    let pod_of = |shard: &u32| pods.iter().find(|pod| pod.name_any() == names.pod(*shard));
    let configured = config.into_iter().flat_map(|config| &config.cameras).map(|camera| camera.shard);
    let left = (0..MAX_PODS).filter(|shard| pod_of(shard).is_some_and(|pod| is_recorder(pod, names)));
    let all: BTreeSet<u32> = configured.chain(left).collect();
    // A claim has its own evidence, and is not gone.
    let has_claim = |shard: &u32| spools.claims().iter().any(|claim| claim.shard == *shard);
    let may_have_content =
        |shard: &u32| pod_of(shard).is_none_or(|pod| has_worked(pod) && !is_orphan(pod, names));
    let lost = all.into_iter().filter(|shard| !has_claim(shard)).filter(may_have_content);
    let why = "its StatefulSet was deleted before the spool was proved empty";
    let unknown = lost.map(|shard| (names.pod(shard), why.to_owned())).collect();
    SpoolReport { unknown, ..SpoolReport::default() }
}

/// Reports the spools that are left without a StatefulSet: claims without evidence, and pods without an owner.
pub fn report_left(names: &ChildNames, pods: &[Pod], spools: &Spools) -> SpoolReport {
    let mut report = report_claims(names, spools.claims(), pods, 0);
    let orphans = pods.iter().filter(|pod| is_orphan(pod, names));
    report.unknown.extend(orphans.map(|pod| (pod.name_any(), "it has no StatefulSet".to_owned())));
    report
}

/// Returns the number of pods that a new StatefulSet needs for what is left; 0: nothing is left that it could upload. `pods` are all
/// pods of the Site. `is_wanted`: the content of claims is not given up, and their recorders have a configuration.
pub fn missing_pods(names: &ChildNames, pods: &[Pod], spools: &Spools, is_wanted: bool) -> u32 {
    let orphans = pods.iter().filter(|pod| is_orphan(pod, names));
    let orphans = orphans.filter_map(|pod| names.shard_of_pod(&pod.name_any()));
    let orphans = orphans.map(|shard| shard + 1).max().unwrap_or_default();
    // No new pod can use a claim that is being deleted.
    let usable: Vec<_> = spools.claims().iter().filter(|claim| !claim.is_deleting).cloned().collect();
    if is_wanted { orphans.max(needed_pods(&usable)) } else { orphans }
}

/// Creates the StatefulSet of a deleted Site again, with `count` pods. It takes over pods without an owner, and its new pods use the
/// claims that are left. Returns whether it could: in a namespace that is being deleted, nothing can be created.
pub async fn recreate(
    context: &Context,
    site: &Site,
    names: &ChildNames,
    spools: &Spools,
    count: u32,
) -> Result<bool, ApplyError> {
    let Context { client, cache, config, .. } = context;
    let pods = RecorderPods {
        count,
        settings: &site.spec.recorder,
        config,
        has_workload_identity: site.spec.storage.recorder.workload_identity,
    };
    let mut workload = objects::stateful_set(names, &pods);
    if let Some(storage) = spools.storage_to_adopt(&WantedSpools::of(&workload)) {
        objects::set_claim_storage(&mut workload, names, &storage);
    }
    let is_own = |live: &_| names.owns(live);
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &names.namespace);
    let account = objects::service_account(names);
    // Without it, no pod is created.
    let account = apply_child(&accounts, &cache.service_accounts, FIELD_MANAGER, account, is_own).await;
    let workloads = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let created = match account {
        Ok(_) => apply_child(&workloads, &cache.workloads, FIELD_MANAGER, workload, is_own).await.map(drop),
        Err(error) => Err(error),
    };
    match created {
        Err(ApplyError::Api(error)) if error.is_namespace_terminating() => Ok(false),
        Err(error) => Err(error),
        Ok(()) => {
            let (namespace, site) = (&names.namespace, &names.site);
            tracing::warn!(
                namespace,
                site,
                pods = count,
                "created the StatefulSet again: spools may have segments"
            );
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests;
