//! Step five: reads what exists of a Site's recorders.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::claims::{Spools, WantedSpools};
use super::names::ChildNames;
use super::objects;
use super::rollout::outdated_shards;
use super::site_pods::{are_complete, list_site_pods};
use super::workload::{cached_site_pods, replicas};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApplyError;
use crate::controllers::kubernetes::apply::get_owned;

/// What exists of a Site's recorders.
pub struct ObservedRecorders {
    pub workload: Option<StatefulSet>,
    /// All pods of the Site.
    pub pods: Vec<Pod>,
    pub spools: Spools,
}

impl ObservedRecorders {
    /// Reads the watch cache where no pod is to be removed or replaced, none is missing and no hold depends on the recorders, and
    /// the API server otherwise: a pod that the cache does not have, yet or without its labels, must not count as gone.
    pub async fn read(
        context: &Context,
        names: &ChildNames,
        desired: &StatefulSet,
        is_held: bool,
    ) -> Result<Self, ApplyError> {
        if let Some(cached) = Self::cached(context, names, desired).filter(|_| !is_held) {
            return Ok(cached);
        }
        let client = &context.client;
        let workloads = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
        let workload = get_owned(&workloads, &names.recorder, |live| names.owns(live)).await?;
        let spools = Spools::list(context, names, workload.as_ref()).await?;
        let count = workload.as_ref().map(replicas).unwrap_or_default().max(spools.shards_end());
        let pods = list_site_pods(context, names, count.max(replicas(desired))).await?;
        Ok(Self { workload, pods, spools })
    }

    fn cached(context: &Context, names: &ChildNames, desired: &StatefulSet) -> Option<Self> {
        let cache = &context.cache;
        let workload = cache.workloads.get_current(&names.namespace, &names.recorder)?;
        let workload = StatefulSet::clone(&workload);
        let spools = Spools::cached(context, names, &workload);
        let wanted = WantedSpools::of(desired);
        let is_in_sync = names.owns(&workload.metadata)
            && objects::can_be_updated(desired, &workload)
            && replicas(&workload) == wanted.pods
            && spools.are_in_use(&wanted);
        let pods = cached_site_pods(cache, names);
        let has_outdated = outdated_shards(&workload, desired, names, &pods, wanted.pods).is_some();
        let is_replacing = has_outdated || context.rollout_turns.has_turn(&names.uid);
        let has_all_pods = are_complete(names, &pods, wanted.pods);
        (is_in_sync && has_all_pods && !is_replacing).then(|| Self { workload: Some(workload), pods, spools })
    }
}
