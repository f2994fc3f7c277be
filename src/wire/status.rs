//! The recorder's status, `GET /v1/status`.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Status of one recorder pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecorderStatus {
    /// See [`super::FORMAT`].
    pub format: u32,
    /// Version of the recorder.
    pub version: String,
    /// Ordinal of the pod in its StatefulSet.
    pub shard: u32,
    /// Revision of the configuration in use.
    pub revision: String,
    /// Revision that every upload uses that runs or may still arrive. Holds of a later revision may not be in effect yet.
    /// Absent: the uploads use different revisions, or an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploads_follow: Option<String>,
    /// Newer configuration that the recorder rejected: it uses the last valid one. With the revision in use: some of its cameras were
    /// rejected, and are recorded as before or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RejectedConfig>,
    /// Reason that the storage of the configuration in use cannot be used, without secrets. Uploads use the previous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_problem: Option<String>,
    /// Start of the process.
    pub started: Timestamp,
    /// Time of this answer by the recorder's clock.
    pub now: Timestamp,
    /// Lead of the recorder's clock in milliseconds: over the store's, from the `Date` of its last answer. Before its first
    /// answer, over the operator's, from [`super::TIME_HEADER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Content of the spool.
    pub spool: SpoolStatus,
    /// The cameras of this shard.
    pub cameras: Vec<CameraReport>,
}

impl RecorderStatus {
    /// Returns whether the recorder and all its uploads use `revision`, including uploads of unknown outcome.
    pub fn has_acknowledged(&self, revision: &str) -> bool {
        self.revision == revision && self.uploads_follow.as_deref() == Some(revision)
    }
}

/// A rejected configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedConfig {
    /// Its revision, if readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Reason of the rejection, without secrets.
    pub message: String,
}

/// Content of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Number of complete segments.
    pub segments: u64,
    /// Number of files without a writer that are not recovered: after a crash, until the recorder reads them. It keeps those that it
    /// cannot read.
    #[serde(default)]
    pub unrecovered: u64,
    /// Bytes, including segments in progress and files of the previous recorder that are not recovered yet.
    pub bytes: u64,
    /// Capacity in bytes.
    pub limit: u64,
}

/// Status of one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CameraReport {
    /// Name of the Camera.
    pub name: String,
    /// Current state.
    pub state: CameraState,
    /// Start of this state.
    pub since: Timestamp,
    /// `H264` or `H265`, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Video, as recorded, once some seconds of it are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamReport>,
    /// Capture time of the newest frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<Timestamp>,
    /// Newest segment that the store confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<SegmentReport>,
    /// Number of segments that the store confirmed since the process started.
    pub uploaded: u64,
    /// Number of complete segments that wait for upload.
    pub waiting: u64,
    /// Start of the oldest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting: Option<Timestamp>,
    /// Last error, without secrets and URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Category of the last failure since the camera recorded. A changed category is reported when it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<CameraFailure>,
    /// Latest gaps, newest last, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

impl CameraReport {
    /// Returns the report of a camera that is in `state` since this time and has recorded nothing yet.
    pub fn new(name: &str, state: CameraState, since: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            state,
            since,
            codec: None,
            stream: None,
            last_frame: None,
            last_segment: None,
            uploaded: 0,
            waiting: 0,
            oldest_waiting: None,
            last_error: None,
            failure: None,
            gaps: Vec::new(),
        }
    }
}

/// Video of a camera, as recorded: never by what the camera claims of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    /// `H264` or `H265`.
    pub codec: String,
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Frames a second, times 1000, in the newest complete segment of this codec and size; before it, in the segment in progress.
    pub milliframes_per_second: u64,
    /// Bits a second in the same segment, with its container.
    pub bits_per_second: u64,
}

/// State of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CameraState {
    /// Frames arrive.
    Recording,
    /// Connecting, or waiting for the first keyframe.
    Connecting,
    /// No video arrives; the recorder retries.
    Disconnected,
    /// Covered (article 5).
    Suspended,
    /// The protocol does not permit recording now.
    NotPermitted,
    /// The spool is full.
    SpoolFull,
    /// A state that only newer recorders have.
    #[serde(other)]
    Other,
}

/// Category of a camera's failure. It contains no text of the camera, and of its answers only codes with a known remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CameraFailure {
    /// `spec.stream.url` cannot be used.
    InvalidUrl,
    /// The host or port does not answer.
    Unreachable,
    /// 401: the user or password is missing or wrong.
    Unauthorized,
    /// The camera requires basic authentication over `rtsp://`, which the spec does not allow.
    BasicAuthNotAllowed,
    /// 403: the user may not view this stream.
    Forbidden,
    /// 404: the camera has no stream at this path.
    PathNotFound,
    /// 461: the camera does not offer RTP over TCP.
    TransportUnsupported,
    /// 453 or 503: the camera serves no further client.
    Busy,
    /// Another status code, which the recorder's log has.
    ErrorStatus,
    /// The stream has no video.
    NoVideo,
    /// The video is neither H.264 nor H.265.
    UnsupportedCodec,
    /// MP4 cannot hold the video's parameters.
    UnsupportedParameters,
    /// The certificate is not trusted, or there is no common TLS version.
    UntrustedTls,
    /// The answer or the stream violates RTSP or RTP.
    ProtocolViolation,
    /// The camera ended the stream, or sent no frame for ten seconds.
    StreamEnded,
    /// The recorder failed: its disk, its muxer or a bug. The camera is not the cause.
    RecorderFailed,
    /// The recorder rejected the camera's part of its configuration. The camera is not the cause.
    ConfigurationRejected,
    /// A category that only newer recorders report.
    #[serde(other)]
    Other,
}

/// A segment that the store confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// Object key.
    pub key: String,
    /// Capture time of the first frame.
    pub start: Timestamp,
    /// Time from the first frame to the end of the last, in milliseconds.
    pub duration_ms: u64,
    /// Size in bytes.
    pub bytes: u64,
}

impl SegmentReport {
    /// Returns the capture time of the end of its last frame.
    pub fn end(&self) -> Timestamp {
        let duration = SignedDuration::from_millis(i64::try_from(self.duration_ms).unwrap_or(i64::MAX));
        self.start.saturating_add(duration).unwrap_or(Timestamp::MAX)
    }
}

/// A period without video.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Cause of the gap.
    pub cause: GapCause,
    /// Capture time of the last frame before the gap; absent: unknown, before this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Capture time of the first frame after the gap; absent: the gap is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Cause of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
pub enum GapCause {
    /// The camera did not answer, or closed the stream.
    Disconnected,
    /// The camera was covered (article 5).
    Suspended,
    /// The protocol did not permit recording.
    NotPermitted,
    /// The Site's spec, references or bucket were not as required.
    SiteNotReady,
    /// The spool was full.
    SpoolFull,
    /// The recorder was not running, or about to be replaced.
    RecorderRestarted,
    /// A file disappeared from the spool before it was uploaded.
    SpoolLost,
    /// The recorder's clock was not synchronized.
    ClockNotSynchronized,
    /// A cause that only newer recorders report.
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
            "failure": "Moved", "gaps": [{"cause": "Eclipse"}, {"cause": "RecorderRestarted"}], "newer": {"still": true},
        }))
        .unwrap();
        assert_eq!((report.state, report.failure), (CameraState::Other, Some(CameraFailure::Other)));
        let causes: Vec<GapCause> = report.gaps.iter().map(|gap| gap.cause).collect();
        assert_eq!(causes, [GapCause::Other, GapCause::RecorderRestarted]);
    }
}
