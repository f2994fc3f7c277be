//! `Recording` of a camera, from its recorder's report. The Camera and its Site use the same rule.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::MAX_CLOCK_SKEW;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::wire::{CameraReport, CameraState};

/// Message about a camera that is not in its recorder's status.
pub const UNKNOWN_TO_RECORDER: &str = "the recorder does not know the camera yet";
/// Message about a camera that does not fit into its recorder's configuration.
pub const OMITTED: &str = "the Site has more cameras than fit into its recorders' Secret, and this is one of the newest, so it is not recorded: see Ready of the Site";
/// Remedy for a recorder whose clock is wrong. It has no number, like every message here.
pub const CLOCK_NOT_SYNCHRONIZED: &str = "the recorder's clock is more than a minute off, so the times of recordings are wrong: correct NTP on its node";
/// Time for an upload after the end of its segment.
const UPLOAD_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Returns `Recording` of a camera at `now`, the recorder's clock. Its message has no time or count, which would write the
/// status of every camera at each query.
pub fn evaluate(report: &CameraReport, segment: SignedDuration, now: Timestamp) -> ConditionFinding {
    use ConditionStatus::{False, Unknown};
    let (status, reason, message) = match report.state {
        CameraState::Recording => evaluate_connected(report, segment, now),
        CameraState::Connecting => {
            (False, Reason::Connecting, "the recorder connects, or waits for the first keyframe")
        }
        CameraState::Disconnected => (
            False,
            Reason::Disconnected,
            "no frame arrives, and the recorder retries: check the camera, spec.stream and its Secret",
        ),
        CameraState::Suspended => (False, Reason::Suspended, "the camera is covered (article 5)"),
        CameraState::NotPermitted => (
            False,
            Reason::DependencyNotReady,
            "the camera may not record now: see Permitted, and StorageEnforced of the Site",
        ),
        CameraState::Other => (
            Unknown,
            Reason::RecorderNotReady,
            "the recorder reports a state that this operator does not know: check the recorder's version",
        ),
        CameraState::SpoolFull => (
            False,
            Reason::SpoolFull,
            "the recorder's spool is full: repair the store; a larger spec.recorder.spool.size of the Site applies once the spool is uploaded",
        ),
    };
    ConditionFinding::new(ConditionType::Recording, status, reason, message)
}

/// Returns whether the recorder's clock is too far from the store's, or before its first answer from the operator's.
pub fn is_clock_wrong(clock_ahead_ms: Option<i64>) -> bool {
    clock_ahead_ms.is_some_and(|ms| SignedDuration::from_millis(ms).abs() > MAX_CLOCK_SKEW)
}

/// Adds the problem of the recorder's clock to its finding.
pub fn with_clock(finding: ConditionFinding, clock_ahead_ms: Option<i64>) -> ConditionFinding {
    if !is_clock_wrong(clock_ahead_ms) {
        return finding;
    }
    ConditionFinding { message: format!("{}; {CLOCK_NOT_SYNCHRONIZED}", finding.message), ..finding }
}

/// Reasons of `Recording=False` that say that nothing may be recorded.
const DENIED: [Reason; 2] = [Reason::Suspended, Reason::DependencyNotReady];

/// Whether a finding says that nothing is recorded, and that nothing may be.
pub fn claims_silence(finding: &ConditionFinding) -> bool {
    DENIED.contains(&finding.reason) && finding.status == ConditionStatus::False
}

/// Whether `Recording` among `conditions` says that nothing is recorded, and that nothing may be.
pub fn have_claimed_silence(conditions: &[Condition]) -> bool {
    let type_: &str = ConditionType::Recording.into();
    let denied = DENIED.map(<&str>::from);
    let mut recording = conditions.iter().filter(|condition| condition.type_ == type_);
    recording.any(|found| found.status == "False" && denied.contains(&found.reason.as_str()))
}

/// Adds recorders that may record by an earlier configuration: they do not answer, or do not follow the latest one. Whether nothing is
/// recorded is then unknown.
pub fn with_lagging_recorders(finding: ConditionFinding, names: &str) -> ConditionFinding {
    if !claims_silence(&finding) {
        return finding;
    }
    let message = format!(
        "it is unknown whether nothing is recorded: a recorder that does not answer or does not follow the latest configuration may still \
         record ({names}); see Ready of the Site"
    );
    ConditionFinding::new(
        ConditionType::Recording,
        ConditionStatus::Unknown,
        Reason::RecorderNotReady,
        message,
    )
}

/// Adds recorders that do not answer and may record the camera by an earlier configuration. Whether nothing is recorded is then
/// unknown.
pub fn with_lost_recorders(finding: ConditionFinding, names: &str) -> ConditionFinding {
    match finding.status {
        ConditionStatus::True => finding,
        ConditionStatus::False if claims_silence(&finding) => {
            let message = format!(
                "no recorder that answers records: {}; whether {names}, which Kubernetes does not reach, still records is unknown: see \
                 Ready of the Site",
                finding.message
            );
            let type_ = ConditionType::Recording;
            ConditionFinding::new(type_, ConditionStatus::Unknown, Reason::RecorderNotReady, message)
        }
        ConditionStatus::False | ConditionStatus::Unknown => {
            let message =
                format!("{}; {names}, which Kubernetes does not reach, may still record", finding.message);
            ConditionFinding { message, ..finding }
        }
    }
}

/// Evaluates a camera whose frames arrive, by the segments that the store confirmed.
fn evaluate_connected(
    report: &CameraReport,
    segment: SignedDuration,
    now: Timestamp,
) -> (ConditionStatus, Reason, &'static str) {
    let confirmed_until = report.last_segment.as_ref().map(|last| {
        let duration = SignedDuration::from_millis(i64::try_from(last.duration_ms).unwrap_or(i64::MAX));
        // A tenant who can change the recorders' configuration can answer in their place, with any number.
        last.start.checked_add(duration).unwrap_or(last.start)
    });
    // One segment is being written and may end one keyframe late, and the previous one may be in upload.
    let longest = segment.saturating_mul(3).saturating_add(UPLOAD_GRACE);
    let last_progress = confirmed_until.unwrap_or(report.since).max(report.since);
    if now.duration_since(last_progress) > longest {
        let message =
            "frames arrive, but the store confirms no segment: segments wait in the spool; check the store";
        return (ConditionStatus::False, Reason::UploadFailing, message);
    }
    match confirmed_until {
        None => {
            let message = "frames arrive, but the store has not confirmed the first segment yet";
            (ConditionStatus::False, Reason::Connecting, message)
        }
        // A backlog, such as after an outage of the store: new segments are uploaded beside it.
        Some(_) if report.oldest_waiting.is_some_and(|start| now.duration_since(start) > longest) => {
            let message =
                "frames arrive and the store confirms new segments; older ones still wait in the spool";
            (ConditionStatus::True, Reason::Recording, message)
        }
        Some(_) => {
            (ConditionStatus::True, Reason::Recording, "frames arrive and the store confirms segments")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SegmentReport;

    const SEGMENT: SignedDuration = SignedDuration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn report(state: CameraState, since: i64, last_segment: Option<i64>) -> CameraReport {
        let last_segment = last_segment.map(|start| SegmentReport {
            key: "k".into(),
            start: at(start),
            duration_ms: 60_000,
            bytes: 1,
        });
        CameraReport { last_segment, ..CameraReport::new("a", state, at(since)) }
    }

    #[test]
    fn recording_requires_confirmed_segments() {
        for (since, last_segment, now, expected) in [
            (0, None, 61, Reason::Connecting),
            (0, Some(0), 61, Reason::Recording),
            (0, Some(0), 299, Reason::Recording),
            (0, Some(0), 301, Reason::UploadFailing),
            (0, None, 301, Reason::UploadFailing),
            // After a long silence, the first segment has as much time as any other.
            (1000, Some(0), 1100, Reason::Recording),
        ] {
            let report = report(CameraState::Recording, since, last_segment);
            assert_eq!(evaluate(&report, SEGMENT, at(now)).reason, expected, "at {now}");
        }
    }

    #[test]
    fn backlog_does_not_count_as_failing_uploads() {
        for (oldest_waiting, has_backlog) in [(None, false), (Some(1000), false), (Some(0), true)] {
            let mut report = report(CameraState::Recording, 0, Some(1000));
            report.oldest_waiting = oldest_waiting.map(at);
            let finding = evaluate(&report, SEGMENT, at(1100));
            assert!(finding.is_true(), "{finding:?}");
            assert_eq!(finding.message.contains("older ones still wait"), has_backlog, "{finding:?}");
        }
    }

    #[test]
    fn wrong_clock_is_in_the_message() {
        for (ahead_ms, is_wrong) in [
            (None, false),
            (Some(60_000), false),
            (Some(-60_000), false),
            (Some(61_000), true),
            (Some(-61_000), true),
            (Some(i64::MIN), true),
        ] {
            let finding = evaluate(&report(CameraState::Recording, 0, Some(0)), SEGMENT, at(61));
            let finding = with_clock(finding, ahead_ms);
            assert_eq!(finding.message.contains("NTP"), is_wrong, "{ahead_ms:?}");
            assert_eq!(finding.reason, Reason::Recording);
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_reports_do_not_panic(
            since in proptest::prelude::any::<i64>(), start in proptest::prelude::any::<i64>(),
            duration_ms in proptest::prelude::any::<u64>(), now in proptest::prelude::any::<i64>(),
        ) {
            let at = |ns: i64| {
                let range = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
                Timestamp::from_second(ns.rem_euclid(range.end() - range.start()) + range.start()).unwrap()
            };
            let mut report = report(CameraState::Recording, 0, Some(0));
            report.since = at(since);
            let last = report.last_segment.as_mut().unwrap();
            (last.start, last.duration_ms) = (at(start), duration_ms);
            let _ = evaluate(&report, SEGMENT, at(now));
        }
    }

    #[test]
    fn only_recording_state_is_true() {
        for state in [
            CameraState::Connecting,
            CameraState::Disconnected,
            CameraState::Suspended,
            CameraState::NotPermitted,
            CameraState::SpoolFull,
            CameraState::Other,
        ] {
            assert!(!evaluate(&report(state, 0, Some(0)), SEGMENT, at(10)).is_true());
        }
    }
}
