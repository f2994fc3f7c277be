//! Camera: one visible camera on a site; never its sound.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalRef, cel, schema};

/// One visible camera on a site. Its sound is never recorded (article 1).
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
    doc = "One visible camera on a site (article 2). Its sound is never recorded (article 1). The name becomes \
           part of the keys of its recordings: at most 63 lowercase letters, digits and '-'.",
    selectable = ".spec.siteRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Permitted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Permitted\")].status"
    ),
    printcolumn(
        name = "Recording",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Recording\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Recording\")].reason"
    ),
    printcolumn(name = "Site", type_ = "string", json_path = ".spec.siteRef.name"),
    printcolumn(name = "Last Segment", type_ = "date", json_path = ".status.lastSegment.startTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Area", type_ = "string", json_path = ".spec.area", priority = 1),
    printcolumn(name = "Recorder", type_ = "string", json_path = ".status.recorderPodName", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Recording\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::CAMERA_SPEC)))]
pub struct CameraSpec {
    /// The Site where it hangs (article 2). Cannot be changed: a recording's place is a fact.
    pub site_ref: LocalRef,
    /// What it looks at (article 2), such as `Receptie`: 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub area: String,
    /// That it hangs in plain sight. Article 1 allows no hidden cameras, so anything but `true` is refused.
    #[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::VISIBLE)))]
    pub visible: bool,
    /// Where its picture comes from.
    pub stream: CameraStream,
}

/// Where a camera's picture comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::STREAM)))]
pub struct CameraStream {
    /// RTSP URL of the camera's stream, `rtsp://` or `rtsps://`, such as `rtsp://10.20.0.11/h264`; H.264 or
    /// H.265. Without user, password or token: whoever may see the Camera sees it.
    #[schemars(
        length(min = 8, max = 1024),
        extend("x-kubernetes-validations" = cel::to_json(cel::STREAM_URL))
    )]
    pub url: String,
    /// Secret of type `toezicht.dev/camera` with `username` and `password`; absent: the camera asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalRef>,
    /// How RTP travels. `TCP`: interleaved in the RTSP connection (RFC 2326 §10.12).
    #[serde(default)]
    pub transport: Transport,
    /// Secret of type `toezicht.dev/ca` with `ca.crt`, the certificate authority to verify a camera with;
    /// required with `rtsps://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// Allow basic authentication over plain `rtsp://`, which shows the password to whoever listens on the
    /// network. Digest authentication, and basic over `rtsps://`, need no leave.
    #[serde(default)]
    pub allow_basic_auth: bool,
}

/// How RTP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326 §10.12).
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CameraStatus {
    /// Which `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `Recording`, `Ready`, `Stalled`; docs/reference/conditions.md explains them.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The recorder pod that carries this camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub recorder_pod_name: Option<String>,
    /// The newest segment that the store confirmed, refreshed at most every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<LastSegment>,
    /// The latest stretches without picture, newest last, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub gaps: Vec<CameraGap>,
}

/// A segment that the store confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSegment {
    /// Its key in the site's bucket.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// When its first frame was taken (UTC).
    pub start_time: Time,
    /// How long it is, in milliseconds.
    #[schemars(range(min = 0))]
    pub duration_milliseconds: i64,
}

/// A stretch without picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CameraGap {
    /// Why: `Disconnected`, `Suspended`, `NotPermitted`, `SpoolFull`, `RecorderRestarted`, `ClockNotSynchronized`, or `Other`, which only a newer recorder knows.
    #[schemars(length(max = 32))]
    pub reason: String,
    /// When the last frame before it was taken (UTC); absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// When the first frame after it was taken (UTC); absent: still going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}
