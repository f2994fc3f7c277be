//! `Recording` of the Site, by the recorders' reports. Pure.

use jiff::{SignedDuration, Timestamp};

use super::lagging::{self, Lag, LaggingRecorder};
use super::query::ShardReply;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::controllers::recorder_client::camera_recording;
use crate::controllers::site::validate::{RecordingVerdict, ValidSite};

/// Cameras that a message names.
const MAX_NAMED_CAMERAS: usize = 10;

/// Observations for `Recording` of a Site.
#[derive(Clone, Copy, Debug)]
pub struct RecordingInputs<'a> {
    pub valid: &'a ValidSite,
    /// Whether spec, references and bucket let cameras record.
    pub may_record: bool,
    pub replies: &'a [ShardReply],
    /// Recorders that do not do what the latest configuration says.
    pub lagging: &'a [LaggingRecorder],
    /// Cameras that do not fit into the recorders' configuration.
    pub omitted: &'a [String],
    pub segment: SignedDuration,
    /// The status says that nothing is recorded.
    pub was_silent: bool,
    pub now: Timestamp,
}

/// Returns `Recording` of a Site that may not record and does not; `None`: it may.
pub fn denial(valid: &ValidSite, may_record: bool) -> Option<ConditionFinding> {
    let finding =
        |reason, message: &str| Some(ConditionFinding::new(ConditionType::Recording, false, reason, message));
    if !may_record {
        let message = "nothing is recorded: see Accepted and StorageEnforced";
        return finding(Reason::DependencyNotReady, message);
    }
    // While the policy is missing for a moment, its windows stay with the recorders.
    let is_policy_missing = matches!(valid.recording, RecordingVerdict::AllowedUntil(_)) && !valid.has_policy;
    if valid.permission.finding.is_true() || is_policy_missing {
        return None;
    }
    let is_suspended = valid.permission.finding.reason == Reason::Suspended;
    let reason = if is_suspended { Reason::Suspended } else { Reason::DependencyNotReady };
    finding(reason, "nothing is recorded now: see Permitted")
}

/// Returns `Recording` of the Site, and the number of its cameras that record.
pub fn evaluate_recording(inputs: &RecordingInputs<'_>) -> (ConditionFinding, usize) {
    let RecordingInputs { valid, replies, lagging, omitted, segment, now, .. } = *inputs;
    let finding = |is_recording: bool, reason, message: &str| {
        ConditionFinding::new(ConditionType::Recording, is_recording, reason, message)
    };
    let total = valid.cameras.len() + valid.unusable_cameras.len();
    if total == 0 {
        return (finding(false, Reason::NoCameras, "no Camera names this Site in spec.siteRef"), 0);
    }
    let denial = denial(valid, inputs.may_record);
    let cameras: Vec<(&str, ConditionFinding)> = valid
        .cameras
        .iter()
        .map(|camera| {
            let finding = match (omitted.binary_search(&camera.name), &denial) {
                (_, Some(denial)) => denied_camera_finding(&camera.name, denial, inputs),
                (Ok(_), None) => finding(false, Reason::TooManyCameras, camera_recording::OMITTED),
                (Err(_), None) => camera_finding(&camera.name, replies, segment),
            };
            (camera.name.as_str(), finding)
        })
        .collect();
    let recording = cameras.iter().filter(|(_, finding)| finding.is_true()).count();
    let has_stopped = cameras.iter().all(|(_, finding)| camera_recording::claims_silence(finding));
    let finding = match denial {
        Some(denial) if has_stopped => denied_finding(denial, inputs),
        _ if recording == total => {
            let message = "all cameras record and the store confirms their segments";
            finding(true, Reason::Recording, message)
        }
        denial => partial_finding(recording, total, &cameras, &valid.unusable_cameras, denial.is_some()),
    };
    let silent = cameras.iter().filter(|(_, finding)| !finding.is_true()).map(|(name, _)| *name);
    let silent = silent.chain(valid.unusable_cameras.iter().map(String::as_str));
    let finding = match lagging::name_overdue(lagging, silent, now) {
        Some(names) => camera_recording::with_lagging_recorders(finding, &names),
        None => finding,
    };
    (with_wrong_clocks(finding, replies), recording)
}

/// Returns `Recording` of a Site none of whose recorders reports a camera that has not stopped.
fn denied_finding(denial: ConditionFinding, inputs: &RecordingInputs<'_>) -> ConditionFinding {
    let silent = inputs.lagging.iter().find(|recorder| recorder.lag == Lag::Silent);
    match silent {
        // A recorder that restarts while nothing may be recorded is no news.
        Some(silent) if !inputs.was_silent => {
            camera_recording::with_lagging_recorders(denial, &silent.pod_name)
        }
        _ => denial,
    }
}

/// Returns `Recording` of one camera of a Site that may not record: `denial`, unless a recorder reports that it has not stopped. One that
/// follows the latest configuration keeps to it, and its report may be some seconds old.
fn denied_camera_finding(
    name: &str,
    denial: &ConditionFinding,
    inputs: &RecordingInputs<'_>,
) -> ConditionFinding {
    let RecordingInputs { valid, replies, lagging, segment, now, .. } = *inputs;
    let counts = |reply: &&ShardReply| {
        let pod_name = valid.names.pod(reply.shard);
        let mut lagging = lagging.iter().filter(|recorder| recorder.pod_name == pod_name);
        lagging.any(|recorder| recorder.lag == Lag::OtherRevision || recorder.is_overdue(now))
    };
    let statuses = replies.iter().filter(counts).filter_map(|reply| reply.status.as_ref().ok());
    let reports = statuses.flat_map(|status| status.cameras.iter().map(move |report| (report, status.now)));
    let findings = reports
        .filter(|(report, _)| report.name == name)
        .map(|(report, now)| camera_recording::evaluate(report, segment, now))
        .filter(|finding| !camera_recording::claims_silence(finding));
    // A camera that moved may be in two reports.
    findings.max_by_key(ConditionFinding::is_true).unwrap_or_else(|| denial.clone())
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
    is_denied: bool,
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
        _ if suspended == silent.len() && !is_denied => (ConditionStatus::False, Reason::Suspended),
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
