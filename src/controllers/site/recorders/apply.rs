//! Step five: applies the plan.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::claims::{Spools, WantedSpools, has_claims, needed_pods};
use super::names::{ChildNames, FIELD_MANAGER};
use super::observe::ObservedRecorders;
use super::plan::{RecorderPlan, closing_config};
use super::query::ShardReply;
use super::rollout::Rollout;
use super::site_pods::list_site_pods;
use super::spool_report::{SpoolReport, discard_reason, report_loss};
use super::stranded::StrandedRecorder;
use super::template_change::{Replacement, TemplateChange, query_live};
use super::workload::{
    AppliedRecorders, ExpectedRecorders, MAX_PODS, delete_pod, delete_workload, fetch_recorder_config,
    leaving_pods, parse_config, read_config, replicas, scale_workload, touch_pods,
};
use super::{drain, objects, stranded};
use crate::api::Site;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::apply::{AppliedObject, WriteReason, apply_child, apply_over};
use crate::controllers::kubernetes::cached::{Cacheable, Cached};
use crate::controllers::kubernetes::{ApiError, ApplyError};
use crate::controllers::recorder_client::RecorderClient;
use crate::wire::{GapCause, RecorderConfig};

#[derive(Clone, Debug, Default)]
pub struct AppliedPlan {
    /// The recorders; `None`: the plan has none.
    pub recorders: Option<AppliedRecorders>,
    /// Spools of pods that are to be removed. These pods stay until their spools are empty.
    pub pending: SpoolReport,
    /// Step of a change of the pods' template.
    pub rollout: Rollout,
    /// Recorder pods that are terminating or to be removed. They may upload by an earlier configuration.
    pub leaving_pods: Vec<Pod>,
    /// Volume claims that must be gone before the StatefulSet is created.
    pub leaving_claims: Vec<String>,
    /// The StatefulSet was created now, and has no pods yet.
    pub is_created: bool,
    pub is_changed: bool,
}

impl AppliedPlan {
    /// Whether pods or claims stay for a while that are to be removed.
    pub fn is_removal_pending(&self) -> bool {
        !self.pending.is_empty() || !self.leaving_claims.is_empty()
    }
}

/// Applies `plan` in the order of its dependencies. Writes nothing if everything is in sync. `is_held`: holds depend on what the
/// recorders acknowledge.
pub async fn apply(
    context: &Context,
    site: &Site,
    names: &ChildNames,
    plan: Option<RecorderPlan>,
    is_held: bool,
    now: Timestamp,
) -> Result<AppliedPlan, ApplyError> {
    let Context { client, cache, recorders, .. } = context;
    let is_given_up = discard_reason(site).is_some();
    let pods = Api::<Pod>::namespaced(client.clone(), &names.namespace);
    let Some(planned) = plan else {
        return Ok(without_recorders(names, &list_site_pods(context, names, 0).await?, Vec::new()));
    };
    // Without `..`: the compiler then finds a field that this function forgets.
    let RecorderPlan {
        service_account,
        service,
        mut config_secret,
        mut workload,
        mut expected,
        last_recordings,
    } = planned;
    let mut is_written = apply_logged(client, &cache.service_accounts, names, service_account).await?;
    is_written |= apply_logged(client, &cache.services, names, service).await?;
    let wanted = WantedSpools::of(&workload);
    let ObservedRecorders { workload: live, pods: mut all, mut spools } =
        ObservedRecorders::read(context, names, &workload, is_held).await?;
    spools.protect().await?;
    spools.remove_leaving(&wanted, live.as_ref(), &all).await?;
    if live.is_none()
        && let Some(waiting) = prepare_creation(names, &spools, &wanted, &all, &mut workload)
    {
        // Before the Secret: the previous recorders, which are still terminating, must not record again.
        return Ok(waiting);
    }
    // Before the removal: one claim that a person gave up and deleted must not stop the recorders that work.
    let stranded = select_stranded(site, names, &spools, &all, &parse_config(&config_secret)?, wanted.pods);
    replace_stranded(context, site, &mut spools, &all, &stranded, now).await?;
    let removal = live.clone().and_then(|live| Removal::new(live, &workload, &wanted, &spools, &all));
    let must_recreate = removal.as_ref().is_some_and(|removal| removal.must_recreate);
    if let Some(removal) = removal.as_ref().filter(|_| must_recreate) {
        let closing = removal.closing_plan(context, names, &expected, &config_secret, &spools, &all);
        if let Some(closing) = closing.await? {
            (config_secret, expected.revision) = closing;
        }
    }
    let config = parse_config(&config_secret)?;
    spools.reopen(&config, &all).await?;
    is_written |= apply_logged(client, &cache.recorder_configs, names, config_secret).await?;
    let mut pending = SpoolReport::default();
    if let Some(removal) = &removal {
        pending = removal.report(recorders, names, &expected, &config, &mut spools, &all).await?;
    }
    let first_shard = removal.as_ref().map_or(wanted.pods, |removal| removal.first_shard);
    pending.extend(drain::report_claims(names, spools.claims(), &all, first_shard));
    if is_given_up && removal.is_some() {
        pending = give_up_removed(context, site, &mut spools, first_shard, &pending, now).await?;
    }
    let kept_pods = kept_pods(removal.as_ref(), &pending, &spools, names, &all);
    let waiting_pods = waiting_pods(kept_pods, &expected.lost, expected.pods);
    objects::set_replicas(&mut workload, wanted.pods.max(kept_pods));
    let (mut rollout, mut replaced_pod) = (Rollout::default(), None);
    if let Some(live) = live.as_ref().filter(|_| !must_recreate) {
        objects::keep_claim_metadata(&mut workload, live);
        let change = TemplateChange {
            live,
            desired: &workload,
            wanted_pods: wanted.pods,
            names,
            pods: &all,
            is_removal_pending: !pending.is_empty(),
            last_recordings: &last_recordings,
        };
        rollout = change.next_step(recorders, &expected, &context.rollout_turns, is_given_up, now).await;
        report_loss(context, site, &rollout.given_up, now).await;
        match change.replacement(&rollout) {
            Replacement::ByOperator(pod) => {
                replaced_pod = pod;
                objects::replace_by_hand(&mut workload);
            }
            Replacement::ByKubernetes { partition } => objects::set_partition(&mut workload, partition),
        }
    }
    let written =
        write_workload(context, names, workload, live, removal.as_ref(), pending.is_empty(), waiting_pods);
    let Some(workload) = written.await? else {
        let waiting = without_recorders(names, &all, spools.claim_names());
        return Ok(AppliedPlan { is_changed: true, ..waiting });
    };
    log_write(names, "StatefulSet", workload.write_reason.as_ref());
    is_written |= workload.write_reason.is_some() || replaced_pod.is_some();
    // After the StatefulSet, or Kubernetes would re-create it with its old template.
    delete_replaced(&pods, replaced_pod.as_deref()).await?;
    if is_written && workload.write_reason != Some(WriteReason::Created) {
        all = list_site_pods(context, names, replicas(&workload.object)).await?;
    }
    let applied = AppliedRecorders::new(expected, &workload.object, &all);
    let AppliedRecorders { expected, pods: own, .. } = &applied;
    // After the Secret, or the kubelet would renew the mount with the previous configuration.
    let is_touched = touch_pods(&pods, own, &expected.revision).await?;
    Ok(AppliedPlan {
        leaving_pods: leaving_pods(&all, names, expected.pods, own),
        recorders: Some(applied),
        pending,
        rollout,
        leaving_claims: Vec::new(),
        is_created: workload.write_reason == Some(WriteReason::Created),
        is_changed: is_touched || is_written || spools.is_changed(),
    })
}

async fn delete_replaced(pods: &Api<Pod>, replaced: Option<&Pod>) -> Result<(), ApiError> {
    match replaced {
        Some(pod) => delete_pod(pods, pod).await,
        None => Ok(()),
    }
}

/// Reports the loss of the `pending` spools from `first_shard` upwards, and gives them up. Returns what is still pending.
async fn give_up_removed(
    context: &Context,
    site: &Site,
    spools: &mut Spools,
    first_shard: u32,
    pending: &SpoolReport,
    now: Timestamp,
) -> Result<SpoolReport, ApiError> {
    report_loss(context, site, pending, now).await;
    spools.give_up(|shard| shard >= first_shard).await?;
    Ok(SpoolReport::default())
}

/// Selects the stranded recorders whose spools are given up. `planned` is the configuration to be followed.
fn select_stranded<'a>(
    site: &Site,
    names: &ChildNames,
    spools: &Spools,
    pods: &'a [Pod],
    planned: &RecorderConfig,
    wanted_pods: u32,
) -> Vec<StrandedRecorder<'a>> {
    let mut stranded = stranded::stranded(names, spools.claims(), pods, planned, wanted_pods);
    let is_given_up = discard_reason(site).is_some();
    // After a stop in between, the claim itself says what is to be done.
    stranded.retain(|recorder| is_given_up || recorder.is_given_up);
    stranded
}

/// Reports the loss of the spools of `stranded` recorders, and deletes their claims and pods, so that Kubernetes creates new ones.
async fn replace_stranded(
    context: &Context,
    site: &Site,
    spools: &mut Spools,
    all: &[Pod],
    stranded: &[StrandedRecorder<'_>],
    now: Timestamp,
) -> Result<(), ApiError> {
    report_loss(context, site, &stranded::report(stranded), now).await;
    let shards: Vec<u32> = stranded.iter().map(|recorder| recorder.shard).collect();
    spools.give_up(|shard| shards.contains(&shard)).await?;
    spools.remove(&shards, all).await?;
    let pods = Api::<Pod>::namespaced(context.client.clone(), &site.namespace().unwrap_or_default());
    for recorder in stranded {
        delete_pod(&pods, recorder.pod).await?;
    }
    Ok(())
}

/// Reports the spools of lost recorders that are to be removed. One that answers meanwhile waits too, for the reconcile that finds it
/// back: afterwards, a pod that is gone is one that never came back.
fn report_lost<'a>(names: &ChildNames, shards: impl Iterator<Item = &'a u32>) -> SpoolReport {
    let unknown = shards.map(|shard| (names.pod(*shard), "its node is lost".to_owned()));
    SpoolReport { unknown: unknown.collect(), ..SpoolReport::default() }
}

/// Returns the number of pods that stay because their spools may have content.
/// Pods of `pending` spools stay even if nobody finds their claims. `pods` are all pods of the Site.
fn kept_pods(
    removal: Option<&Removal>,
    pending: &SpoolReport,
    spools: &Spools,
    names: &ChildNames,
    pods: &[Pod],
) -> u32 {
    match removal {
        // An `emptyDir` spool goes with its pod.
        Some(Removal { live, .. }) if !pending.is_empty() && !has_claims(live) => replicas(live),
        _ => {
            needed_pods(spools.claims()).max(pending_pods(pending, names, pods, |shard| spools.may_go(shard)))
        }
    }
}

/// Returns the number of pods that include each recorder with a `pending` spool and without evidence.
fn pending_pods(
    pending: &SpoolReport,
    names: &ChildNames,
    pods: &[Pod],
    has_evidence: impl Fn(u32) -> bool,
) -> u32 {
    let has_worked = |name: &str| pods.iter().any(|pod| pod.name_any() == name && drain::has_worked(pod));
    let shards = pending.pods().filter(|name| has_worked(name)).filter_map(|name| names.shard_of_pod(name));
    let shards = shards.filter(|shard| *shard < MAX_PODS && !has_evidence(*shard));
    shards.map(|shard| shard + 1).max().unwrap_or_default()
}

/// Returns the number of pods that a StatefulSet needs at least while it waits for its replacement. Cameras of `lost` shards have moved,
/// perhaps to a shard beyond them, and its spools may stay for hours: until the store is back.
fn waiting_pods(kept_pods: u32, lost: &BTreeSet<u32>, planned_pods: u32) -> u32 {
    if lost.is_empty() { kept_pods } else { kept_pods.max(planned_pods) }
}

/// Prepares the creation of a StatefulSet for claims that are there. Returns the result of the plan if claims must go first.
fn prepare_creation(
    names: &ChildNames,
    spools: &Spools,
    wanted: &WantedSpools,
    pods: &[Pod],
    workload: &mut StatefulSet,
) -> Option<AppliedPlan> {
    let leaving_claims = spools.blocking_creation(wanted);
    if !leaving_claims.is_empty() {
        let pending = drain::report_claims(names, spools.claims(), pods, 0);
        let is_changed = spools.is_changed();
        return Some(AppliedPlan { pending, is_changed, ..without_recorders(names, pods, leaving_claims) });
    }
    if let Some(storage) = spools.storage_to_adopt(wanted) {
        objects::set_claim_storage(workload, names, &storage);
    }
    None
}

/// Returns the result of a plan without a StatefulSet, which is created once these claims are gone. `pods` are all pods of the Site.
fn without_recorders(names: &ChildNames, pods: &[Pod], leaving_claims: Vec<String>) -> AppliedPlan {
    let leaving_pods = leaving_pods(pods, names, 0, &[]);
    AppliedPlan { leaving_pods, leaving_claims, ..AppliedPlan::default() }
}

/// Writes the StatefulSet. `is_drained`: nothing is in the spools that are to be removed. `waiting_pods`: pods that it needs until
/// then. `None`: it is deleted, and so must its claims be before it is created again, since it would use them.
async fn write_workload(
    context: &Context,
    names: &ChildNames,
    desired: StatefulSet,
    live: Option<StatefulSet>,
    removal: Option<&Removal>,
    is_drained: bool,
    waiting_pods: u32,
) -> Result<Option<AppliedObject<StatefulSet>>, ApplyError> {
    let Context { client, cache, .. } = context;
    let workloads = &Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let Some(Removal { live, .. }) = removal.filter(|removal| removal.must_recreate) else {
        return apply_over(workloads, &cache.workloads, FIELD_MANAGER, desired, live).await.map(Some);
    };
    if !is_drained {
        if waiting_pods > replicas(live) {
            // Somebody scaled it down, or cameras of a lost node moved to a pod that it does not have yet.
            scale_workload(workloads, live, waiting_pods).await?;
        }
        return Ok(Some(AppliedObject { object: live.clone(), write_reason: None }));
    }
    let (namespace, site) = (&names.namespace, &names.site);
    tracing::info!(namespace, site, "re-creating the recorders' StatefulSet");
    delete_workload(workloads, live).await?;
    if has_claims(live) || has_claims(&desired) {
        return Ok(None);
    }
    apply_child(workloads, &cache.workloads, FIELD_MANAGER, desired, |live| names.owns(live)).await.map(Some)
}

/// Recorders that exist and are to be removed.
struct Removal {
    live: StatefulSet,
    /// All of them stop, and are created again.
    must_recreate: bool,
    /// First shard whose pod is to be removed.
    first_shard: u32,
}

impl Removal {
    /// Returns the removal that `desired` needs; `None`: no pod is to be removed. Claims that may have content may need more pods
    /// than `live` has. `pods` are all pods of the Site.
    fn new(
        live: StatefulSet,
        desired: &StatefulSet,
        wanted: &WantedSpools,
        spools: &Spools,
        pods: &[Pod],
    ) -> Option<Self> {
        let must_recreate = !objects::can_be_updated(desired, &live) || spools.must_recreate(wanted, pods);
        let first_shard = if must_recreate { 0 } else { wanted.pods };
        let is_needed = must_recreate || first_shard < replicas(&live).max(needed_pods(spools.claims()));
        is_needed.then_some(Self { live, must_recreate, first_shard })
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

    /// Returns the configuration with which the recorders stop now, and its revision; `None`: they record on, or have stopped.
    async fn closing_plan(
        &self,
        context: &Context,
        names: &ChildNames,
        expected: &ExpectedRecorders,
        planned: &Secret,
        spools: &Spools,
        pods: &[Pod],
    ) -> Result<Option<(Secret, String)>, ApiError> {
        let mut replies = self.query(&context.recorders, names, expected, pods).await;
        replies.retain(|reply| !spools.may_go(reply.shard));
        let secrets = Api::<Secret>::namespaced(context.client.clone(), &names.namespace);
        let current = fetch_recorder_config(secrets, names).await?;
        Ok(closing_plan(names, planned, current.as_ref(), &replies))
    }

    /// Reports the spools that are to be removed, and writes the evidence of claims that are proved empty. `config` is applied.
    async fn report(
        &self,
        recorders: &RecorderClient,
        names: &ChildNames,
        expected: &ExpectedRecorders,
        config: &RecorderConfig,
        spools: &mut Spools,
        pods: &[Pod],
    ) -> Result<SpoolReport, ApiError> {
        let mut replies = self.query(recorders, names, expected, pods).await;
        let is_empty = drain::is_empty_at(&config.revision);
        spools.record_proofs(&replies, config, &is_empty).await?;
        replies.retain(|reply| !spools.may_go(reply.shard));
        let mut report = drain::report_spools(&self.live, names, pods, &replies, is_empty);
        report.extend(report_lost(names, expected.lost.range(self.first_shard..)));
        Ok(report)
    }
}

/// Applies an object, and logs the write. Returns whether there was one.
async fn apply_logged<K: Cacheable + Serialize>(
    client: &Client,
    cached: &Cached<K>,
    names: &ChildNames,
    desired: K,
) -> Result<bool, ApplyError> {
    let api = Api::namespaced(client.clone(), &names.namespace);
    let applied = apply_child(&api, cached, FIELD_MANAGER, desired, |live| names.owns(live)).await?;
    log_write(names, &K::kind(&()), applied.write_reason.as_ref());
    Ok(applied.write_reason.is_some())
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
    let secret = objects::config_secret(names, &closed);
    drain::should_close(replies, is_closing).then_some((secret, closed.revision))
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

    #[test]
    fn recorder_with_content_stays_even_if_its_claim_is_not_found() {
        let names = ChildNames::of(&testing::site());
        let running = json!({"containerStatuses": [{
            "name": "recorder", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
            "state": {"running": {}},
        }]});
        let pod = |shard, status: &serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": names.pod(shard)}, "status": status})).unwrap()
        };
        let filled = vec![names.pod(1), names.pod(4)];
        let report = SpoolReport { filled, ..SpoolReport::default() };
        let pods = [pod(1, &running), pod(3, &running), pod(4, &json!({}))];
        assert_eq!(pending_pods(&report, &names, &pods, |_| false), 2, "pod 4 never started");
        assert_eq!(pending_pods(&report, &names, &pods, |shard| shard == 1), 0, "its claim has evidence");
    }

    #[test]
    fn recorder_of_moved_cameras_starts_while_others_wait_for_their_replacement() {
        assert_eq!(waiting_pods(1, &[0].into(), 2), 2);
        assert_eq!(waiting_pods(3, &[0].into(), 2), 3, "spools of others may have content");
        assert_eq!(waiting_pods(1, &BTreeSet::new(), 2), 1, "more cameras wait for the replacement");
    }
}
