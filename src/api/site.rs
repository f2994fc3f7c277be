//! Site: a building with its managers, notices, bucket and recorders.

mod recorder;
mod status;
mod storage;

pub use recorder::*;
pub use status::*;
pub use storage::*;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Date, LocalRef, Subject, cel, schema};

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
    status = "SiteStatus",
    doc = "A building where cameras hang (article 2): who answers for it, where its recordings go, and when it may \
           record. The name becomes part of the names of its pods: at most 40 lowercase letters, digits and '-'.",
    selectable = ".spec.policyRef.name",
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
        name = "Storage",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"StorageEnforced\")].status"
    ),
    printcolumn(
        name = "Access",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"AccessRestricted\")].status",
        description = "Whether each identity can read and write only what it may, as tried"
    ),
    printcolumn(
        name = "Recording",
        type_ = "integer",
        json_path = ".status.recordingCameras",
        description = "How many of the site's cameras record"
    ),
    printcolumn(name = "Cameras", type_ = "integer", json_path = ".status.cameras"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.storage.bucket", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::SITE_SPEC)))]
pub struct SiteSpec {
    /// The name people know it by: 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub display_name: String,
    /// Where it is (article 2).
    pub address: PostalAddress,
    /// The RecordingPolicy it is under.
    pub policy_ref: LocalRef,
    /// Who answers for it (article 3.1) and has access to its recordings (article 4.1): 1 to 16, each subject
    /// once.
    #[schemars(length(min = 1, max = 16))]
    pub managers: Vec<Manager>,
    /// How staff and visitors were told (article 7). Without it nothing records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<Notices>,
    /// Whether there is live viewing here (article 4.2). Refused where the policy does not list the site. This
    /// version only checks it: nothing can be watched as it comes in.
    #[serde(default)]
    pub live_view: bool,
    /// Times at which cameras are covered (article 5), at most 64. Nothing is recorded then; the gap carries the
    /// reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub suspensions: Vec<Suspension>,
    /// Where its recordings go.
    pub storage: Storage,
    /// How its recorders run.
    #[serde(default)]
    pub recorder: RecorderSettings,
    /// What becomes of the bucket when the Site is deleted. `Retain`: it stays, with all its rules.
    /// `DeleteWhenEmpty`: not in this version: it stays, as with `Retain`, and an event says so.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A postal address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostalAddress {
    /// Street and number: 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub street: String,
    /// Town: 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub city: String,
}

/// Somebody who answers for a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manager {
    /// Who that is in the cluster.
    pub subject: Subject,
    /// Who that is to the object store, as its policies name one identity; never a wildcard or an account.
    /// Absent: no access to recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: Option<String>,
    /// Public key to encrypt for (age, X25519), `age1` and 58 characters. Not used in this version, which does not
    /// encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 62), extend("x-kubernetes-validations" = cel::to_json(cel::ENCRYPTION_KEY)))]
    pub encryption_key: Option<String>,
}

/// How staff and visitors were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notices {
    /// The day staff were informed (article 7.1), before the policy enters into force, such as `2020-05-05`. Nothing
    /// is recorded before that day.
    pub staff_informed_date: Date,
    /// The day the signs at the entrance were put up (article 7.2), such as `2020-05-05`. Nothing is recorded before
    /// that day.
    pub signs_posted_date: Date,
}

/// A time at which cameras are covered, for example for elections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::SUSPENSION)))]
pub struct Suspension {
    /// Why, such as `Gemeenteraadsverkiezing`: 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// When it begins: an instant with its offset (RFC 3339), such as `2026-03-18T07:00:00+01:00`.
    #[schemars(schema_with = "schema::instant")]
    pub from: Time,
    /// When it ends, that instant not included.
    #[schemars(schema_with = "schema::instant")]
    pub until: Time,
    /// Names of the Cameras, at most 256, each once; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::camera_names")]
    pub cameras: Vec<String>,
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
