//! Whether a camera records, from what its recorder says of it: the `Recording` of a Camera, and its part in
//! that of its Site.

use jiff::{SignedDuration, Timestamp};

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::wire::{CameraReport, CameraState};

/// An upload may take this long beyond the end of its segment before it counts as failing.
const UPLOAD_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// `Recording` of a camera, by the recorder's clock `now`. The message holds nothing that moves from one
/// look to the next, so that a camera that keeps recording keeps its status.
pub fn evaluate(report: &CameraReport, segment: SignedDuration, now: Timestamp) -> ConditionFinding {
    let (truth, reason, message) = match report.state {
        CameraState::Recording => return evaluate_connected(report, segment, now),
        CameraState::Connecting => (
            ConditionStatus::False,
            Reason::Connecting,
            "the recorder is connecting, or waits for the first keyframe",
        ),
        CameraState::Disconnected => (
            ConditionStatus::False,
            Reason::Disconnected,
            "no picture arrives; the recorder keeps trying: check the camera, spec.stream and its Secret",
        ),
        CameraState::Suspended => {
            (ConditionStatus::False, Reason::Suspended, "the camera is covered (article 5)")
        }
        CameraState::NotPermitted => (
            ConditionStatus::False,
            Reason::DependencyNotReady,
            "it may not record now: see Permitted, and StorageEnforced of its Site",
        ),
        CameraState::Other => (
            ConditionStatus::Unknown,
            Reason::RecorderNotReady,
            "the recorder says something that this version of the operator does not know",
        ),
        CameraState::SpoolFull => (
            ConditionStatus::False,
            Reason::SpoolFull,
            "the recorder's spool is full: see to the store, or enlarge spec.recorder.spool of the Site",
        ),
    };
    ConditionFinding::new(ConditionType::Recording, truth, reason, message)
}

/// Frames arrive; whether the store confirms segments too.
fn evaluate_connected(report: &CameraReport, segment: SignedDuration, now: Timestamp) -> ConditionFinding {
    let confirmed = report.last_segment.as_ref().map(|last| {
        let lasts = SignedDuration::from_millis(i64::try_from(last.duration_ms).unwrap_or(i64::MAX));
        // Whoever can change what recorders are configured with can answer in their place, and with anything.
        last.start.checked_add(lasts).unwrap_or(last.start)
    });
    // A segment that is being written may end one keyframe late, and the one before may be under way.
    let longest = segment.saturating_mul(3).saturating_add(UPLOAD_GRACE);
    let is_late = now.duration_since(confirmed.unwrap_or(report.since).max(report.since)) > longest;
    let (truth, reason, message) = match (is_late, confirmed) {
        (true, _) => (
            ConditionStatus::False,
            Reason::UploadFailing,
            "frames arrive, but the store confirms no segments; they wait in the spool",
        ),
        (false, None) => (
            ConditionStatus::False,
            Reason::Connecting,
            "frames arrive; the first segment is not confirmed yet",
        ),
        (false, Some(_)) => {
            (ConditionStatus::True, Reason::Recording, "frames arrive and the store confirms segments")
        }
    };
    ConditionFinding::new(ConditionType::Recording, truth, reason, message)
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
        CameraReport {
            name: "a".into(),
            state,
            since: at(since),
            codec: None,
            last_frame: None,
            last_segment,
            uploaded: 0,
            waiting: 0,
            last_error: None,
            gaps: vec![],
        }
    }

    #[test]
    fn recording_requires_confirmed_segments() {
        let reason = |since, last, now| {
            evaluate(&report(CameraState::Recording, since, last), SEGMENT, at(now)).reason
        };
        assert_eq!(reason(0, None, 61), Reason::Connecting);
        assert_eq!(reason(0, Some(0), 61), Reason::Recording);
        assert_eq!(reason(0, Some(0), 299), Reason::Recording);
        assert_eq!(reason(0, Some(0), 301), Reason::UploadFailing);
        assert_eq!(reason(0, None, 301), Reason::UploadFailing);
        // After a long silence the first segment gets its time too.
        assert_eq!(reason(1000, Some(0), 1100), Reason::Recording);
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
