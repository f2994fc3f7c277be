//! Draining of recorders before their removal: a spool is lost with its pod, so its segments are uploaded first.
//!
//! A spool counts as empty only if its recorder proves it: a recorder that does not answer may have anything.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt};

use super::claims::{ClaimContent, SpoolClaim, Spools, has_claims, has_pod, needed_pods};
use super::names::{ChildNames, FIELD_MANAGER};
use super::plan::draining_config;
use super::query::ShardReply;
use super::site_holds::SiteHolds;
use super::site_pods::list_site_pods;
use super::spool_report::{SpoolReport, discard_reason, report_loss};
use super::workload::{
    AppliedRecorders, ExpectedRecorders, fetch_recorder_config, is_terminated, pod_condition, replicas,
    scale_workload, touch_pods,
};
use super::{objects, query};
use crate::api::{Site, reject_future};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApplyError;
use crate::controllers::kubernetes::apply::apply_child;
use crate::wire::{RecorderConfig, RecorderStatus};

/// Time for the uploads of a deleted Site without holds. A store may be away permanently, and a deletion must end.
const DRAIN_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
/// Time for the uploads of recorders that stopped for their replacement.
const MAX_CLOSED: SignedDuration = SignedDuration::from_mins(2);
/// Time from a pod's start to its first status.
const FIRST_STATUS_DELAY: SignedDuration = SignedDuration::from_secs(3);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainStatus {
    Pending(SpoolReport),
    /// The wait is over. What was not proved empty is reported as lost.
    Done,
}

/// Stops recording at `site`, which is being deleted, and reports the content of its spools. `is_held`: an open hold may cover
/// it, so the wait has no end. `holds`: those that the recorders follow.
pub async fn drain(
    context: &Context,
    site: &Site,
    live: &StatefulSet,
    is_held: bool,
    holds: &SiteHolds,
    now: Timestamp,
) -> Result<DrainStatus, ApplyError> {
    let Context { client, recorders, .. } = context;
    let names = ChildNames::of(site);
    let pods_api = Api::<Pod>::namespaced(client.clone(), &names.namespace);
    let closed = stop_recording(context, &names, holds).await?;
    let mut spools = Spools::list(context, &names, Some(live)).await?;
    let all = list_site_pods(context, &names, replicas(live).max(spools.shards_end())).await?;
    spools.protect().await?;
    let mut report = if let Some(closed) = closed {
        let expected = ExpectedRecorders {
            pods: replicas(live),
            revision: closed.revision.clone(),
            api: closed.status_api.clone(),
            holds: closed.holds.clone(),
            widening: None,
            omitted_cameras: Vec::new(),
            lost: BTreeSet::new(),
        };
        let applied = AppliedRecorders::new(expected, live, &all);
        touch_pods(&pods_api, &applied.pods, &closed.revision).await?;
        let replies = query::query_recorders(recorders, &names, &applied).await;
        let is_empty = is_empty_at(&closed.revision);
        spools.record_proofs(&replies, &closed, &is_empty).await?;
        let replies = replies.iter().filter(|reply| !spools.may_go(reply.shard));
        report_spools(live, &names, &all, replies, is_empty)
    } else {
        // Without its token, no recorder answers.
        let why = format!("the Secret {} is gone, unreadable or another party's", names.config);
        let mut silent = report_silent(live, &names, &all, &why);
        for claim in spools.claims().iter().filter(|claim| claim.may_go()) {
            silent.unknown.remove(&names.pod(claim.shard));
        }
        silent
    };
    report.extend(report_claims(&names, spools.claims(), &all, 0));
    if report.is_empty() {
        return Ok(DrainStatus::Done);
    }
    if is_given_up(site, is_held, now) {
        // Once: what an emptyDir has is still there until the StatefulSet is deleted. A claim that is given up says so.
        if has_claims(live) || !is_settled(site) {
            report_loss(context, site, &report, now).await;
        }
        spools.give_up(|_| true).await?;
        return Ok(DrainStatus::Done);
    }
    let needed = needed_pods(spools.claims());
    if needed > replicas(live) {
        // Somebody scaled the StatefulSet down.
        scale_workload(&Api::namespaced(client.clone(), &names.namespace), live, needed).await?;
    }
    Ok(DrainStatus::Pending(report))
}

/// Writes the configuration with which the recorders of a deleted Site stop recording and follow `holds`. Returns it; `None`: there is
/// no configuration any more.
pub async fn stop_recording(
    context: &Context,
    names: &ChildNames,
    holds: &SiteHolds,
) -> Result<Option<RecorderConfig>, ApplyError> {
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &names.namespace);
    let Some(config) = fetch_recorder_config(secrets.clone(), names).await? else { return Ok(None) };
    let closed = draining_config(&config, holds);
    if closed == config {
        return Ok(Some(closed));
    }
    let (cached, secret) = (&context.cache.recorder_configs, objects::config_secret(names, &closed));
    match apply_child(&secrets, cached, FIELD_MANAGER, secret, |live| names.owns(live)).await {
        // The Secret was deleted meanwhile, and in a namespace that is being deleted nothing can be created.
        Err(ApplyError::Api(error)) if error.is_not_found() || error.is_namespace_terminating() => Ok(None),
        result => result.map(|_| Some(closed)),
    }
}

/// Returns whether the content of the spools of a deleted Site is given up: by a person, or because its time is over.
pub fn is_given_up(site: &Site, is_held: bool, now: Timestamp) -> bool {
    let is_overdue = now.duration_since(drain_start(site, now)) >= DRAIN_TIMEOUT;
    discard_reason(site).is_some() || !is_held && is_overdue
}

/// Returns since when the operator drains the spools of a deleted Site. It may not have run when the Site was deleted, so the time of
/// the deletion says nothing. No condition says it either: `Ready` may have been `False` for another reason before.
pub fn drain_start(site: &Site, now: Timestamp) -> Timestamp {
    let reported = site.status.as_ref().and_then(|status| status.drain_start_time.as_ref());
    let start = reported.and_then(|start| reject_future(start.0, now)).unwrap_or(now);
    // A status has whole seconds.
    let start = Timestamp::from_second(start.as_second()).unwrap_or(start);
    // A restored status is of another deletion.
    site.metadata.deletion_timestamp.as_ref().map_or(start, |deleted| deleted.0.max(start))
}

/// Returns the end of the drain of a deleted Site, for its status.
pub fn drain_end(site: &Site, now: Timestamp) -> Timestamp {
    // Not before the deletion, by whatever clock.
    drain_start(site, now).max(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Returns whether the status says that every spool of a deleted Site was proved empty or reported as lost.
pub fn is_settled(site: &Site) -> bool {
    let reported = site.status.as_ref().and_then(|status| status.drain_end_time.as_ref());
    // A restored status is of another deletion.
    reported
        .is_some_and(|end| site.metadata.deletion_timestamp.as_ref().is_none_or(|deleted| end.0 >= deleted.0))
}

/// Returns whether a recorder proves an empty spool at `revision`.
pub fn is_empty_at(revision: &str) -> impl Fn(&RecorderStatus) -> bool {
    // The revision: an earlier configuration still records, and uploads of an evicted segment may still arrive.
    move |status| status.has_acknowledged(revision) && has_empty_spool(status)
}

/// Whether nothing is in a spool, but an earlier upload may still arrive.
fn is_in_doubt(status: &RecorderStatus) -> bool {
    has_empty_spool(status) && status.uploads_follow.as_ref() != Some(&status.revision)
}

fn has_empty_spool(status: &RecorderStatus) -> bool {
    // The bytes: an open file becomes a segment only when its camera stops.
    status.spool.segments == 0 && status.spool.bytes == 0
}

/// Reports the spools behind `replies`, without those that are drained. `pods` are all pods of the Site.
pub fn report_spools<'a>(
    live: &StatefulSet,
    names: &ChildNames,
    pods: &[Pod],
    replies: impl IntoIterator<Item = &'a ShardReply>,
    is_drained: impl Fn(&RecorderStatus) -> bool,
) -> SpoolReport {
    let mut report = SpoolReport::default();
    for ShardReply { shard, status } in replies {
        let name = names.pod(*shard);
        match status {
            Ok(status) if is_drained(status) => {}
            Ok(status) if is_in_doubt(status) => report.in_doubt.push(name),
            Ok(status) => {
                report.segments = report.segments.saturating_add(status.spool.segments);
                report.filled.push(name);
            }
            Err(_) if !can_have_content(live, pods, &name) => {}
            Err(error) => {
                report.unknown.insert(name, error.to_string());
            }
        }
    }
    report
}

/// Returns whether the recorders that are to be replaced should stop recording now. Until the store has taken what they
/// completed, they go on: the replacement must not cost more than one gap. If the store then takes too long for the rest, or an
/// upload stays in doubt, they record again.
pub fn should_close(replies: &[ShardReply], is_closing: bool) -> bool {
    let is_uploaded = |status: &RecorderStatus| status.spool.segments == 0 && status.uploads_follow.is_some();
    replies.iter().all(|reply| match &reply.status {
        Ok(status) if is_closing => {
            let since = status.cameras.iter().map(|camera| camera.since).max().unwrap_or(status.now);
            is_uploaded(status) || status.now.duration_since(since) < MAX_CLOSED
        }
        Ok(status) => is_uploaded(status),
        Err(_) => false,
    })
}

/// Reports the claims from `first_shard` upwards without evidence that they are empty. `pods` are all pods of the Site.
pub fn report_claims(
    names: &ChildNames,
    claims: &[SpoolClaim],
    pods: &[Pod],
    first_shard: u32,
) -> SpoolReport {
    let mut report = SpoolReport::default();
    for claim in claims.iter().filter(|claim| claim.shard >= first_shard && !claim.may_go()) {
        let pod = names.pod(claim.shard);
        if has_pod(names, pods, claim.shard) {
            report.filled.push(pod);
            continue;
        }
        let why = if claim.content == ClaimContent::Unbound {
            format!(
                "its claim {} is not bound to its volume (spec.volumeName); delete it if it is not needed",
                claim.name
            )
        } else if claim.is_deleting {
            format!("somebody deleted its claim {}, so that no pod can use it any more", claim.name)
        } else {
            format!("no pod uses its claim {}", claim.name)
        };
        report.unknown.insert(pod, why);
    }
    report
}

/// Reports the spools of recorders that nobody can query.
fn report_silent(live: &StatefulSet, names: &ChildNames, pods: &[Pod], why: &str) -> SpoolReport {
    let all = (0..replicas(live)).map(|shard| names.pod(shard));
    let unknown = all.filter(|name| can_have_content(live, pods, name)).map(|name| (name, why.to_owned()));
    SpoolReport { unknown: unknown.collect(), ..SpoolReport::default() }
}

/// Returns whether the spool of the pod `name` can have content. A volume claim outlives its pod, and so does its content. An
/// `emptyDir` has none before the recorder first starts, and goes with its pod.
fn can_have_content(live: &StatefulSet, pods: &[Pod], name: &str) -> bool {
    has_claims(live)
        || pods.iter().any(|pod| pod.name_any() == name && has_worked(pod) && !is_terminated(pod))
}

/// Returns whether the recorder in `pod` ever worked. A recorder without a configuration or a writable spool is not ready, and
/// records nothing.
pub fn has_worked(pod: &Pod) -> bool {
    has_started(pod) && !was_never_ready(pod)
}

/// Returns whether `pod` has not been ready since its start: its condition has not changed since.
fn was_never_ready(pod: &Pod) -> bool {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let unready = pod_condition(pod, "Ready").filter(|ready| ready.status == "False");
    let since = unready.and_then(|ready| ready.last_transition_time.as_ref());
    start.zip(since).is_some_and(|(start, since)| since.0.duration_since(start.0) <= FIRST_STATUS_DELAY)
}

/// Returns whether a container of `pod` ever started.
pub fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|container| {
        let state = container.state.as_ref();
        container.restart_count > 0
            || container.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
            || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    })
}

#[cfg(test)]
mod tests;
