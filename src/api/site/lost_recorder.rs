//! Recorders on nodes that Kubernetes does not reach.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A recorder that does not answer and whose node Kubernetes does not reach. Other recorders record its cameras.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LostRecorder {
    /// Name of its pod.
    #[schemars(length(min = 1, max = 253))]
    pub pod_name: String,
    /// UID of its pod.
    #[schemars(length(min = 1, max = 64))]
    pub pod_uid: String,
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
    /// Time at which Kubernetes found the node unreachable (UTC).
    pub since: Time,
    /// Volume claim of its spool. Absent: its spool goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub spool_claim_name: Option<String>,
    /// Cameras that it recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub cameras: Vec<LostCamera>,
    /// Time at which the pod was found to be gone with its spool (UTC). Absent: it may return with its segments, and up to then it
    /// may also record. The operator removes the entry once each Camera has the gap, or after 30 days. It stays for at least ten
    /// minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool_lost_time: Option<Time>,
}

/// A camera that a lost recorder recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LostCamera {
    /// Name of the Camera.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// End of the last segment that its status had (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment_end_time: Option<Time>,
}
