//! Settings of a site's recorder pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Duration, cel, schema};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::RECORDER_SETTINGS)))]
pub struct RecorderSettings {
    /// Maximum number of cameras per recorder pod, 1 to 100. A camera stays with its pod. Lowering this moves some
    /// cameras to another pod, each with a gap.
    #[schemars(range(min = 1, max = 100))]
    pub max_cameras_per_pod: u32,
    /// Length of a segment, `2s` to `10m`. A segment ends at the first keyframe at or after a multiple of this time
    /// since 1970, so the first segment of a session may be shorter.
    #[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::SEGMENT_DURATION)))]
    pub segment_duration: Duration,
    /// Volume where segments wait for their upload.
    pub spool: SpoolSettings,
    /// Labels that a node must have to run recorder pods, at most 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that recorder pods tolerate, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Resources of a recorder pod. Defaults to requests of `100m` CPU and `128Mi` memory, and a memory limit of `1Gi`. An
    /// emptyDir spool adds `ephemeral-storage` to requests and limits, unless they have it: `spool.size` and 256Mi for logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            max_cameras_per_pod: 32,
            segment_duration: Duration(std::time::Duration::from_mins(1)),
            spool: SpoolSettings::default(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            resources: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SpoolSettings {
    /// Size of the volume, a Kubernetes quantity of at least `64Mi`. Segments use at most 90 % of it. After that, the
    /// recorder deletes the oldest segment that no hold covers.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-validations" = cel::to_json(cel::SPOOL_SIZE)))]
    pub size: String,
    /// Storage class of a persistent volume claim. The operator deletes the claim once it is proved empty. Defaults to an
    /// emptyDir, which is lost when the pod is deleted. The node of the pod must then have `size` free: see `resources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = cel::to_json(cel::STORAGE_CLASS)))]
    pub storage_class_name: Option<String>,
    /// Longest recording of a camera that may be lost with a pod or the power of a node, at least `segmentDuration` and 30 seconds.
    /// Requires `storageClassName`, since an emptyDir can lose all that waits for the store. Defaults to no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<Duration>,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { size: "20Gi".into(), storage_class_name: None, max_loss: None }
    }
}
