//! What the operator found of a site.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Days, schema};

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Which `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `StorageEnforced`, `Recording`, `AdministratorsExcluded`, `Ready`, `Stalled`;
    /// docs/conditions.md explains them.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The last ceilings that were in force here (article 6): they outlive the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
    /// What was read back from the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// How many cameras the site has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cameras: Option<i32>,
    /// How many of them record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub recording: Option<i32>,
}

/// Ceilings of retention that were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ceilings {
    /// Of video, in whole days.
    pub video: Days,
    /// Of recorded calls, in whole days.
    pub calls: Days,
}

/// What was read back from the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// When it was read (UTC), refreshed at most every five minutes.
    pub read_back_at: Time,
    /// Whether Object Lock is on, without a default retention.
    pub object_lock: bool,
    /// Whether versioning is on.
    pub versioning: bool,
    /// Days after which the store's lifecycle hides a video; the bytes go within three days more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub video_expiration_days: Option<i32>,
    /// Days after which the store's lifecycle hides a recorded call; the bytes go within three days more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub calls_expiration_days: Option<i32>,
    /// When the conformance probe last ran (UTC): when the operator that leads sees that the credentials or the
    /// bucket's policy change, and daily.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Time>,
    /// What the store was found to keep, tried on canaries and judged by the effect; docs/storage.md explains
    /// each row. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub conformance: Vec<ConformanceRow>,
}

/// Something that a store must keep, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConformanceRow {
    /// What holds where the verdict is `Holds`: `HeldSurvivesDelete`, `RecorderCannotGet`, …
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// As whom it was tried.
    pub principal: ConformancePrincipal,
    /// What was found.
    pub verdict: ConformanceVerdict,
    /// What it means where it fails.
    pub severity: ConformanceSeverity,
    /// What follows where it fails, why where it cannot be told; absent where it holds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

/// As whom something was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConformancePrincipal {
    /// With the operator's credentials.
    Operator,
    /// With the recorders' credentials.
    Recorder,
    /// Without credentials.
    Anonymous,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConformanceVerdict {
    /// It is so.
    Holds,
    /// It is not so.
    Fails,
    /// It cannot be told.
    Unknown,
}

/// What a row means where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConformanceSeverity {
    /// A promise cannot be kept: the bucket is refused, unless the Site has an exception for it.
    Fatal,
    /// The promises are kept by other means; what is weaker is said.
    Weak,
}
