//! Step four: what is reported: from what the recorder says, never from what was configured. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::gaps;
use super::observe::{AssignedRecorder, CameraQueryResult};
use super::validate::CameraValidation;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{Camera, CameraStatus, LastSegment};
use crate::controllers::kubernetes::status::may_refresh;
use crate::controllers::recorder_client::camera_recording;
use crate::controllers::runner::Watched;
use crate::controllers::stall;
use crate::controllers::stall::{StallCause, condition_since};
use crate::wire::{CameraReport, SegmentReport};

/// What the status is made from.
#[derive(Clone, Copy, Debug)]
pub struct CameraObservations<'a> {
    pub valid: &'a CameraValidation,
    pub recorder: Option<&'a AssignedRecorder>,
    pub answer: Option<&'a CameraQueryResult>,
    /// When the camera was last known to give a picture, before this answer.
    pub last_frame_at: Option<Timestamp>,
}

/// The status of `camera`, and when it stalls though nothing happens.
pub fn camera_status(
    camera: &Camera,
    observed: &CameraObservations<'_>,
    now: Timestamp,
) -> (CameraStatus, Option<Timestamp>) {
    let CameraObservations { valid, recorder, answer, last_frame_at } = *observed;
    let before = camera.status.clone().unwrap_or_default();
    let generation = camera.metadata.generation;
    let recording = recording(valid, answer);
    let (stalled, stalls_at) = stalled(camera, &valid.accepted, now);
    let findings = [
        valid.accepted.clone(),
        valid.permitted.clone(),
        recording.clone(),
        ready(valid, &recording),
        stalled,
    ];
    let conditions = merge(camera.conditions(), &findings, generation, now);
    let report = answer.and_then(|answer| answer.as_ref().ok()).and_then(|said| said.report.as_ref());
    let has_changed = have_conditions_changed(&before.conditions, &conditions);
    let status = CameraStatus {
        observed_generation: generation,
        recorder_pod_name: recorder.map(|carrier| carrier.name.clone()),
        last_segment: last_segment(before.last_segment, report, has_changed, now),
        gaps: report
            .map_or(before.gaps.clone(), |report| gaps::merge(&before.gaps, &report.gaps, last_frame_at)),
        conditions,
    };
    (status, stalls_at)
}

/// Whether a status says that the camera is as it should be.
pub fn is_ready(status: &CameraStatus) -> bool {
    let ready: &str = ConditionType::Ready.into();
    status.conditions.iter().any(|condition| condition.type_ == ready && condition.status == "True")
}

fn recording(valid: &CameraValidation, answer: Option<&CameraQueryResult>) -> ConditionFinding {
    let not = |truth, reason, message: &str| {
        ConditionFinding::new(ConditionType::Recording, truth, reason, message)
    };
    if !valid.accepted.is_true() {
        return not(
            ConditionStatus::False,
            Reason::DependencyNotReady,
            "the camera is not recorded: see Accepted",
        );
    }
    match answer {
        // What the recorder does counts, also where it should do something else.
        Some(Ok(said)) => match &said.report {
            Some(report) => camera_recording::evaluate(report, valid.segment_duration, said.now),
            None => not(ConditionStatus::False, Reason::Connecting, "its recorder does not know it yet"),
        },
        Some(Err(_)) | None if !valid.permitted.is_true() => {
            let is_suspended = valid.permitted.reason == Reason::Suspended;
            let reason = if is_suspended { Reason::Suspended } else { Reason::DependencyNotReady };
            not(ConditionStatus::False, reason, "nothing is to be recorded now: see Permitted")
        }
        Some(Err(error)) => {
            not(ConditionStatus::Unknown, Reason::RecorderNotReady, &format!("the recorder: {error}"))
        }
        None => not(
            ConditionStatus::Unknown,
            Reason::RecorderNotReady,
            "its Site has no recorder for it yet: see the Site",
        ),
    }
}

/// A camera that may not be recorded and is not, is as it should be.
fn ready(valid: &CameraValidation, recording: &ConditionFinding) -> ConditionFinding {
    let (is_ready, cause) = match (&valid.accepted, &valid.permitted) {
        (accepted, _) if !accepted.is_true() => (false, accepted),
        // What it depends on is not there, or not known: that is nothing the protocol asked for.
        (_, permitted) if permitted.reason == Reason::DependencyNotReady => (false, permitted),
        (_, permitted) if !permitted.is_true() && !recording.is_true() => (true, permitted),
        (_, permitted) if permitted.is_true() => (recording.is_true(), recording),
        (_, permitted) => (false, permitted),
    };
    cause.propagate(ConditionType::Ready, is_ready)
}

/// Only a person can put right what is not accepted, but for a Site or a Secret that may still come.
fn stalled(
    camera: &Camera,
    accepted: &ConditionFinding,
    now: Timestamp,
) -> (ConditionFinding, Option<Timestamp>) {
    let made = camera.metadata.creation_timestamp.as_ref();
    let cause = match accepted.reason {
        _ if accepted.is_true() => None,
        Reason::ReferenceNotFound => {
            let missed = condition_since(camera.conditions(), accepted, made, now);
            Some(StallCause::after_grace(accepted.clone(), missed, stall::REFERENCE_GRACE))
        }
        _ => Some(StallCause::immediate(accepted.clone())),
    };
    stall::evaluate(cause.as_slice(), now)
}

fn have_conditions_changed(before: &[Condition], after: &[Condition]) -> bool {
    let row =
        |condition: &Condition| (condition.type_.clone(), condition.status.clone(), condition.reason.clone());
    !before.iter().map(row).eq(after.iter().map(row))
}

/// The newest segment that the store confirmed, told when something else is, and otherwise every five minutes
/// of recordings: what moves faster is a metric.
fn last_segment(
    before: Option<LastSegment>,
    report: Option<&CameraReport>,
    has_changed: bool,
    now: Timestamp,
) -> Option<LastSegment> {
    let Some(newest) = report.and_then(|report| report.last_segment.as_ref()) else {
        return before;
    };
    let is_due = has_changed || may_refresh(before.as_ref().map(|last| &last.start_time), now);
    if before.is_some() && !is_due {
        return before;
    }
    let SegmentReport { key, start, duration_ms, bytes: _ } = newest;
    Some(LastSegment {
        key: key.clone(),
        start_time: Time(*start),
        duration_milliseconds: i64::try_from(*duration_ms).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests;
