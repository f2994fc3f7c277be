//! Recorders that go for good: what waits in their spools is uploaded first. A spool goes with its pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, Resource, ResourceExt};

use super::apply::{AppliedRecorders, nudge_all, pods_of, replicas};
use super::dereference;
use super::names::{MANAGER, Names};
use super::objects;
use super::plan::{Expected, closed};
use super::recording::{self, Answer};
use crate::api::Site;
use crate::controllers::kit::apply::{ApplyError, child};
use crate::controllers::kit::error::{ApiError, KubeErrorExt};
use crate::controllers::recorders::Recorders;

/// Who answers is waited for so long: a store that is away for longer may be away for good, and a deletion
/// must come to its end.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Who does not answer is waited for so long.
const SILENCE: SignedDuration = SignedDuration::from_mins(1);

/// How far the spools are emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// So many segments wait still, as far as their recorders say.
    Waits(u64),
    /// Nothing more is to be waited for; so many segments were still there.
    Done(u64),
}

/// Closes the recorders of `site`, which is being deleted, and asks what waits in their spools. What they are
/// configured with may be gone already; then there is nothing to be done.
pub async fn drain(
    client: &Client,
    recorders: &Recorders,
    site: &Site,
    live: &StatefulSet,
    now: Timestamp,
) -> Result<Drain, ApplyError> {
    let names = Names::of(site);
    let secrets = Api::<Secret>::namespaced(client.clone(), &names.namespace);
    let Some(config) = dereference::config(secrets.clone(), &names).await? else {
        return Ok(Drain::Done(0));
    };
    let closed = closed(&config);
    if closed != config {
        let owner: Vec<_> = site.controller_owner_ref(&()).into_iter().collect();
        match child(&secrets, MANAGER, objects::config(&names, &owner, &closed)).await {
            // It went in the meantime, and nothing can be made any more where everything goes.
            Err(ApplyError::Api(ApiError(error))) if error_of_going(&error) => return Ok(Drain::Done(0)),
            result => result.map(drop)?,
        }
    }
    let pods_api = Api::<Pod>::namespaced(client.clone(), &names.namespace);
    let pods = pods_of(&pods_api, &names, live).await?;
    nudge_all(&pods_api, &pods, &closed.revision).await?;
    let running: Vec<Pod> = pods.into_iter().filter(has_run).collect();
    let applied = AppliedRecorders {
        expected: Expected {
            pods: replicas(live),
            revision: closed.revision.clone(),
            api: closed.status_api.clone(),
            holds: closed.holds.clone(),
            widened: None,
        },
        pods: running.clone(),
    };
    let mut answers = recording::ask(recorders, &names, &applied).await;
    answers.retain(|answer| {
        let name = format!("{}-{}", names.recorder, answer.shard);
        running.iter().any(|pod| pod.name_any() == name)
    });
    let since = site.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Ok(judge(&answers, &closed.revision, now.duration_since(since)))
}

/// How many segments wait in the spools of those that answer.
pub fn waiting(answers: &[Answer]) -> u64 {
    let said = answers.iter().filter_map(|answer| answer.status.as_ref().ok());
    said.map(|status| status.spool.segments).sum()
}

/// Whether there is anything to wait for, `waited` after it began.
fn judge(answers: &[Answer], revision: &str, waited: SignedDuration) -> Drain {
    let is_waited_for = |answer: &Answer| match &answer.status {
        // A file that is open is completed when its camera has ended, and counts by its bytes until then.
        Ok(status) => {
            let is_empty =
                status.revision == revision && status.spool.segments == 0 && status.spool.bytes == 0;
            !is_empty && waited < PATIENCE
        }
        Err(_) => waited < SILENCE,
    };
    if answers.iter().any(is_waited_for) {
        Drain::Waits(waiting(answers))
    } else {
        Drain::Done(waiting(answers))
    }
}

/// Whether there can be anything in the spool of `pod`.
fn has_run(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running")
}

fn error_of_going(error: &kube::Error) -> bool {
    error.is_not_found() || error.is_namespace_terminating()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{RecorderStatus, SpoolStatus};
    use crate::controllers::recorders::RecorderError;

    fn says(shard: u32, revision: &str, segments: u64, bytes: u64) -> Answer {
        let spool = SpoolStatus { segments, bytes, limit: 1 << 30 };
        let at = Timestamp::UNIX_EPOCH;
        Answer {
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

    fn silent(shard: u32) -> Answer {
        Answer { shard, status: Err(RecorderError::Unreachable) }
    }

    #[test]
    fn waits_for_what_is_there_and_not_for_ever() {
        let minutes = SignedDuration::from_mins;
        for (answers, waited, expected) in [
            (vec![], 0, Drain::Done(0)),
            (vec![says(0, "closed", 0, 0)], 0, Drain::Done(0)),
            // It has not closed yet, or completes its files just now.
            (vec![says(0, "open", 0, 0)], 0, Drain::Waits(0)),
            (vec![says(0, "closed", 0, 5)], 0, Drain::Waits(0)),
            (vec![says(0, "closed", 0, 0), says(1, "closed", 7, 70)], 9, Drain::Waits(7)),
            (vec![says(0, "closed", 7, 70)], 10, Drain::Done(7)),
            (vec![silent(0)], 0, Drain::Waits(0)),
            (vec![silent(0)], 1, Drain::Done(0)),
            (vec![silent(0), says(1, "closed", 2, 9)], 1, Drain::Waits(2)),
        ] {
            assert_eq!(judge(&answers, "closed", minutes(waited)), expected, "{answers:?} after {waited}");
        }
    }
}
