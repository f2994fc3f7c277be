//! Camera: one visible camera on a site, without sound.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{column, condition_column, condition_path, described, wide};
use super::condition::ConditionType::{Permitted, Ready, Recording};
use super::{Date, LocalRef, SuspensionPeriod, cel, schema};

/// Desired state of a Camera.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "toezicht.dev",
    version = "v1alpha1",
    kind = "Camera",
    plural = "cameras",
    shortname = "cam",
    category = "toezicht",
    namespaced,
    derive = "PartialEq",
    status = "CameraStatus",
    doc = "One visible camera on a site (article 2). Its sound is never recorded (article 1). Object keys contain \
           the Camera's name: at most 63 lowercase letters, digits and '-'.",
    selectable = ".spec.siteRef.name"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::CAMERA_SPEC)))]
pub struct CameraSpec {
    /// Site where the camera is installed (article 2). Immutable: a recording's place is a fact.
    pub site_ref: LocalRef,
    /// Area in view of the camera (article 2), such as `Receptie`. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub area: String,
    /// Confirms that the camera is installed in plain sight. Must be `true`: article 1 forbids hidden cameras.
    #[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::VISIBLE)))]
    pub visible: bool,
    /// RTSP stream of the camera.
    pub stream: CameraStream,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::STREAM)))]
pub struct CameraStream {
    /// `rtsp://` or `rtsps://` URL of an H.264 or H.265 stream, such as `rtsp://10.20.0.11/h264`. 8 to 1024
    /// characters. Must not contain a user, password or token: everyone who can read the Camera can read it.
    #[schemars(
        length(min = 8, max = 1024),
        extend("x-kubernetes-validations" = cel::to_json(cel::STREAM_URL))
    )]
    pub url: String,
    /// Secret of type `toezicht.dev/camera` with `username` and `password`. Omit it if the camera requires none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalRef>,
    /// Transport of RTP. `TCP`: interleaved in the RTSP connection (RFC 2326 §10.12).
    #[serde(default)]
    pub transport: Transport,
    /// Secret of type `toezicht.dev/ca` with `ca.crt`, the certificate authority that verifies the camera.
    /// Required with `rtsps://`, rejected with `rtsp://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// Allows basic authentication over plain `rtsp://`. Anyone who can capture traffic on the network then sees
    /// the password. Digest authentication, and basic authentication over `rtsps://`, are always allowed.
    #[serde(default)]
    pub allow_basic_auth: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

/// Observed state of a Camera.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CameraStatus {
    /// `metadata.generation` that the operator last reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `Recording`, `Ready` and `Stalled`. See docs/reference/conditions.md.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Recorder pod that records this camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub recorder_pod_name: Option<String>,
    /// Newest segment that the store confirmed. While the camera records, it is refreshed about every 15 minutes. When
    /// `Recording` changes or a gap begins or ends, it is exact within 15 seconds. The metric
    /// `toezicht_camera_last_segment_timestamp_seconds` has the live value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<LastSegment>,
    /// Video of the camera, measured in its recordings. Refreshed with `lastSegment`, and within 15 seconds when codec or resolution
    /// change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamStatus>,
    /// Gaps on the current day in which the camera should have recorded. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps_today: Option<DailyGaps>,
    /// Suspension that covers the camera now, and the next one (article 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspensions: Option<CameraSuspensions>,
    /// Latest periods without video, newest last, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub gaps: Vec<CameraGap>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSegment {
    /// Object key in the site's bucket.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// Time of the first frame (UTC).
    pub start_time: Time,
    /// Duration in milliseconds.
    #[schemars(range(min = 0))]
    pub duration_milliseconds: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CameraSuspensions {
    /// Suspension in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<SuspensionPeriod>,
    /// Next suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SuspensionPeriod>,
}

/// Video of a camera.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// `H264` or `H265`. `Other`: the recorder is newer than the operator.
    #[schemars(length(max = 16))]
    pub codec: String,
    /// Width in pixels.
    #[schemars(range(min = 0, max = 65535))]
    pub width: i32,
    /// Height in pixels.
    #[schemars(range(min = 0, max = 65535))]
    pub height: i32,
    /// Frames a second, as a decimal number in tenths, such as `25` or `12.5`.
    #[schemars(length(max = 16))]
    pub frames_per_second: String,
    /// Bits a second, rounded to thousands.
    #[schemars(range(min = 0))]
    pub bits_per_second: i64,
}

/// Gaps on one day. Gaps with the reason `Suspended` or `NotPermitted` do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DailyGaps {
    /// The day, such as `2026-05-06`.
    pub date: Date,
    /// Time zone of the day: that of the policy that governs the Site, or UTC if it has none.
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// Number of gaps that touch the day, including one that is not over. The recorder knows the latest 20.
    #[schemars(range(min = 0))]
    pub count: i32,
    /// Seconds of the day in these gaps. The seconds of a gap that is not over are added when it ends.
    #[schemars(range(min = 0))]
    pub seconds: i64,
}

/// Period without video.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CameraGap {
    /// Cause: `Disconnected`, `Suspended`, `NotPermitted`, `SiteNotReady`, `SpoolFull`, `RecorderRestarted`,
    /// `SpoolLost` or `ClockNotSynchronized`. `Other`: the recorder is newer than the operator and reports another cause.
    #[schemars(length(max = 32))]
    pub reason: String,
    /// Time of the last frame before the gap (UTC). Absent if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Time of the first frame after the gap (UTC). Absent while the gap lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Camera {
    /// Returns the columns of `kubectl get cameras`.
    pub(crate) fn columns() -> Vec<CustomResourceColumnDefinition> {
        vec![
            condition_column("Ready", Ready, "status"),
            condition_column("Permitted", Permitted, "status"),
            condition_column("Recording", Recording, "status"),
            condition_column("Reason", Recording, "reason"),
            described(
                column("Since", "date", &condition_path(Recording, "lastTransitionTime")),
                "Time since the camera records, or does not",
            ),
            column("Site", "string", ".spec.siteRef.name"),
            column("Age", "date", ".metadata.creationTimestamp"),
            wide(column("Area", "string", ".spec.area")),
            wide(column("Recorder", "string", ".status.recorderPodName")),
            wide(condition_column("Message", Recording, "message")),
        ]
    }
}
