//! RecordingPolicy: the protocol that the organisation adopted.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{column, condition_column, wide};
use super::condition::ConditionType::{InForce, Ready};
use super::{Date, DateOrInstant, Days, Duration, Subject, cel, schema};

/// Desired state of a RecordingPolicy.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "toezicht.dev",
    version = "v1alpha1",
    kind = "RecordingPolicy",
    plural = "recordingpolicies",
    shortname = "rp",
    category = "toezicht",
    namespaced,
    derive = "PartialEq",
    status = "RecordingPolicyStatus",
    doc = "The protocol that the organisation adopted: the purposes of recordings, their ceilings, and the people who \
           can read them. Sites refer to it in spec.policyRef. A Site whose policy is not in force records nothing."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::RECORDING_POLICY_SPEC)))]
pub struct RecordingPolicySpec {
    /// Title of the protocol. 1 to 256 characters.
    #[schemars(length(min = 1, max = 256))]
    pub title: String,
    /// IANA time zone, such as `Europe/Amsterdam`. Dates in this policy and in its Sites are days in this zone. 1 to 64
    /// characters.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-validations" = cel::to_json(cel::TIME_ZONE)))]
    pub time_zone: String,
    /// Adoption of the protocol.
    pub adoption: PolicyAdoption,
    /// Name of the policy that this policy replaces (article 10). From `inForce.from` on, this policy governs the sites whose
    /// `spec.policyRef` names that policy, even if that policy is withdrawn or deleted. At most one policy may replace another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub replaces: Option<String>,
    /// Period in which the protocol is in force (article 11). Its sites record nothing outside this period.
    pub in_force: InForcePeriod,
    /// Consent of the works council (article 8). Its sites record nothing without consent or before its date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works_council_consent: Option<WorksCouncilConsent>,
    /// Permitted purposes of recordings (article 1), such as `Theft`. 1 to 32 words, each once. An IncidentHold has one
    /// of them.
    #[schemars(schema_with = "schema::purposes")]
    pub purposes: Vec<String>,
    /// Ceilings: maximum ages of recordings (article 6).
    pub retention: RetentionCeilings,
    /// Sites with live viewing (article 4.2) and the embargo at other sites. Defaults to no sites and an embargo of `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_view: Option<LiveView>,
    /// Rules for incident holds.
    pub holds: HoldRules,
    /// People who can read held recordings (article 4.1), in addition to a site's managers. At most 16 entries, each
    /// subject once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub incident_officers: Vec<Officer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyAdoption {
    /// Body that adopted the protocol, such as `College`. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// Date of the decision, such as `2020-05-04`.
    pub date: Date,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::IN_FORCE)))]
pub struct InForcePeriod {
    /// Start: the first day in force (`2020-05-06`), or an RFC 3339 time (`2020-05-06T00:00:00+02:00`).
    pub from: DateOrInstant,
    /// End, exclusive: the first day no longer in force, or an RFC 3339 time. Set it to withdraw the policy (article
    /// 10). Without it, the policy stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateOrInstant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorksCouncilConsent {
    /// Date of the consent, such as `2020-04-21`. Recording starts on this day at the earliest.
    pub date: Date,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::RETENTION)))]
pub struct RetentionCeilings {
    /// Maximum age of video that no hold covers, in whole days, such as `28d`. `5d` to the cluster's ceiling. The operator
    /// rejects a higher value and never clamps it.
    pub video: Days,
    /// Maximum age of recorded calls that no hold covers, in whole days, such as `7d`. `5d` to the cluster's ceiling. The
    /// operator rejects a higher value and never clamps it.
    pub calls: Days,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveView {
    /// Names of the Sites that may have live viewing, at most 256, each once.
    #[schemars(schema_with = "schema::site_names")]
    pub sites: Vec<String>,
    /// Minimum age at which a recording of any other site can be read, even if it is held. A whole number of `s`, `m` or
    /// `h`, such as `1h`.
    pub embargo: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldRules {
    /// Interval at which an open hold is due for review, in whole days, such as `28d`. An overdue review never releases
    /// the hold.
    pub review_interval: Days,
}

/// Person or group that can read held recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Officer {
    /// Job title of the officer, not a name, such as `gemeentesecretaris`. 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub office: String,
    /// Name of the person or group in the cluster, for the record. It grants nothing: bind a role with a `RoleBinding`, and set
    /// `principal` for access to recordings.
    pub subject: Subject,
    /// Identity at the object store, as its policies name it. 1 to 256 characters. Must be one identity: not a
    /// wildcard, an account or its root. Without it, the officer has no access to recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: Option<String>,
    /// age public key (X25519): `age1` and 58 characters. Unused: this version does not encrypt recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 62), extend("x-kubernetes-validations" = cel::to_json(cel::ENCRYPTION_KEY)))]
    pub encryption_key: Option<String>,
}

/// Observed state of a RecordingPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordingPolicyStatus {
    /// `metadata.generation` that the operator last reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `InForce`, `Ready` and `Stalled`. See docs/reference/conditions.md.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Policy that replaces this one (article 10), if it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<ReplacingPolicy>,
    /// Number of Sites that this policy governs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sites: Option<i32>,
    /// Number of Cameras at those Sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cameras: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplacingPolicy {
    /// Name of the RecordingPolicy.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Time from which it governs the sites of this policy (UTC).
    pub from_time: Time,
}

impl RecordingPolicy {
    /// Returns the columns of `kubectl get recordingpolicies`.
    pub(crate) fn columns() -> Vec<CustomResourceColumnDefinition> {
        vec![
            condition_column("Ready", Ready, "status"),
            condition_column("In Force", InForce, "status"),
            column("Replaced By", "string", ".status.replacedBy.name"),
            column("Sites", "integer", ".status.sites"),
            column("Cameras", "integer", ".status.cameras"),
            column("Video", "string", ".spec.retention.video"),
            column("Calls", "string", ".spec.retention.calls"),
            column("Age", "date", ".metadata.creationTimestamp"),
            wide(column("Title", "string", ".spec.title")),
            wide(condition_column("Message", Ready, "message")),
        ]
    }
}
