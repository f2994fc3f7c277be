//! Recorders that go for good: what waits in their spools is uploaded first. A spool goes with its pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, Resource, ResourceExt};

use super::names::{ChildNames, FIELD_MANAGER};
use super::plan::closing_config;
use super::query::ShardReply;
use super::workload::{AppliedRecorders, ExpectedRecorders, replicas, touch_pods, workload_pods};
use super::{objects, query};
use crate::api::Site;
use crate::controllers::kubernetes::apply::{ApplyError, apply_child};
use crate::controllers::kubernetes::error::{ApiError, KubeErrorExt};
use crate::controllers::recorder_client::RecorderClient;

/// Who answers is waited for so long: a store that is away for longer may be away for good, and a deletion
/// must come to its end.
const UPLOAD_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
/// Who does not answer is waited for so long.
const UNREACHABLE_TIMEOUT: SignedDuration = SignedDuration::from_mins(1);

/// How far the spools are emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStatus {
    /// So many segments wait still, as far as their recorders say.
    Pending(u64),
    /// Nothing more is to be waited for; so many segments were still there.
    Done(u64),
}

/// Closes the recorders of `site`, which is being deleted, and asks what waits in their spools. What they are
/// configured with may be gone already; then there is nothing to be done.
pub async fn drain(
    client: &Client,
    recorders: &RecorderClient,
    site: &Site,
    live: &StatefulSet,
    now: Timestamp,
) -> Result<DrainStatus, ApplyError> {
    let names = ChildNames::of(site);
    let secrets = Api::<Secret>::namespaced(client.clone(), &names.namespace);
    let Some(config) = super::workload::fetch_recorder_config(secrets.clone(), &names).await? else {
        return Ok(DrainStatus::Done(0));
    };
    let closed = closing_config(&config);
    if closed != config {
        let owner: Vec<_> = site.controller_owner_ref(&()).into_iter().collect();
        match apply_child(&secrets, FIELD_MANAGER, objects::config_secret(&names, &owner, &closed)).await {
            // It went in the meantime, and nothing can be made any more where everything goes.
            Err(ApplyError::Api(ApiError(error))) if is_already_deleted(&error) => {
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
    replies.retain(|answer| {
        let name = format!("{}-{}", names.recorder, answer.shard);
        running.iter().any(|pod| pod.name_any() == name)
    });
    let since = site.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Ok(evaluate_drain(&replies, &closed.revision, now.duration_since(since)))
}

/// How many segments wait in the spools of those that answer.
pub fn pending_segments(replies: &[ShardReply]) -> u64 {
    let statuses = replies.iter().filter_map(|answer| answer.status.as_ref().ok());
    statuses.map(|status| status.spool.segments).sum()
}

/// Whether there is anything to wait for, `waited` after it began.
fn evaluate_drain(replies: &[ShardReply], revision: &str, waited: SignedDuration) -> DrainStatus {
    let is_waited_for = |answer: &ShardReply| match &answer.status {
        // A file that is open is completed when its camera has ended, and counts by its bytes until then.
        Ok(status) => {
            let is_empty =
                status.revision == revision && status.spool.segments == 0 && status.spool.bytes == 0;
            !is_empty && waited < UPLOAD_TIMEOUT
        }
        Err(_) => waited < UNREACHABLE_TIMEOUT,
    };
    if replies.iter().any(is_waited_for) {
        DrainStatus::Pending(pending_segments(replies))
    } else {
        DrainStatus::Done(pending_segments(replies))
    }
}

/// Whether there can be anything in the spool of `pod`.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running")
}

fn is_already_deleted(error: &kube::Error) -> bool {
    error.is_not_found() || error.is_namespace_terminating()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::recorder_client::RecorderStatusError;
    use crate::wire::{RecorderStatus, SpoolStatus};

    fn replying(shard: u32, revision: &str, segments: u64, bytes: u64) -> ShardReply {
        let spool = SpoolStatus { segments, bytes, limit: 1 << 30 };
        let at = Timestamp::UNIX_EPOCH;
        ShardReply {
            shard,
            status: Ok(RecorderStatus {
                format: 1,
                version: "0".into(),
                shard,
                revision: revision.into(),
                uploads_follow: None,
                refused: None,
                started: at,
                now: at,
                clock_ahead_ms: None,
                spool,
                cameras: Vec::new(),
            }),
        }
    }

    fn unreachable(shard: u32) -> ShardReply {
        ShardReply { shard, status: Err(RecorderStatusError::Unreachable) }
    }

    #[test]
    fn drain_waits_for_pending_segments_until_timeout() {
        let minutes = SignedDuration::from_mins;
        for (answers, waited, expected) in [
            (vec![], 0, DrainStatus::Done(0)),
            (vec![replying(0, "closed", 0, 0)], 0, DrainStatus::Done(0)),
            // It has not closed yet, or completes its files just now.
            (vec![replying(0, "open", 0, 0)], 0, DrainStatus::Pending(0)),
            (vec![replying(0, "closed", 0, 5)], 0, DrainStatus::Pending(0)),
            (vec![replying(0, "closed", 0, 0), replying(1, "closed", 7, 70)], 9, DrainStatus::Pending(7)),
            (vec![replying(0, "closed", 7, 70)], 10, DrainStatus::Done(7)),
            (vec![unreachable(0)], 0, DrainStatus::Pending(0)),
            (vec![unreachable(0)], 1, DrainStatus::Done(0)),
            (vec![unreachable(0), replying(1, "closed", 2, 9)], 1, DrainStatus::Pending(2)),
        ] {
            assert_eq!(
                evaluate_drain(&answers, "closed", minutes(waited)),
                expected,
                "{answers:?} after {waited}"
            );
        }
    }
}
