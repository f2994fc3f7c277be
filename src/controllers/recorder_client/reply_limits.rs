//! Limits of a recorder's reply. A tenant who can change the recorders' configuration can answer in their place, with any text. A text
//! above the limits of the schema would keep the status of the Site or the Camera from being written. Pure.

use crate::api::truncate;
use crate::wire::RecorderStatus;

/// Longest text of a recorder in a condition.
const MAX_TEXT_CHARS: usize = 500;
/// Longest key of S3, and in the status of a Camera.
const MAX_KEY_CHARS: usize = 1024;

/// Shortens the texts of a reply that a status repeats, and drops a segment that no store can have.
pub fn limit_texts(mut status: RecorderStatus) -> RecorderStatus {
    if let Some(rejected) = &mut status.refused {
        rejected.message = truncate(&rejected.message, MAX_TEXT_CHARS);
    }
    status.storage_problem = status.storage_problem.map(|problem| truncate(&problem, MAX_TEXT_CHARS));
    for camera in &mut status.cameras {
        camera.last_segment.take_if(|segment| segment.key.chars().nth(MAX_KEY_CHARS).is_some());
    }
    status
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::controllers::testing::recorder_status;
    use crate::wire::{CameraReport, CameraState, RejectedConfig, SegmentReport};

    #[test]
    fn texts_of_a_lying_recorder_fit_into_a_status() {
        let now = Timestamp::UNIX_EPOCH;
        let camera = |key_chars| CameraReport {
            last_segment: Some(SegmentReport {
                key: "é".repeat(key_chars),
                start: now,
                duration_ms: 1,
                bytes: 1,
            }),
            ..CameraReport::new("hal", CameraState::Recording, now)
        };
        let status = recorder_status("r", now, vec![camera(1024), camera(1025)]);
        assert_eq!(limit_texts(status.clone()).cameras[0], status.cameras[0]);
        let lie = "é".repeat(100_000);
        let limited = limit_texts(RecorderStatus {
            refused: Some(RejectedConfig { revision: None, message: lie.clone() }),
            storage_problem: Some(lie),
            ..status
        });
        assert_eq!(limited.cameras[1].last_segment, None);
        assert_eq!(limited.refused.unwrap().message.chars().count(), 500);
        assert_eq!(limited.storage_problem.unwrap().chars().count(), 500);
    }
}
