//! What the recorders say of themselves, and what follows for the Site.

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::names::ChildNames;
use super::workload::{AppliedRecorders, ExpectedRecorders};
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::controllers::recorder_client;
use crate::controllers::recorder_client::{RecorderClient, RecorderStatusError, camera_recording};
use crate::controllers::site::validate::ValidSite;
use crate::wire::RecorderStatus;

/// At most so many cameras are named in a message.
const MAX_NAMED_CAMERAS: usize = 10;
/// Recorders that are asked at once.
const MAX_CONCURRENT_QUERIES: usize = 16;

/// What one recorder says, by its ordinal.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardReply {
    pub shard: u32,
    pub status: Result<RecorderStatus, RecorderStatusError>,
}

/// Asks every recorder that should be there.
pub async fn query_recorders(
    recorders: &RecorderClient,
    names: &ChildNames,
    applied: &AppliedRecorders,
) -> Vec<ShardReply> {
    let query_shard = |shard: u32| async move {
        let name = format!("{}-{shard}", names.recorder);
        let pod = applied.pods.iter().find(|pod| pod.name_any() == name);
        let status = match pod
            .ok_or(RecorderStatusError::NoAddress)
            .and_then(|pod: &Pod| recorder_client::pod_address(pod))
        {
            Ok(address) => {
                let ExpectedRecorders { api, revision, .. } = &applied.expected;
                recorders.status_for_revision(address, api, revision).await
            }
            Err(error) => Err(error),
        };
        ShardReply { shard, status }
    };
    stream::iter((0..applied.expected.pods).map(query_shard)).buffered(MAX_CONCURRENT_QUERIES).collect().await
}

/// Whether every recorder answers and follows the configuration that it should; why not otherwise.
pub fn describe_lagging(replies: &[ShardReply], revision: &str) -> Option<String> {
    let of = |answer: &ShardReply| match &answer.status {
        Err(error) => Some(format!("recorder {}: {error}", answer.shard)),
        Ok(status) if status.revision == revision => None,
        Ok(status) => Some(match &status.refused {
            Some(refused) if refused.revision.as_deref() == Some(revision) => {
                format!("recorder {} refuses its configuration: {}", answer.shard, refused.message)
            }
            _ => format!("recorder {} does not follow the newest configuration yet", answer.shard),
        }),
    };
    let lagging: Vec<String> = replies.iter().filter_map(of).collect();
    (!lagging.is_empty()).then(|| lagging.join("; "))
}

/// `Recording` of the Site, and how many of its cameras record.
pub fn evaluate_recording(
    valid: &ValidSite,
    may_record: bool,
    replies: &[ShardReply],
    segment: SignedDuration,
) -> (ConditionFinding, usize) {
    let total = valid.cameras.len() + valid.unusable_cameras.len();
    let new_finding = |truth, reason, message: &str| {
        ConditionFinding::new(ConditionType::Recording, truth, reason, message)
    };
    if total == 0 {
        return (
            new_finding(
                ConditionStatus::False,
                Reason::NoCameras,
                "no Camera names this site in spec.siteRef",
            ),
            0,
        );
    }
    if !may_record {
        return (
            new_finding(
                ConditionStatus::False,
                Reason::DependencyNotReady,
                "nothing is recorded: see Accepted and StorageEnforced",
            ),
            0,
        );
    }
    if !valid.permission.finding.is_true() {
        let reason = match valid.permission.finding.reason {
            Reason::Suspended => Reason::Suspended,
            _ => Reason::DependencyNotReady,
        };
        return (new_finding(ConditionStatus::False, reason, "nothing is recorded now: see Permitted"), 0);
    }
    let verdicts: Vec<(&str, ConditionFinding)> = valid
        .cameras
        .iter()
        .map(|camera| (camera.name.as_str(), camera_finding(&camera.name, replies, segment)))
        .collect();
    let recording = verdicts.iter().filter(|(_, verdict)| verdict.is_true()).count();
    if recording == total {
        return (
            new_finding(
                ConditionStatus::True,
                Reason::Recording,
                "all cameras record and the store confirms their segments",
            ),
            recording,
        );
    }
    let left_out = valid.unusable_cameras.iter().map(|name| format!("{name} (not accepted)"));
    let silent = verdicts.iter().filter(|(_, verdict)| !verdict.is_true());
    let silent =
        silent.map(|(name, verdict)| format!("{name} ({})", <&str>::from(verdict.reason))).chain(left_out);
    (partial_finding(recording, total, silent.collect(), &verdicts), recording)
}

/// Some cameras do not record: which, and why.
fn partial_finding(
    recording: usize,
    total: usize,
    silent: Vec<String>,
    verdicts: &[(&str, ConditionFinding)],
) -> ConditionFinding {
    let covered = verdicts.iter().filter(|(_, verdict)| verdict.reason == Reason::Suspended).count();
    let is_planned = covered == silent.len();
    let more = silent.len().saturating_sub(MAX_NAMED_CAMERAS);
    let mut named = silent.into_iter().take(MAX_NAMED_CAMERAS).collect::<Vec<_>>().join(", ");
    if more > 0 {
        named = format!("{named} and {more} more");
    }
    let is_unknown = verdicts.iter().all(|(_, verdict)| verdict.status == ConditionStatus::Unknown)
        && !verdicts.is_empty();
    let (truth, reason) = match verdicts.first() {
        // The recorders cannot be asked.
        Some((_, first)) if is_unknown => (ConditionStatus::Unknown, first.reason),
        // All for the same reason: that is the site's reason too.
        Some((_, first))
            if recording == 0 && verdicts.iter().all(|(_, verdict)| verdict.reason == first.reason) =>
        {
            (ConditionStatus::False, first.reason)
        }
        // Only those that somebody covered: nothing to be warned of.
        _ if is_planned => (ConditionStatus::False, Reason::Suspended),
        _ => (ConditionStatus::False, Reason::SomeCamerasNotRecording),
    };
    ConditionFinding::new(
        ConditionType::Recording,
        truth,
        reason,
        format!("{recording} of {total} cameras record; not: {named}"),
    )
}

/// `Recording` of one camera, from what the recorder that carries it says.
fn camera_finding(name: &str, replies: &[ShardReply], segment: SignedDuration) -> ConditionFinding {
    let statuses = replies.iter().filter_map(|answer| answer.status.as_ref().ok());
    let mut reports =
        statuses.flat_map(|status| status.cameras.iter().map(move |report| (report, status.now)));
    match reports.find(|(report, _)| report.name == name) {
        Some((report, now)) => camera_recording::evaluate(report, segment, now),
        None if replies.iter().any(|answer| answer.status.is_err()) => ConditionFinding::new(
            ConditionType::Recording,
            ConditionStatus::Unknown,
            Reason::RecorderNotReady,
            "its recorder does not answer",
        ),
        None => ConditionFinding::new(
            ConditionType::Recording,
            false,
            Reason::Connecting,
            "its recorder does not know it yet",
        ),
    }
}

#[cfg(test)]
mod tests;
