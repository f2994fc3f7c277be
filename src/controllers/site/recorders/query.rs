//! Queries the recorders' status.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::names::ChildNames;
use super::workload::{AppliedRecorders, ExpectedRecorders};
use crate::controllers::recorder_client::{self, RecorderClient, RecorderStatusError};
use crate::wire::RecorderStatus;

const MAX_CONCURRENT_QUERIES: usize = 16;

/// Reply of one recorder.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardReply {
    pub shard: u32,
    pub status: Result<RecorderStatus, RecorderStatusError>,
}

/// Queries every expected recorder.
pub async fn query_recorders(
    client: &RecorderClient,
    names: &ChildNames,
    applied: &AppliedRecorders,
) -> Vec<ShardReply> {
    let ExpectedRecorders { pods, api, revision, .. } = &applied.expected;
    let query_shard = |shard: u32| async move {
        let name = names.pod(shard);
        let find = |pods: &'_ [Pod]| pods.iter().find(|pod| pod.name_any() == name).cloned();
        let pod = find(&applied.pods);
        let status = match recorder_client::pod_address(pod.as_ref()) {
            Ok(address) => client.status_for_revision(address, api, revision).await,
            Err(error) => Err(error),
        };
        let pod = pod.or_else(|| find(&applied.terminating));
        ShardReply { shard, status: status.map_err(|error| recorder_client::explain(error, pod.as_ref())) }
    };
    stream::iter((0..*pods).map(query_shard)).buffered(MAX_CONCURRENT_QUERIES).collect().await
}

/// Queries recorder pods that no longer belong to the expected recorders. `expected`: `None`, if no recorder is expected, so that none
/// can be queried.
pub async fn query_leaving(
    client: &RecorderClient,
    expected: Option<&ExpectedRecorders>,
    pods: Vec<Pod>,
) -> Vec<(Pod, Result<RecorderStatus, RecorderStatusError>)> {
    let query = |pod: Pod| async move {
        let status = match (recorder_client::pod_address(Some(&pod)), expected) {
            (Ok(address), Some(expected)) => {
                client.status_for_revision(address, &expected.api, &expected.revision).await
            }
            (Ok(_), None) => Err(RecorderStatusError::InvalidCredentials),
            (Err(error), _) => Err(error),
        };
        (pod, status)
    };
    stream::iter(pods.into_iter().map(query)).buffered(MAX_CONCURRENT_QUERIES).collect().await
}

/// Describes the recorders that do not follow `revision`; `None`: all of them do.
pub fn describe_lagging(replies: &[ShardReply], revision: &str) -> Option<String> {
    let describe = |reply: &ShardReply| {
        let problem = match &reply.status {
            Err(error) => format!(": {error}"),
            Ok(status) if status.revision == revision => match (&status.storage_problem, &status.refused) {
                (Some(problem), _) => format!(" cannot use the storage of its configuration: {problem}"),
                (None, Some(refused)) if refused.revision.as_deref() == Some(revision) => {
                    format!(" rejects a part of its configuration: {}", refused.message)
                }
                (None, _) => return None,
            },
            Ok(status) => match &status.refused {
                Some(refused) if refused.revision.as_deref() == Some(revision) => {
                    format!(" rejects its configuration: {}", refused.message)
                }
                _ => " does not follow the latest configuration yet".to_owned(),
            },
        };
        Some(format!("recorder {}{problem}", reply.shard))
    };
    let lagging: Vec<String> = replies.iter().filter_map(describe).collect();
    (!lagging.is_empty()).then(|| lagging.join("; "))
}

#[cfg(test)]
mod tests;
