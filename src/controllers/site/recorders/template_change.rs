//! Step five: a change of the recorder pods' template, in the turn of the Site.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::names::ChildNames;
use super::query::ShardReply;
use super::rollout::{LiveRecorders, Rollout};
use super::workload::{AppliedRecorders, ExpectedRecorders, LastRecordings, controlled_by, replicas};
use super::{query, rollout};
use crate::controllers::recorder_client::RecorderClient;
use crate::controllers::rollout_turns::{RolloutProgress, RolloutTurns};

/// Who replaces pods.
pub enum Replacement {
    /// Kubernetes, from this shard upwards.
    ByKubernetes { partition: u32 },
    /// The operator, with this pod: Kubernetes would begin with the pods that are to be removed.
    ByOperator(Option<Box<Pod>>),
}

/// Possible change of the recorder pods' template.
pub struct TemplateChange<'a> {
    pub live: &'a StatefulSet,
    pub desired: &'a StatefulSet,
    /// Pods that the Site wants. `desired` may have more, whose spools have content.
    pub wanted_pods: u32,
    pub names: &'a ChildNames,
    /// All pods of the Site.
    pub pods: &'a [Pod],
    /// Recorders that `desired` does not have stay until their spools are proved empty.
    pub is_removal_pending: bool,
    pub last_recordings: &'a LastRecordings,
}

impl TemplateChange<'_> {
    /// Returns the next step, in the turn of this Site.
    pub async fn next_step(
        &self,
        client: &RecorderClient,
        expected: &ExpectedRecorders,
        turns: &RolloutTurns,
        is_given_up: bool,
        now: Timestamp,
    ) -> Rollout {
        let Self { live, names, pods, last_recordings, .. } = *self;
        let stays = if self.is_removal_pending { self.wanted_pods } else { u32::MAX };
        let shards = replicas(live).min(stays);
        let (outdated, had_turn) = (self.outdated(shards), turns.has_turn(&names.uid));
        if !expected.lost.is_empty() {
            let progress = if had_turn { RolloutProgress::Replacing } else { RolloutProgress::Waiting };
            let _ = turns.observe(&names.uid, progress, now);
            return Rollout::default();
        }
        let replies = query_live(live, client, names, expected, pods).await;
        let recorders =
            LiveRecorders { workload: live, shards, names, pods, replies: &replies, last_recordings };
        let Some(outdated) = outdated else {
            // After a change of the leader, a Site whose pods never came back has no turn. It proves nothing.
            let progress = match rollout::first_not_back(&recorders, 0) {
                None if rollout::records(&replies) => RolloutProgress::Current,
                Some(_) if had_turn => RolloutProgress::Replacing,
                _ => RolloutProgress::Waiting,
            };
            // It asks for nothing, so nothing is denied.
            let _ = turns.observe(&names.uid, progress, now);
            return Rollout::default();
        };
        let step = rollout::next_step(&recorders, &outdated, is_given_up);
        match turns.observe(&names.uid, step.progress(&outdated, had_turn), now) {
            Ok(()) => step,
            Err(denied) => Rollout::denied(&outdated, denied),
        }
    }

    /// Returns who replaces pods in this step.
    pub fn replacement(&self, step: &Rollout) -> Replacement {
        let Self { live, desired, names, pods, .. } = *self;
        if self.is_removal_pending && self.outdated(replicas(live)).is_some() {
            let pod = |shard| {
                controlled_by(live, pods)
                    .find(|pod| pod.name_any() == names.pod(shard))
                    .cloned()
                    .map(Box::new)
            };
            return Replacement::ByOperator(step.replaced.and_then(pod));
        }
        // Closed otherwise: a change that this comparison does not see must not reach a pod.
        let closed = replicas(live).max(replicas(desired));
        Replacement::ByKubernetes { partition: step.partition.unwrap_or(closed) }
    }

    fn outdated(&self, shards: u32) -> Option<Vec<u32>> {
        rollout::outdated_shards(self.live, self.desired, self.names, self.pods, shards)
    }
}

/// Queries all recorders of `live`. `pods` are all pods of the Site.
pub async fn query_live(
    live: &StatefulSet,
    recorders: &RecorderClient,
    names: &ChildNames,
    expected: &ExpectedRecorders,
    pods: &[Pod],
) -> Vec<ShardReply> {
    let expected = ExpectedRecorders { pods: replicas(live), ..expected.clone() };
    query::query_recorders(recorders, names, &AppliedRecorders::new(expected, live, pods)).await
}
