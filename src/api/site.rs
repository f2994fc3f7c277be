//! Site: a building with its managers, notices, bucket and recorders.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Date, Days, Decision, Duration, LocalRef, Subject};

/// A building where cameras hang: who answers for it, where its recordings go, and when it may record.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "toezicht.dev",
    version = "v1alpha1",
    kind = "Site",
    plural = "sites",
    shortname = "site",
    category = "toezicht",
    namespaced,
    derive = "PartialEq",
    status = "SiteStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    /// The name people know it by.
    pub display_name: String,
    /// Where it is (article 2).
    pub address: Address,
    /// The policy it is under.
    pub policy_ref: LocalRef,
    /// Who answers for it (articles 3.1 and 4.1).
    pub managers: Vec<Manager>,
    /// How staff and visitors were told (article 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<Notices>,
    /// Whether there is live viewing here (article 4.2).
    #[serde(default)]
    pub live_view: bool,
    /// Times at which cameras are covered (article 5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspensions: Vec<Suspension>,
    /// Where recordings go.
    pub storage: Storage,
    /// How its recorders run.
    #[serde(default)]
    pub recorder: RecorderSettings,
    /// What becomes of the bucket when the Site is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A postal address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// Street and number.
    pub street: String,
    /// Town.
    pub city: String,
}

/// Somebody who answers for a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manager {
    /// Who that is in the cluster.
    pub subject: Subject,
    /// Who that is to the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Public key (age, X25519) to encrypt for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

/// How staff and visitors were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notices {
    /// The day staff were informed (article 7.1): before the policy is in force.
    pub staff_informed_on: Date,
    /// The day the signs at the entrance were put up (article 7.2).
    pub signs_posted_on: Date,
}

/// A time at which cameras are covered, for example for elections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspension {
    /// Why.
    pub reason: String,
    /// When it begins.
    pub from: Time,
    /// When it ends.
    pub until: Time,
    /// Names of the cameras; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<String>,
}

/// Where recordings go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// The bucket, this site's alone.
    pub bucket: String,
    /// The S3 endpoint; absent: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region that signatures name.
    pub region: String,
    /// Put the bucket into the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Secret of type `toezicht.dev/ca` to verify the endpoint with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// The operator's identity at the store.
    pub operator: Identity,
    /// The recorders' identity at the store.
    pub recorder: Identity,
    /// What to do with a bucket that already has a configuration of its own.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
    /// Who deletes what is too old.
    #[serde(default)]
    pub retention_enforcement: RetentionEnforcement,
    /// Record although the store keeps no legal holds.
    #[serde(default)]
    pub allow_unprotected: bool,
    /// Who decided on an exception (article 9); required with any of the three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// Somebody at the object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// As the store's policies name it; never a wildcard or an account's root.
    pub principal: String,
    /// Secret of type `toezicht.dev/s3` with `accessKeyId` and `secretAccessKey`.
    pub credentials_ref: LocalRef,
}

/// What to do with a bucket that already has a configuration of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// Leave it as it is and say so.
    #[default]
    Refuse,
    /// Replace its configuration (needs a decision).
    TakeOver,
}

/// Who deletes what is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionEnforcement {
    /// The store's lifecycle and the operator.
    #[default]
    StoreAndOperator,
    /// The operator alone, for a store without lifecycle (needs a decision).
    OperatorOnly,
}

/// How a site's recorders run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecorderSettings {
    /// How many cameras one pod carries at most.
    pub cameras_per_pod: u32,
    /// A segment ends at the first keyframe after this long.
    pub segment_duration: Duration,
    /// Where segments wait for their upload.
    pub spool: Spool,
    /// Nodes that recorders may run on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that recorders tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// CPU and memory of a recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            cameras_per_pod: 32,
            segment_duration: Duration(std::time::Duration::from_secs(60)),
            spool: Spool::default(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            resources: None,
        }
    }
}

/// Where segments wait for their upload: an emptyDir, or a volume claim where a storage class is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Spool {
    /// How much it holds, as a Kubernetes quantity.
    pub size: String,
    /// Storage class of the volume claim; absent: an emptyDir, which a deleted pod takes along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            size: "20Gi".into(),
            storage_class: None,
        }
    }
}

/// What becomes of the bucket when the Site is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The bucket stays, with all its rules.
    #[default]
    Retain,
    /// The bucket goes once it is empty.
    DeleteWhenEmpty,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `StorageEnforced`, `Recording`, `AdministratorsExcluded`, `Ready`, `Stalled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The last ceilings that were in force here: they outlive the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
    /// What was read back from the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// How many cameras the site has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cameras: Option<i32>,
    /// How many of them record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<i32>,
}

/// Ceilings of retention that were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ceilings {
    /// Of video.
    pub video: Days,
    /// Of calls.
    pub calls: Days,
}

/// What was read back from the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// When it was read, refreshed at most every five minutes.
    pub read_back_at: Time,
    /// Whether Object Lock is on, without a default retention.
    pub object_lock: bool,
    /// Whether versioning is on.
    pub versioning: bool,
    /// Days after which lifecycle hides a video; the bytes go within three days more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_expiration_days: Option<i32>,
    /// The same for calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_expiration_days: Option<i32>,
    /// What the recorders' credentials were tried to do, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorder_trials: Vec<Trial>,
}

/// Something that was tried on a canary, and what came of it, judged by the effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// What was tried: `Get`, `List`, `Delete`, `Retag`, `LegalHold`, …
    pub operation: String,
    /// Whether the store refused it.
    pub refused: bool,
}
