//! Site: a building with its managers, notices, bucket and recorders.

mod lost_recorder;
mod recorder;
mod status;
mod storage;

pub use lost_recorder::*;
pub use recorder::*;
pub use status::*;
pub use storage::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{column, condition_column, described, wide};
use super::condition::ConditionType::{AccessRestricted, Permitted, Ready, StorageEnforced};
use super::{Date, LocalRef, Subject, cel, schema};

/// Desired state of a Site.
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
    status = "SiteStatus",
    doc = "A building with cameras (article 2): its managers, the bucket for its recordings, and the times at which it \
           may record. Pod names contain the Site's name: at most 40 lowercase letters, digits and '-'.",
    selectable = ".spec.policyRef.name"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::SITE_SPEC)))]
pub struct SiteSpec {
    /// Name of the site for people. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub display_name: String,
    /// Postal address (article 2).
    pub address: PostalAddress,
    /// RecordingPolicy that governs the site, until another policy replaces it: see `spec.replaces` of the RecordingPolicy.
    pub policy_ref: LocalRef,
    /// People who are responsible for the site (article 3.1) and, with a `principal`, can read its held recordings (article 4.1). 1 to 16
    /// entries, each subject once.
    #[schemars(length(min = 1, max = 16))]
    pub managers: Vec<Manager>,
    /// Dates on which staff and visitors were informed (article 7). Without them, the site records nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<Notices>,
    /// Declares live viewing at this site (article 4.2). The operator rejects it unless the policy lists the site.
    /// This version only checks the field: it cannot show live video.
    #[serde(default)]
    pub live_view: bool,
    /// Periods in which cameras are covered (article 5), at most 64. The cameras record nothing then. The gap in
    /// their status has the reason `Suspended`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub suspensions: Vec<Suspension>,
    /// Bucket for the recordings.
    pub storage: Storage,
    /// Settings of the recorder pods.
    #[serde(default)]
    pub recorder: RecorderSettings,
    /// Fate of the bucket when the Site is deleted. `Retain`: the bucket stays, with all its rules.
    /// `DeleteWhenEmpty`: not implemented in this version. The bucket stays, and an event reports it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostalAddress {
    /// Street and number. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub street: String,
    /// Town. 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub city: String,
}

/// Person or group that is responsible for a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manager {
    /// Name of the person or group in the cluster, for the record. It grants nothing: bind a role with a `RoleBinding`, and set
    /// `principal` for access to recordings.
    pub subject: Subject,
    /// Identity at the object store, as its policies name it. 1 to 256 characters. Must be one identity: not a
    /// wildcard, an account or its root. Without it, the manager has no access to recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: Option<String>,
    /// age public key (X25519): `age1` and 58 characters. Unused: this version does not encrypt recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 62), extend("x-kubernetes-validations" = cel::to_json(cel::ENCRYPTION_KEY)))]
    pub encryption_key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notices {
    /// Day on which staff were informed (article 7.1), such as `2020-05-05`. Recording starts on this day at the
    /// earliest. Article 7.1 requires it to precede the policy's first day.
    pub staff_informed_date: Date,
    /// Day on which the signs at the entrance were posted (article 7.2), such as `2020-05-05`. Recording starts on
    /// this day at the earliest.
    pub signs_posted_date: Date,
}

/// Period in which cameras are covered, for example during elections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::SUSPENSION)))]
pub struct Suspension {
    /// Reason, such as `Gemeenteraadsverkiezing`. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// Start: an RFC 3339 time with its offset, such as `2026-03-18T07:00:00+01:00`.
    #[schemars(schema_with = "schema::instant")]
    pub from: Time,
    /// End, exclusive: an RFC 3339 time with its offset.
    #[schemars(schema_with = "schema::instant")]
    pub until: Time,
    /// Names of the Cameras, at most 256, each once. Defaults to all cameras of the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::camera_names")]
    pub cameras: Vec<String>,
}

/// Suspension in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionPeriod {
    /// Its reason, from `spec.suspensions` of the Site.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Start (UTC).
    pub from_time: Time,
    /// End, exclusive (UTC). In the status of a Camera: of all suspensions that follow without a pause.
    pub until_time: Time,
    /// Number of Cameras that it names. Absent: all of the Site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub cameras: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    DeleteWhenEmpty,
}

impl Site {
    /// Returns the columns of `kubectl get sites`.
    pub(crate) fn columns() -> Vec<CustomResourceColumnDefinition> {
        vec![
            condition_column("Ready", Ready, "status"),
            condition_column("Permitted", Permitted, "status"),
            condition_column("Storage", StorageEnforced, "status"),
            described(
                condition_column("Access", AccessRestricted, "status"),
                "Whether the probe found that each identity can read and write only what it may",
            ),
            described(
                column("Recording", "integer", ".status.recordingCameras"),
                "Number of the site's cameras that record",
            ),
            column("Cameras", "integer", ".status.cameras"),
            described(
                column("Policy", "string", ".status.policy.name"),
                "Policy that governs the site: that of spec.policyRef, or the one that replaced it",
            ),
            column("Age", "date", ".metadata.creationTimestamp"),
            wide(column("Bucket", "string", ".spec.storage.bucket")),
            wide(described(
                column("Bytes", "integer", ".status.audit.bytes"),
                "Size of all versions of recordings, by the last full audit",
            )),
            wide(described(
                column("Oldest Video", "date", ".status.audit.oldestUnheldVideoTime"),
                "Age of the oldest video that no hold covers, by the last audit",
            )),
            wide(described(
                column("Next Deadline", "string", ".status.nextDeadline.time"),
                "Next time at which the protocol requires something",
            )),
            wide(column("Due", "string", ".status.nextDeadline.reason")),
            wide(condition_column("Reason", Ready, "reason")),
            wide(condition_column("Message", Ready, "message")),
        ]
    }
}
