//! Step four: the status. It reports the recorder's reply, never the configuration. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::failure;
use super::gaps;
use super::gaps::GapStart;
use super::gaps_today;
use super::observe::{AssignedRecorder, CameraLosses, CameraQueryResult};
use super::stream;
use super::validate::CameraValidation;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{Camera, CameraStatus, CameraStream, LastSegment, RecordingPolicy, StreamStatus};
use crate::controllers::recorder_client::camera_recording;
use crate::controllers::runner::Watched;
use crate::controllers::stall::{self, StallCause, condition_since};
use crate::wire::{CameraReport, CameraState, SegmentReport};

/// Recording time between two refreshes of the status of a camera that records on. Ten such cameras cost their Site less than
/// one write a minute (ADR 0015).
pub const SEGMENT_REFRESH_INTERVAL: SignedDuration = SignedDuration::from_mins(15);

/// Message about a recorder that may just be starting.
const NO_ANSWER_YET: &str = "the camera's recorder does not answer yet: see Ready of the Site";

/// Observations of a camera.
#[derive(Clone, Copy, Debug)]
pub struct CameraObservations<'a> {
    pub valid: &'a CameraValidation,
    /// Policy that governs the site.
    pub policy: Option<&'a RecordingPolicy>,
    pub recorder: Option<&'a AssignedRecorder>,
    /// The camera does not fit into the recorders' configuration.
    pub is_omitted: bool,
    pub reply: Option<&'a CameraQueryResult>,
    pub losses: &'a CameraLosses,
    /// A recorder that does not answer may record it.
    pub may_be_recorded: bool,
    /// Names of recorders that may record it by an earlier configuration, for longer than they need to take the latest.
    pub lagging: Option<&'a str>,
    /// The recorder has not answered for so long that the status must say so.
    pub is_silence_news: bool,
    /// Beginning of a gap that the recorder does not know.
    pub gap_start: GapStart,
}

impl<'a> CameraObservations<'a> {
    /// Returns the recorder's report of the camera.
    pub fn report(&self) -> Option<&'a CameraReport> {
        self.reply?.as_ref().ok()?.report.as_ref()
    }
}

/// Returns the status of `camera`, and the time at which it stalls without an event.
pub fn camera_status(
    camera: &Camera,
    observed: &CameraObservations<'_>,
    now: Timestamp,
) -> (CameraStatus, Option<Timestamp>) {
    let CameraObservations { valid, policy, recorder, reply, losses, lagging, is_silence_news, .. } =
        *observed;
    let before = camera.status.clone().unwrap_or_default();
    let generation = camera.metadata.generation;
    let denial = denial(valid);
    let found = recording(&camera.spec.stream, observed, denial.as_ref());
    // An answer counts at once, and so does a camera that is omitted or that nothing can record.
    let is_short_silence =
        !is_silence_news && !matches!(reply, Some(Ok(_))) && found.status == ConditionStatus::Unknown;
    let kept = match denial {
        // It stays silent for a recorder that restarts. A camera that recorded may go on.
        Some(denial) => camera_recording::have_claimed_silence(&before.conditions).then_some(denial),
        None => recording_before(&before, generation),
    };
    let kept = kept.filter(|_| is_short_silence);
    let mut recording = match kept {
        Some(kept) => kept,
        // Not its cause, which changes several times while a recorder starts.
        None if is_short_silence => ConditionFinding { message: NO_ANSWER_YET.to_owned(), ..found },
        None => found,
    };
    if let Some(names) = &losses.recorders {
        recording = camera_recording::with_lost_recorders(recording, names);
    }
    if let Some(names) = lagging {
        recording = camera_recording::with_lagging_recorders(recording, names);
    }
    let (stalled, stalls_at) = stalled(camera, &valid.accepted, now);
    let ready = ready(valid, &recording);
    let findings = [valid.accepted.clone(), valid.permitted.clone(), recording, ready, stalled];
    let conditions = merge(camera.conditions(), &findings, generation, now);
    let known = losses
        .lost_spools
        .iter()
        .fold(before.gaps.clone(), |known, (from, until)| gaps::add_lost_spool(&known, *from, *until));
    let has_changed = have_conditions_changed(&before.conditions, &conditions);
    let gaps = match observed.report() {
        Some(report) => gaps::merge(&known, &report.gaps, observed.gap_start),
        // A recorder that does not answer has not withdrawn its gaps.
        None => known,
    };
    let latest = gaps::latest(&gaps);
    let (last_segment, stream) = recorded(&before, observed.report(), has_changed || latest != before.gaps);
    let status = CameraStatus {
        observed_generation: generation,
        recorder_pod_name: match recorder {
            _ if is_short_silence => before.recorder_pod_name,
            recorder => recorder.map(|recorder| recorder.pod_name.clone()),
        },
        last_segment,
        stream,
        suspensions: valid.suspensions.clone(),
        gaps_today: gaps_today::gaps_today(&gaps, policy, now),
        gaps: latest,
        conditions,
    };
    (status, stalls_at)
}

/// Whether `Ready` is `True` in a status.
pub fn is_ready(status: &CameraStatus) -> bool {
    let ready: &str = ConditionType::Ready.into();
    status.conditions.iter().any(|condition| condition.type_ == ready && condition.status == "True")
}

/// Returns `Recording` of the status `before` if it is `True` for the present spec.
fn recording_before(before: &CameraStatus, generation: Option<i64>) -> Option<ConditionFinding> {
    let type_: &str = ConditionType::Recording.into();
    let is_present = before.observed_generation == generation;
    let mut conditions = before.conditions.iter().filter(|_| is_present);
    let recorded = conditions.find(|condition| condition.type_ == type_ && condition.status == "True")?;
    let message = recorded.message.clone();
    Some(ConditionFinding::new(ConditionType::Recording, true, Reason::Recording, message))
}

/// Returns `Recording` of a camera that may not record and does not; `None`: it may.
fn denial(valid: &CameraValidation) -> Option<ConditionFinding> {
    let finding =
        |reason, message: &str| Some(ConditionFinding::new(ConditionType::Recording, false, reason, message));
    if !valid.accepted.is_true() {
        return finding(Reason::DependencyNotReady, "the camera is not accepted: see Accepted");
    }
    let message = "the camera may not record now: see Permitted";
    match valid.permitted.reason {
        _ if valid.permitted.is_true() => None,
        Reason::Suspended => finding(Reason::Suspended, message),
        _ => finding(Reason::DependencyNotReady, message),
    }
}

/// `denial`: see [`denial`].
fn recording(
    stream: &CameraStream,
    observed: &CameraObservations<'_>,
    denial: Option<&ConditionFinding>,
) -> ConditionFinding {
    use ConditionStatus::{False, Unknown};
    let finding = |status: ConditionStatus, reason, message: &str| {
        ConditionFinding::new(ConditionType::Recording, status, reason, message)
    };
    match (observed.reply, denial) {
        (Some(Ok(reply)), denial) => match (&reply.report, denial) {
            // The recorder's actual state counts, even if it should do something else.
            (Some(report), _) => {
                let finding = camera_recording::evaluate(report, observed.valid.segment_duration, reply.now);
                let finding = failure::with_failure(finding, report.failure, stream);
                camera_recording::with_clock(finding, reply.clock_ahead_ms)
            }
            (None, Some(denial)) => denial.clone(),
            (None, None) => finding(False, Reason::Connecting, camera_recording::UNKNOWN_TO_RECORDER),
        },
        (_, Some(denial)) if !observed.may_be_recorded => denial.clone(),
        (Some(Err(error)), _) => finding(
            Unknown,
            Reason::RecorderNotReady,
            &format!("the camera's recorder does not report: {error}; check its pod"),
        ),
        (None, None) if observed.is_omitted => {
            finding(False, Reason::TooManyCameras, camera_recording::OMITTED)
        }
        (None, _) => finding(
            Unknown,
            Reason::RecorderNotReady,
            "the Site has no recorder for the camera yet: see Ready of the Site",
        ),
    }
}

/// Returns `Ready`: `True` also for a camera that may not record and does not.
fn ready(valid: &CameraValidation, recording: &ConditionFinding) -> ConditionFinding {
    let (is_ready, cause) = match (&valid.accepted, &valid.permitted) {
        (accepted, _) if !accepted.is_true() => (false, accepted),
        // A dependency is missing or unknown. The protocol itself forbids nothing, so the camera should record.
        (_, permitted) if permitted.reason == Reason::DependencyNotReady => (false, permitted),
        (_, permitted) if !permitted.is_true() && camera_recording::claims_silence(recording) => {
            (true, permitted)
        }
        // Whether it records although it may not is unknown, or it would if it could.
        (_, permitted) if !permitted.is_true() && !recording.is_true() => (false, recording),
        (_, permitted) if permitted.is_true() => (recording.is_true(), recording),
        (_, permitted) => (false, permitted),
    };
    cause.propagate(ConditionType::Ready, is_ready)
}

/// Returns `Stalled`: only a person can correct a rejected spec. A Site or a Secret can still come.
fn stalled(
    camera: &Camera,
    accepted: &ConditionFinding,
    now: Timestamp,
) -> (ConditionFinding, Option<Timestamp>) {
    let cause = match accepted.reason {
        _ if accepted.is_true() => None,
        Reason::ReferenceNotFound => {
            let created = camera.metadata.creation_timestamp.as_ref();
            let since = condition_since(camera.conditions(), accepted, created, now);
            Some(StallCause::after_grace(accepted.clone(), since, stall::REFERENCE_GRACE))
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

/// Returns the newest confirmed segment and the stream. While the camera records on, they refresh every
/// [`SEGMENT_REFRESH_INTERVAL`] of recordings. They are exact with news: another condition, gap, codec or resolution. Once all
/// segments of a camera that does not record are uploaded, the segment is its last.
fn recorded(
    before: &CameraStatus,
    report: Option<&CameraReport>,
    is_news: bool,
) -> (Option<LastSegment>, Option<StreamStatus>) {
    let stream = report.and_then(|report| report.stream.as_ref()).map(stream::stream_status);
    let newest = report.and_then(|report| report.last_segment.as_ref());
    let is_new_format = match (&before.stream, &stream) {
        (Some(before), Some(now)) => stream::has_other_format(before, now),
        // A new camera's stream comes with its first segment, if that was long enough to measure.
        (None, Some(_)) => before.last_segment.is_some(),
        (_, None) => false,
    };
    let is_final = report.is_some_and(|report| report.state != CameraState::Recording && report.waiting == 0);
    // Also after a clock was set back.
    let is_old = |last: &LastSegment, newest: &SegmentReport| {
        newest.start.duration_since(last.start_time.0).abs() >= SEGMENT_REFRESH_INTERVAL
    };
    let is_due = match (&before.last_segment, newest) {
        (Some(last), Some(newest)) => is_old(last, newest),
        (last, newest) => last.is_none() && newest.is_some(),
    };
    let with_stream = is_news || is_new_format || is_due;
    let last_segment = newest.filter(|_| with_stream || is_final).map(|newest| LastSegment {
        key: newest.key.clone(),
        start_time: Time(newest.start),
        duration_milliseconds: i64::try_from(newest.duration_ms).unwrap_or(i64::MAX),
    });
    (
        last_segment.or_else(|| before.last_segment.clone()),
        stream.filter(|_| with_stream).or_else(|| before.stream.clone()),
    )
}

#[cfg(test)]
mod tests;
