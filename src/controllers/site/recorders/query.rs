//! Queries the recorders' status, and evaluates it for the Site.

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::names::ChildNames;
use super::workload::{AppliedRecorders, ExpectedRecorders};
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::controllers::recorder_client::{self, RecorderClient, RecorderStatusError, camera_recording};
use crate::controllers::site::validate::{RecordingVerdict, ValidSite};
use crate::wire::RecorderStatus;

/// Cameras that a message names.
const MAX_NAMED_CAMERAS: usize = 10;
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

/// Describes the recorders that do not follow `revision`; `None`: all of them do.
pub fn describe_lagging(replies: &[ShardReply], revision: &str) -> Option<String> {
    let describe = |reply: &ShardReply| {
        let problem = match &reply.status {
            Err(error) => format!(": {error}"),
            Ok(status) if status.revision == revision => match &status.storage_problem {
                Some(problem) => format!(" cannot use the storage of its configuration: {problem}"),
                None => return None,
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

/// Returns `Recording` of the Site, and the number of its cameras that record. `omitted`: cameras that do not fit into the recorders'
/// configuration.
pub fn evaluate_recording(
    valid: &ValidSite,
    may_record: bool,
    replies: &[ShardReply],
    omitted: &[String],
    segment: SignedDuration,
) -> (ConditionFinding, usize) {
    let finding = |is_recording: bool, reason, message: &str| {
        ConditionFinding::new(ConditionType::Recording, is_recording, reason, message)
    };
    let total = valid.cameras.len() + valid.unusable_cameras.len();
    if total == 0 {
        return (finding(false, Reason::NoCameras, "no Camera names this Site in spec.siteRef"), 0);
    }
    if !may_record {
        let message = "nothing is recorded: see Accepted and StorageEnforced";
        return (finding(false, Reason::DependencyNotReady, message), 0);
    }
    // While the policy is missing for a moment, its windows stay with the recorders.
    let is_policy_missing = matches!(valid.recording, RecordingVerdict::AllowedUntil(_)) && !valid.has_policy;
    if !valid.permission.finding.is_true() && !is_policy_missing {
        let is_suspended = valid.permission.finding.reason == Reason::Suspended;
        let reason = if is_suspended { Reason::Suspended } else { Reason::DependencyNotReady };
        return (finding(false, reason, "nothing is recorded now: see Permitted"), 0);
    }
    let cameras: Vec<(&str, ConditionFinding)> = valid
        .cameras
        .iter()
        .map(|camera| {
            let finding = match omitted.binary_search(&camera.name) {
                Ok(_) => finding(false, Reason::TooManyCameras, camera_recording::OMITTED),
                Err(_) => camera_finding(&camera.name, replies, segment),
            };
            (camera.name.as_str(), finding)
        })
        .collect();
    let recording = cameras.iter().filter(|(_, finding)| finding.is_true()).count();
    let finding = if recording == total {
        let message = "all cameras record and the store confirms their segments";
        finding(true, Reason::Recording, message)
    } else {
        partial_finding(recording, total, &cameras, &valid.unusable_cameras)
    };
    (with_wrong_clocks(finding, replies), recording)
}

/// Adds the recorders whose clocks are wrong to `Recording` of the Site.
fn with_wrong_clocks(finding: ConditionFinding, replies: &[ShardReply]) -> ConditionFinding {
    let is_wrong = |reply: &&ShardReply| {
        reply.status.as_ref().is_ok_and(|status| camera_recording::is_clock_wrong(status.clock_ahead_ms))
    };
    let wrong: Vec<String> = replies.iter().filter(is_wrong).map(|reply| reply.shard.to_string()).collect();
    if wrong.is_empty() {
        return finding;
    }
    let message = format!(
        "{}; recorder {}: {}",
        finding.message,
        wrong.join(", "),
        camera_recording::CLOCK_NOT_SYNCHRONIZED
    );
    ConditionFinding { message, ..finding }
}

/// Returns `Recording` if not all cameras record.
fn partial_finding(
    recording: usize,
    total: usize,
    cameras: &[(&str, ConditionFinding)],
    unusable: &[String],
) -> ConditionFinding {
    let silent = cameras.iter().filter(|(_, finding)| !finding.is_true());
    let silent = silent.map(|(name, finding)| format!("{name} ({})", <&str>::from(finding.reason)));
    let silent: Vec<String> =
        silent.chain(unusable.iter().map(|name| format!("{name} (not accepted)"))).collect();
    let suspended = cameras.iter().filter(|(_, finding)| finding.reason == Reason::Suspended).count();
    let has_reason = |reason| cameras.iter().all(|(_, finding)| finding.reason == reason);
    let (status, reason) = match cameras.first() {
        // No recorder answers.
        Some((_, first)) if cameras.iter().all(|(_, finding)| finding.status == ConditionStatus::Unknown) => {
            (ConditionStatus::Unknown, first.reason)
        }
        Some((_, first)) if recording == 0 && has_reason(first.reason) => {
            (ConditionStatus::False, first.reason)
        }
        // Somebody covered all silent cameras on purpose, so there is nothing to warn of.
        _ if suspended == silent.len() => (ConditionStatus::False, Reason::Suspended),
        _ => (ConditionStatus::False, Reason::SomeCamerasNotRecording),
    };
    let message = format!("{recording} of {total} cameras record; not: {}", name_cameras(&silent));
    ConditionFinding::new(ConditionType::Recording, status, reason, message)
}

/// Names the first of `cameras`, and counts the others.
pub fn name_cameras(cameras: &[String]) -> String {
    let named = cameras.iter().take(MAX_NAMED_CAMERAS).cloned().collect::<Vec<_>>().join(", ");
    match cameras.len().saturating_sub(MAX_NAMED_CAMERAS) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Returns `Recording` of one camera, from its recorder's report.
fn camera_finding(name: &str, replies: &[ShardReply], segment: SignedDuration) -> ConditionFinding {
    let finding = |status: ConditionStatus, reason, message| {
        ConditionFinding::new(ConditionType::Recording, status, reason, message)
    };
    let statuses = replies.iter().filter_map(|reply| reply.status.as_ref().ok());
    let mut reports =
        statuses.flat_map(|status| status.cameras.iter().map(move |report| (report, status.now)));
    match reports.find(|(report, _)| report.name == name) {
        Some((report, now)) => camera_recording::evaluate(report, segment, now),
        None if replies.iter().any(|reply| reply.status.is_err()) => {
            finding(ConditionStatus::Unknown, Reason::RecorderNotReady, "the recorder does not answer")
        }
        None => finding(ConditionStatus::False, Reason::Connecting, camera_recording::UNKNOWN_TO_RECORDER),
    }
}

#[cfg(test)]
mod tests;
