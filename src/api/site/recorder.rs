//! How a site's recorders run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Duration, cel, schema};

/// How a site's recorders run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecorderSettings {
    /// How many cameras one pod carries at most: 1 to 100. A camera stays with its pod; lowering this moves some,
    /// each with a gap.
    #[schemars(range(min = 1, max = 100))]
    pub max_cameras_per_pod: u32,
    /// A segment ends before the first keyframe at or past a multiple of this since 1970: `2s` to `10m`. So a first
    /// one may be shorter.
    #[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::SEGMENT_DURATION)))]
    pub segment_duration: Duration,
    /// Where segments wait for their upload.
    pub spool: SpoolSettings,
    /// Labels of the nodes that recorders may run on, at most 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that recorders tolerate, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// CPU and memory of a recorder pod; absent: the operator's defaults.
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

/// Where segments wait for their upload: an emptyDir, or a volume claim where a storage class is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SpoolSettings {
    /// The size of its volume, as a Kubernetes quantity of at least `64Mi`. Segments take at most 90 % of it: then the
    /// oldest that is not held goes first.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-validations" = cel::to_json(cel::SPOOL_SIZE)))]
    pub size: String,
    /// Storage class of the volume claim; absent: an emptyDir, which a deleted pod takes along.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = cel::to_json(cel::STORAGE_CLASS)))]
    pub storage_class_name: Option<String>,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { size: "20Gi".into(), storage_class_name: None }
    }
}
