//! Draining of recorders before their removal: a spool is lost with its pod, so its segments are uploaded first.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, Resource, ResourceExt};

use super::names::{ChildNames, FIELD_MANAGER};
use super::plan::closing_config;
use super::query::ShardReply;
use super::workload::{
    AppliedRecorders, ExpectedRecorders, fetch_recorder_config, replicas, touch_pods, workload_pods,
};
use super::{objects, query};
use crate::api::Site;
use crate::controllers::kubernetes::apply::{ApplyError, apply_child};
use crate::controllers::recorder_client::RecorderClient;

/// Time for the uploads of a recorder that answers. A store may be away permanently, and a deletion must end.
const UPLOAD_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
/// Time for a recorder that does not answer.
const UNREACHABLE_TIMEOUT: SignedDuration = SignedDuration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStatus {
    /// This number of segments waits, as far as the recorders report it.
    Pending(u64),
    /// The wait is over, with this number of segments not uploaded.
    Done(u64),
}

/// Stops recording at `site`, which is being deleted, and counts the segments in the spools. If the configuration is
/// deleted already, nothing can be drained.
pub async fn drain(
    client: &Client,
    recorders: &RecorderClient,
    site: &Site,
    live: &StatefulSet,
    now: Timestamp,
) -> Result<DrainStatus, ApplyError> {
    let names = ChildNames::of(site);
    let secrets = Api::<Secret>::namespaced(client.clone(), &names.namespace);
    let Some(config) = fetch_recorder_config(secrets.clone(), &names).await? else {
        return Ok(DrainStatus::Done(0));
    };
    let closed = closing_config(&config);
    if closed != config {
        let owner: Vec<_> = site.controller_owner_ref(&()).into_iter().collect();
        match apply_child(&secrets, FIELD_MANAGER, objects::config_secret(&names, &owner, &closed)).await {
            // The Secret was deleted meanwhile, and in a namespace that is being deleted nothing can be created.
            Err(ApplyError::Api(error)) if error.is_not_found() || error.is_namespace_terminating() => {
                return Ok(DrainStatus::Done(0));
            }
            result => result.map(drop)?,
        }
    }
    let pods_api = Api::<Pod>::namespaced(client.clone(), &names.namespace);
    let pods = workload_pods(&pods_api, &names, live).await?;
    touch_pods(&pods_api, &pods, &closed.revision).await?;
    let running: Vec<Pod> = pods.into_iter().filter(is_running).collect();
    let applied = AppliedRecorders {
        expected: ExpectedRecorders {
            pods: replicas(live),
            revision: closed.revision.clone(),
            api: closed.status_api.clone(),
            holds: closed.holds.clone(),
            widening: None,
        },
        pods: running.clone(),
    };
    let mut replies = query::query_recorders(recorders, &names, &applied).await;
    replies.retain(|reply| running.iter().any(|pod| pod.name_any() == names.pod(reply.shard)));
    let since = site.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Ok(evaluate_drain(&replies, &closed.revision, now.duration_since(since)))
}

/// Counts the segments in the spools of the recorders that answered.
pub fn pending_segments(replies: &[ShardReply]) -> u64 {
    let statuses = replies.iter().filter_map(|reply| reply.status.as_ref().ok());
    statuses.map(|status| status.spool.segments).sum()
}

fn evaluate_drain(replies: &[ShardReply], revision: &str, waited: SignedDuration) -> DrainStatus {
    let is_pending = |reply: &ShardReply| match &reply.status {
        Ok(status) => {
            // The revision: an earlier configuration still records. The bytes: an open file becomes a segment only when
            // its camera stops.
            let is_empty =
                status.revision == revision && status.spool.segments == 0 && status.spool.bytes == 0;
            !is_empty && waited < UPLOAD_TIMEOUT
        }
        Err(_) => waited < UNREACHABLE_TIMEOUT,
    };
    if replies.iter().any(is_pending) {
        DrainStatus::Pending(pending_segments(replies))
    } else {
        DrainStatus::Done(pending_segments(replies))
    }
}

/// Whether the spool of `pod` can have content.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::recorder_client::RecorderStatusError;
    use crate::controllers::testing;
    use crate::wire::{RecorderStatus, SpoolStatus};

    fn replying(shard: u32, revision: &str, segments: u64, bytes: u64) -> ShardReply {
        let spool = SpoolStatus { segments, bytes, limit: 1 << 30 };
        let status = testing::recorder_status(revision, Timestamp::UNIX_EPOCH, vec![]);
        ShardReply { shard, status: Ok(RecorderStatus { spool, ..status }) }
    }

    fn unreachable(shard: u32) -> ShardReply {
        ShardReply { shard, status: Err(RecorderStatusError::Unreachable) }
    }

    #[test]
    fn drain_waits_for_pending_segments_until_timeout() {
        let minutes = SignedDuration::from_mins;
        for (replies, waited, expected) in [
            (vec![], 0, DrainStatus::Done(0)),
            (vec![replying(0, "closed", 0, 0)], 0, DrainStatus::Done(0)),
            // The recorder still records, or completes its last file.
            (vec![replying(0, "open", 0, 0)], 0, DrainStatus::Pending(0)),
            (vec![replying(0, "closed", 0, 5)], 0, DrainStatus::Pending(0)),
            (vec![replying(0, "closed", 0, 0), replying(1, "closed", 7, 70)], 9, DrainStatus::Pending(7)),
            (vec![replying(0, "closed", 7, 70)], 10, DrainStatus::Done(7)),
            (vec![unreachable(0)], 0, DrainStatus::Pending(0)),
            (vec![unreachable(0)], 1, DrainStatus::Done(0)),
            (vec![unreachable(0), replying(1, "closed", 2, 9)], 1, DrainStatus::Pending(2)),
        ] {
            let found = evaluate_drain(&replies, "closed", minutes(waited));
            assert_eq!(found, expected, "{replies:?} after {waited}");
        }
    }
}
