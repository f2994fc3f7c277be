//! All recorders of a Site with their replies, and which of them lag behind the latest configuration.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::apply::AppliedPlan;
use super::drain::has_started;
use super::lagging::{Lag, LaggingRecorder};
use super::lost;
use super::names::ChildNames;
use super::query::{ShardReply, query_leaving, query_recorders};
use super::workload::{AppliedRecorders, ExpectedRecorders, cached_site_pods, is_terminated, leaving_pods};
use crate::api::Camera;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApplyError;
use crate::controllers::recorder_client::RecorderStatusError;
use crate::wire::{CameraState, RecorderConfig, RecorderStatus};

/// Recorders of a Site, with their replies.
#[derive(Clone, Debug, Default)]
pub struct QueriedRecorders {
    /// Revision of the latest configuration.
    revision: String,
    /// Replies of the recorders that should exist.
    pub replies: Vec<ShardReply>,
    /// Their pods, each at the place of its reply; `None`: it does not exist, or terminates.
    pods: Vec<Option<Pod>>,
    /// All other recorder pods: they terminate, or are to be removed.
    leaving: Vec<(Pod, Result<RecorderStatus, RecorderStatusError>)>,
}

/// Queries all recorders of a Site after its plan was `applied`, or could not be. `planned`: the recorders of that plan.
pub async fn query_all(
    context: &Context,
    names: &ChildNames,
    planned: Option<ExpectedRecorders>,
    applied: &Result<AppliedPlan, ApplyError>,
) -> QueriedRecorders {
    let Context { cache, recorders: client, .. } = context;
    let (running, leaving) = if let Ok(applied) = applied {
        (applied.recorders.clone(), applied.leaving_pods.clone())
    } else {
        // They go on as they are.
        let pods = cached_site_pods(cache, names);
        let running = planned.clone().map(|planned| AppliedRecorders::unapplied(planned, names, &pods));
        let expected = running.as_ref().map(|running| (running.expected.pods, running.pods.as_slice()));
        let (shards, own) = expected.unwrap_or_default();
        let leaving = leaving_pods(&pods, names, shards, own);
        (running, leaving)
    };
    let expected = running.as_ref().map(|running| &running.expected).or(planned.as_ref());
    let leaving = query_leaving(client, expected, leaving);
    let revision = expected.map(|expected| expected.revision.clone()).unwrap_or_default();
    let Some(running) = &running else {
        return QueriedRecorders { revision, leaving: leaving.await, ..QueriedRecorders::default() };
    };
    let (leaving, replies) = tokio::join!(leaving, query_recorders(client, names, running));
    let pod = |reply: &ShardReply| {
        let name = names.pod(reply.shard);
        running.pods.iter().find(|pod| pod.name_any() == name).cloned()
    };
    QueriedRecorders { revision, pods: replies.iter().map(pod).collect(), replies, leaving }
}

impl QueriedRecorders {
    /// Returns the recorders that lag. `is_denied`: nothing may be recorded. `config` and `cameras` say which cameras they may record.
    pub fn lagging(
        &self,
        is_denied: bool,
        config: Option<&RecorderConfig>,
        cameras: &[Camera],
        now: Timestamp,
    ) -> Vec<LaggingRecorder> {
        let lagging = |pod: &Pod, lag, status: &Result<RecorderStatus, _>, cameras| LaggingRecorder {
            pod_uid: pod.uid().unwrap_or_default(),
            pod_name: pod.name_any(),
            lag,
            revision: status.as_ref().ok().map(|status| status.revision.clone()),
            cameras,
            since: now,
        };
        let expected = self.replies.iter().zip(&self.pods).filter_map(|(reply, pod)| {
            let pod = pod.as_ref()?;
            let lag = self.lag(pod, &reply.status, is_denied)?;
            let name = pod.name_any();
            let recorded = lost::recorded_by(reply.shard, &name, config, cameras);
            let recorded = recorded.map(ResourceExt::name_any).collect();
            Some(lagging(pod, lag, &reply.status, Some(recorded)))
        });
        let leaving = self.leaving.iter().filter_map(|(pod, status)| {
            // The cameras of a recorder that terminates keep their last state.
            Some(lagging(pod, self.lag(pod, status, false)?, status, None))
        });
        expected.chain(leaving).collect()
    }

    fn lag(
        &self,
        pod: &Pod,
        status: &Result<RecorderStatus, RecorderStatusError>,
        is_denied: bool,
    ) -> Option<Lag> {
        let has_stopped =
            |state: CameraState| matches!(state, CameraState::Suspended | CameraState::NotPermitted);
        match status {
            Err(_) => can_record(pod).then_some(Lag::Silent),
            Ok(status) if status.revision != self.revision => Some(Lag::OtherRevision),
            Ok(status) if is_denied && !status.cameras.iter().all(|camera| has_stopped(camera.state)) => {
                Some(Lag::StillRecords)
            }
            Ok(_) => None,
        }
    }
}

/// Whether a recorder may run in `pod`, by what Kubernetes reports.
pub fn can_record(pod: &Pod) -> bool {
    has_started(pod) && !is_terminated(pod)
}

#[cfg(test)]
mod tests;
