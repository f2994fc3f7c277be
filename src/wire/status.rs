//! The recorder's status, `GET /v1/status`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What one recorder pod says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecorderStatus {
    /// See [`super::FORMAT`].
    pub format: u32,
    /// Version of the recorder.
    pub version: String,
    /// Which pod: the ordinal of its StatefulSet.
    pub shard: u32,
    /// Revision of the configuration it follows.
    pub revision: String,
    /// Revision that every upload under way follows, at least: what a later one says of holds may not be done yet.
    /// Absent: an upload's outcome is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploads_follow: Option<String>,
    /// A newer configuration that it refused, keeping the last good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RejectedConfig>,
    /// When the process started.
    pub started: Timestamp,
    /// Its clock, at the time of this answer.
    pub now: Timestamp,
    /// How far its clock is ahead of the store's, from the `Date` of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// What waits for upload.
    pub spool: SpoolStatus,
    /// The cameras of this shard.
    pub cameras: Vec<CameraReport>,
}

impl RecorderStatus {
    /// Whether it follows the configuration `revision`, with no upload under way, or of unknown outcome, that began
    /// before.
    pub fn has_acknowledged(&self, revision: &str) -> bool {
        self.revision == revision && self.uploads_follow.as_deref() == Some(revision)
    }
}

/// A configuration that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedConfig {
    /// Its revision, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Why; holds no secret.
    pub message: String,
}

/// What waits for upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Closed segments.
    pub segments: u64,
    /// Bytes, open segments included.
    pub bytes: u64,
    /// Bytes it may hold.
    pub limit: u64,
}

/// What a recorder says of one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CameraReport {
    /// The Camera's name.
    pub name: String,
    /// What it is doing.
    pub state: CameraState,
    /// Since when.
    pub since: Timestamp,
    /// `H264` or `H265`, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// When the newest frame was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<Timestamp>,
    /// The newest segment that the store confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<SegmentReport>,
    /// Segments that the store confirmed since the process started.
    pub uploaded: u64,
    /// Closed segments of this camera that wait for upload.
    pub waiting: u64,
    /// The last thing that went wrong; holds no secret and no URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The latest stretches without picture, newest last, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// What a recorder does with a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CameraState {
    /// Frames arrive.
    Recording,
    /// Connecting, or waiting for the first keyframe.
    Connecting,
    /// No picture: it tries again.
    Disconnected,
    /// Covered (article 5).
    Suspended,
    /// The protocol does not allow recording now.
    NotPermitted,
    /// The spool is full.
    SpoolFull,
    /// Something that only a newer recorder knows.
    #[serde(other)]
    Other,
}

/// A segment that the store confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// Its key.
    pub key: String,
    /// When its first frame was taken.
    pub start: Timestamp,
    /// From its first frame to the end of its last, in milliseconds.
    pub duration_ms: u64,
    /// Its size.
    pub bytes: u64,
}

/// A stretch without picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// When the last frame before it was taken; absent: before this process, and not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When the first frame after it was taken; absent: still going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
pub enum GapCause {
    /// The camera did not answer, or went away.
    Disconnected,
    /// The camera was covered (article 5).
    Suspended,
    /// The protocol did not allow recording.
    NotPermitted,
    /// The spool was full.
    SpoolFull,
    /// The recorder was not running.
    RecorderRestarted,
    /// The recorder's clock could not be trusted.
    ClockNotSynchronized,
    /// Something that only a newer recorder knows.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_read_as_other() {
        let report: CameraReport = serde_json::from_value(serde_json::json!({
            "name": "hal", "state": "Dreaming", "since": "2026-11-24T12:00:00Z", "uploaded": 3, "waiting": 0,
            "gaps": [{"cause": "Eclipse"}, {"cause": "RecorderRestarted"}], "newer": {"still": true},
        }))
        .unwrap();
        assert_eq!(report.state, CameraState::Other);
        let causes: Vec<GapCause> = report.gaps.iter().map(|gap| gap.cause).collect();
        assert_eq!(causes, [GapCause::Other, GapCause::RecorderRestarted]);
    }
}
