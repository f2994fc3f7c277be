//! A change of the recorder pods' template reaches one pod at a time. Pure.
//!
//! The partition of the StatefulSet is the gate: Kubernetes replaces the pods from it upwards. An `emptyDir` spool is lost with its
//! pod, so such a pod goes only while its spool has nothing but files in progress, which it uploads as it terminates.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::drain::{SpoolReport, can_have_content, has_claims};
use super::names::ChildNames;
use super::query::ShardReply;
use super::workload::{controlled_by, replicas};
use crate::controllers::kubernetes::diff;
use crate::wire::{CameraReport, CameraState, RecorderStatus};

/// Label of a pod with the revision of its template.
const REVISION_LABEL: &str = "controller-revision-hash";

/// Age of the last segment that a status knows, up to which its camera was recording: the status has it every five minutes, and a
/// segment lasts up to an hour.
const MAX_SEGMENT_AGE: SignedDuration = SignedDuration::from_mins(70);

/// Next step of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// First shard that Kubernetes may replace; `None`: no pod is to be replaced.
    pub partition: Option<u32>,
    /// Spool that the next step waits for.
    pub waiting: SpoolReport,
    /// Spool that people give up.
    pub given_up: SpoolReport,
    /// Replaced pod that the next step waits for: it is not ready, does not answer or gets no frames.
    pub stopped_at: Option<String>,
}

/// How far a change of the template has come.
struct Progress {
    /// Shards whose pods have another template.
    outdated: Vec<u32>,
    /// Every expected pod exists, and has the template.
    is_complete: bool,
}

impl Progress {
    /// `None`: Kubernetes has not evaluated the last change of `live`, so nobody knows yet.
    fn new(live: &StatefulSet, desired: &StatefulSet, names: &ChildNames, pods: &[Pod]) -> Option<Self> {
        let status = live.status.as_ref();
        let is_observed = status.and_then(|status| status.observed_generation) >= live.metadata.generation;
        let update_revision = status.and_then(|status| status.update_revision.as_ref());
        let is_changed = has_other_template(live, desired);
        if !is_observed && !is_changed {
            return None;
        }
        let is_outdated = |pod: &Pod| is_changed || pod.labels().get(REVISION_LABEL) != update_revision;
        let own: Vec<&Pod> = controlled_by(live, pods).collect();
        let shards = 0..replicas(live);
        let pod = |shard: u32| own.iter().find(|pod| pod.name_any() == names.pod(shard));
        let outdated: Vec<u32> =
            shards.clone().filter(|shard| pod(*shard).is_some_and(|pod| is_outdated(pod))).collect();
        let is_complete = shards.into_iter().all(|shard| pod(shard).is_some_and(|pod| !is_outdated(pod)));
        Some(Self { outdated, is_complete })
    }
}

fn has_other_template(live: &StatefulSet, desired: &StatefulSet) -> bool {
    let template = |set: &StatefulSet| {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        serde_json::to_value(template).unwrap_or_default()
    };
    diff::first_difference(&template(desired), &template(live)).is_some()
}

/// Whether a change of the template has not reached all pods. Otherwise nobody needs to ask the recorders.
pub fn is_due(live: &StatefulSet, desired: &StatefulSet, names: &ChildNames, pods: &[Pod]) -> bool {
    Progress::new(live, desired, names, pods).is_none_or(|progress| !progress.is_complete)
}

/// Returns whether a replaced recorder gets frames again from one of its cameras. Cameras that were silent before, and those that
/// may not record now, say nothing about the new template.
fn records_again(pod: &Pod, status: &RecorderStatus, recorded_until: &BTreeMap<String, Timestamp>) -> bool {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let was_recording = |name: &str| {
        let until = recorded_until.get(name);
        until.zip(start).is_some_and(|(until, start)| start.0.duration_since(*until) < MAX_SEGMENT_AGE)
    };
    let waits = |camera: &CameraReport| {
        matches!(camera.state, CameraState::Connecting | CameraState::Disconnected)
            && was_recording(&camera.name)
    };
    status.cameras.iter().any(|camera| camera.state == CameraState::Recording)
        || !status.cameras.iter().any(waits)
}

/// Returns the next step. `pods` are all pods of the Site. `recorded_until` has the end of each camera's
/// last known segment. `is_given_up`: people give up what is in the spools.
pub fn next_step(
    live: &StatefulSet,
    desired: &StatefulSet,
    names: &ChildNames,
    pods: &[Pod],
    replies: &[ShardReply],
    recorded_until: &BTreeMap<String, Timestamp>,
    is_given_up: bool,
) -> Rollout {
    let unchanged = Rollout { partition: Some(partition(live)), ..Rollout::default() };
    let next = match Progress::new(live, desired, names, pods) {
        None => return unchanged,
        Some(Progress { is_complete: true, .. }) => return Rollout::default(),
        // A pod that is being replaced comes back below a higher partition with its old template.
        Some(Progress { outdated, .. }) => match outdated.into_iter().max() {
            None => return unchanged,
            Some(next) => next,
        },
    };
    let reply = |shard| replies.iter().find(|reply| reply.shard == shard);
    let is_back = |shard: &u32| {
        let pod = pods.iter().find(|pod| pod.name_any() == names.pod(*shard) && is_ready(pod));
        let status = reply(*shard).and_then(|reply| reply.status.as_ref().ok());
        pod.zip(status).is_some_and(|(pod, status)| records_again(pod, status, recorded_until))
    };
    // A template that does not record must stop at the first pod.
    if let Some(shard) = (next + 1..replicas(live)).find(|shard| !is_back(shard)) {
        let stopped_at = Some(names.pod(shard));
        return Rollout { partition: Some(next + 1), stopped_at, ..Rollout::default() };
    }
    let mut waiting = SpoolReport::default();
    let name = names.pod(next);
    // A claim outlives its pod.
    if !has_claims(live) {
        match reply(next).map(|reply| &reply.status) {
            Some(Ok(status)) if status.spool.segments == 0 => {}
            Some(Ok(status)) => {
                waiting.segments = status.spool.segments;
                waiting.filled.push(name);
            }
            Some(Err(error)) if can_have_content(live, pods, &name) => {
                waiting.unknown.insert(name, error.to_string());
            }
            _ => {}
        }
    }
    let mut step = Rollout { partition: Some(next), ..Rollout::default() };
    if is_given_up {
        step.given_up = waiting;
    } else if !waiting.is_empty() {
        (step.partition, step.waiting) = (Some(next + 1), waiting);
    }
    step
}

fn partition(live: &StatefulSet) -> u32 {
    let update = live.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let partition = update.and_then(|update| update.rolling_update.as_ref()?.partition);
    u32::try_from(partition.unwrap_or_default()).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests;
