//! A change of the recorder pods' template reaches one pod at a time, and the Sites in turns. Pure.
//!
//! The partition of the StatefulSet is the gate: Kubernetes replaces the pods from it upwards. An `emptyDir` spool is lost with its
//! pod, so such a pod goes only while its spool has nothing but files in progress, which it uploads as it terminates. Files that a
//! crash left behind are not in progress.
//!
//! A recorder that is to be removed stays until its spool is proved empty, and Kubernetes would replace it first, with what is in its
//! spool. Until it is gone, the operator deletes the pods of the other recorders itself, and Kubernetes re-creates them.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::claims::has_claims;
use super::drain::report_spools;
use super::names::ChildNames;
use super::query::ShardReply;
use super::spool_report::SpoolReport;
use super::workload::{LastRecording, LastRecordings, controlled_by, pod_condition};
use crate::controllers::kubernetes::diff;
use crate::controllers::rollout_turns::{RolloutProgress, TurnDenied};
use crate::wire::{CameraState, RecorderStatus};

/// Label of a pod with the revision of its template.
const REVISION_LABEL: &str = "controller-revision-hash";

/// Age of the last segment that a status knows, up to which its camera was recording: the status has it every 15 minutes, and a
/// segment lasts up to an hour.
const MAX_SEGMENT_AGE: SignedDuration = SignedDuration::from_mins(80);

/// Next step of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// First shard that Kubernetes may replace; `None`: no pod is to be replaced.
    pub partition: Option<u32>,
    /// Shard whose pod is to be replaced now.
    pub replaced: Option<u32>,
    /// Spool that the next step waits for.
    pub waiting: SpoolReport,
    /// Spool that people give up.
    pub given_up: SpoolReport,
    /// Replaced pod that the next step waits for: it is not ready, does not answer or gets no frames.
    pub stopped_at: Option<String>,
    /// Reason that the next step waits for other Sites.
    pub turn_denied: Option<TurnDenied>,
}

impl Rollout {
    /// Returns the step of a Site without a turn: its pods keep their template.
    pub fn denied(outdated: &[u32], denied: TurnDenied) -> Self {
        let closed = outdated.iter().max().map(|next| next + 1);
        Self { partition: closed, turn_denied: Some(denied), ..Self::default() }
    }

    /// Returns the progress of this step for `outdated`. `had_turn`: it began before.
    pub fn progress(&self, outdated: &[u32], had_turn: bool) -> RolloutProgress {
        if self.replaced.is_some() {
            RolloutProgress::CanProceed
        // Without a turn, a pod that is missing is missing for another reason.
        } else if self.stopped_at.is_some() || outdated.is_empty() && had_turn {
            RolloutProgress::Replacing
        } else {
            RolloutProgress::Waiting
        }
    }
}

/// Recorders of a Site, as the operator observes them.
#[derive(Clone, Copy, Debug)]
pub struct LiveRecorders<'a> {
    pub workload: &'a StatefulSet,
    /// Number of recorders that stay. A template does not wait for those that are to be removed.
    pub shards: u32,
    pub names: &'a ChildNames,
    /// All pods of the Site.
    pub pods: &'a [Pod],
    pub replies: &'a [ShardReply],
    pub last_recordings: &'a LastRecordings,
}

/// Returns those of the first `shards` whose pods have another template than `desired`; `None`: each of these pods exists and has
/// it. Empty: a pod is being replaced, or Kubernetes has not evaluated the last change of `live`.
pub fn outdated_shards(
    live: &StatefulSet,
    desired: &StatefulSet,
    names: &ChildNames,
    pods: &[Pod],
    shards: u32,
) -> Option<Vec<u32>> {
    let status = live.status.as_ref();
    let is_observed = status.and_then(|status| status.observed_generation) >= live.metadata.generation;
    let update_revision = status.and_then(|status| status.update_revision.as_ref());
    let is_changed = has_other_template(live, desired);
    if !is_observed && !is_changed {
        return Some(Vec::new());
    }
    let is_outdated = |pod: &Pod| is_changed || pod.labels().get(REVISION_LABEL) != update_revision;
    let own: Vec<&Pod> = controlled_by(live, pods).collect();
    let pod = |shard: u32| own.iter().find(|pod| pod.name_any() == names.pod(shard));
    let (mut outdated, mut is_complete) = (Vec::new(), true);
    for shard in 0..shards {
        let is_current = pod(shard).map(|pod| !is_outdated(pod));
        outdated.extend((is_current == Some(false)).then_some(shard));
        is_complete &= is_current == Some(true);
    }
    (!is_complete).then_some(outdated)
}

fn has_other_template(live: &StatefulSet, desired: &StatefulSet) -> bool {
    let template = |set: &StatefulSet| {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        serde_json::to_value(template).unwrap_or_default()
    };
    diff::first_difference(&template(desired), &template(live)).is_some()
}

/// Returns whether a replaced recorder gets frames again from one of the cameras that it is configured for. Cameras that were silent
/// before, and those that may not record now, say nothing about the new template.
fn records_again(shard: u32, pod: &Pod, status: &RecorderStatus, last_recordings: &LastRecordings) -> bool {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let was_recording =
        |until: Timestamp| start.is_some_and(|start| start.0.duration_since(until) < MAX_SEGMENT_AGE);
    // A camera that the recorder does not know waits too.
    let is_settled = |name: &str| {
        let mut reports = status.cameras.iter().filter(|report| report.name == name);
        reports.any(|report| !matches!(report.state, CameraState::Connecting | CameraState::Disconnected))
    };
    let waits = |(name, last): (&String, &LastRecording)| {
        last.shard == shard && was_recording(last.until) && !is_settled(name)
    };
    has_recording_camera(status) || !last_recordings.iter().any(waits)
}

/// Returns whether a recorder rejects a part of the configuration that it uses. A new template that does must not reach the others.
fn rejects_a_part(status: &RecorderStatus) -> bool {
    status.refused.as_ref().is_some_and(|refused| refused.revision.as_ref() == Some(&status.revision))
}

/// Returns whether any camera records. A Site at night, or with suspended cameras, says nothing about a template.
pub fn records(replies: &[ShardReply]) -> bool {
    replies.iter().any(|reply| reply.status.as_ref().is_ok_and(has_recording_camera))
}

fn has_recording_camera(status: &RecorderStatus) -> bool {
    status.cameras.iter().any(|camera| camera.state == CameraState::Recording)
}

/// Returns the first shard from `from` whose recorder is not ready, does not answer or does not record again.
pub fn first_not_back(recorders: &LiveRecorders<'_>, from: u32) -> Option<u32> {
    let LiveRecorders { workload: _, shards, names, pods, replies, last_recordings } = *recorders;
    let is_back = |shard: &u32| {
        let pod = pods.iter().find(|pod| pod.name_any() == names.pod(*shard) && is_ready(pod));
        let reply = replies.iter().find(|reply| reply.shard == *shard);
        let status = reply.and_then(|reply| reply.status.as_ref().ok());
        pod.zip(status).is_some_and(|(pod, status)| {
            !rejects_a_part(status) && records_again(*shard, pod, status, last_recordings)
        })
    };
    (from..shards).find(|shard| !is_back(shard))
}

/// Returns the next step for the [`outdated_shards`]. `is_given_up`: people give up the content of the spools.
pub fn next_step(recorders: &LiveRecorders<'_>, outdated: &[u32], is_given_up: bool) -> Rollout {
    let LiveRecorders { workload: live, names, pods, replies, .. } = *recorders;
    let Some(next) = outdated.iter().copied().max() else {
        // A pod that is being replaced would come back below a higher partition with its old template.
        return Rollout { partition: partition(live), ..Rollout::default() };
    };
    // A template that does not record must stop at the first pod.
    if let Some(shard) = first_not_back(recorders, next + 1) {
        let stopped_at = Some(names.pod(shard));
        return Rollout { partition: Some(next + 1), stopped_at, ..Rollout::default() };
    }
    // A claim outlives its pod. Files in progress are uploaded as the pod terminates.
    let waiting = if has_claims(live) {
        SpoolReport::default()
    } else {
        report_spools(live, names, pods, replies.iter().find(|reply| reply.shard == next), |status| {
            status.spool.segments == 0 && status.spool.unrecovered == 0
        })
    };
    if !waiting.is_empty() && !is_given_up {
        return Rollout { partition: Some(next + 1), waiting, ..Rollout::default() };
    }
    Rollout { partition: Some(next), replaced: Some(next), given_up: waiting, ..Rollout::default() }
}

/// Returns the partition of `live`; `None`: it has none, such as while the operator replaces its pods itself.
fn partition(live: &StatefulSet) -> Option<u32> {
    let update = live.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    u32::try_from(update?.rolling_update.as_ref()?.partition?).ok()
}

fn is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

#[cfg(test)]
mod tests;
