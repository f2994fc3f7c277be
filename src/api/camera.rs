//! Camera: one visible camera on a site; never its sound.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LocalRef;

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
    status = "CameraStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct CameraSpec {
    /// The site it hangs at. Cannot be changed: a recording's place is a fact.
    pub site_ref: LocalRef,
    /// What it looks at (article 2).
    pub area: String,
    /// That it is in plain sight (article 1). Must be true.
    pub visible: bool,
    /// Where its picture comes from.
    pub stream: Stream,
}

/// Where a camera's picture comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    /// `rtsp://` or `rtsps://`, without user or password.
    pub url: String,
    /// Secret of type `toezicht.dev/camera` with `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalRef>,
    /// How RTP travels.
    #[serde(default)]
    pub transport: Transport,
    /// Secret of type `toezicht.dev/ca` to verify an `rtsps://` camera with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// Allow basic authentication, which shows the password to whoever listens, over plain `rtsp://`.
    #[serde(default)]
    pub allow_basic: bool,
}

/// How RTP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326 §10.12).
    #[default]
    Tcp,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CameraStatus {
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `Recording`, `Ready`, `Stalled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The recorder pod that carries this camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorder: Option<String>,
    /// The newest segment that the store confirmed, refreshed at most every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<LastSegment>,
    /// The latest stretches without picture, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<CameraGap>,
}

/// A segment that the store confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSegment {
    /// Its key in the site's bucket.
    pub key: String,
    /// When its first frame was taken.
    pub start: Time,
    /// How long it is, in milliseconds.
    pub duration_ms: i64,
}

/// A stretch without picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CameraGap {
    /// `Disconnected`, `Suspended`, `NotPermitted`, `SpoolFull`, `Restart` or `ClockUnknown`.
    pub cause: String,
    /// When the last frame before it was taken; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// When the first frame after it was taken; absent: still going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}
