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
    /// When the recorders' credentials were last tried (UTC): when the operator that leads sees that they or the
    /// bucket's policy change, and daily.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Time>,
    /// What the recorders' credentials were tried to do on a canary, and what came of it; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub recorder_trials: Vec<Trial>,
}

/// Something that was tried on a canary, and what came of it, judged by the effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// What was tried: `Get`, `List`, `Delete`, `Retag`, `LegalHold`, …
    #[schemars(length(min = 1, max = 64))]
    pub operation: String,
    /// Whether the store refused it, judged by the effect.
    pub refused: bool,
}
