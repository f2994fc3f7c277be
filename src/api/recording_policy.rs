//! RecordingPolicy: the protocol as adopted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Date, DateOrInstant, Days, Duration, Subject, cel, schema};

/// The protocol as the organisation adopted it: what may be recorded, for what, for how long, and who may
/// look.
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
    doc = "The protocol as the organisation adopted it: what may be recorded, for what, for how long, and who may \
           look. Sites name it in spec.policyRef; where none is in force, nothing records.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "In Force",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InForce\")].status"
    ),
    printcolumn(name = "Sites", type_ = "integer", json_path = ".status.sites"),
    printcolumn(name = "Cameras", type_ = "integer", json_path = ".status.cameras"),
    printcolumn(name = "Video", type_ = "string", json_path = ".spec.retention.video"),
    printcolumn(name = "Calls", type_ = "string", json_path = ".spec.retention.calls"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Title", type_ = "string", json_path = ".spec.title", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::RECORDING_POLICY_SPEC)))]
pub struct RecordingPolicySpec {
    /// The protocol's title: 1 to 256 characters.
    #[schemars(length(min = 1, max = 256))]
    pub title: String,
    /// IANA time zone, such as `Europe/Amsterdam`. A bare date, here or on a Site, is a day of this zone.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-validations" = cel::to_json(cel::TIME_ZONE)))]
    pub time_zone: String,
    /// Who adopted the protocol, and when.
    pub adoption: PolicyAdoption,
    /// Name of the policy that this one replaces (article 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub replaces: Option<String>,
    /// When the protocol is in force (article 11). Outside it nothing records.
    pub in_force: InForcePeriod,
    /// The works council's consent (article 8). Without it, or before its day, nothing records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works_council_consent: Option<WorksCouncilConsent>,
    /// What recordings may be used for (article 1), such as `Theft`: 1 to 32 words, each once. An IncidentHold
    /// names one of them.
    #[schemars(schema_with = "schema::purposes")]
    pub purposes: Vec<String>,
    /// Ceilings of retention (article 6).
    pub retention: RetentionCeilings,
    /// Where live viewing is allowed (article 4.2); absent: nowhere, with an embargo of `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_view: Option<LiveView>,
    /// How holds are looked after.
    pub holds: HoldRules,
    /// Who gets access at an incident (article 4.1), beside a site's managers: at most 16, each subject once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub incident_officers: Vec<Officer>,
}

/// Who adopted a protocol, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyAdoption {
    /// The body that adopted it: 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// The day of the decision, such as `2020-05-04`.
    pub date: Date,
}

/// When a protocol is in force: from `from` until, but not including, `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::IN_FORCE)))]
pub struct InForcePeriod {
    /// The first day (`2020-05-06`), or the instant (`2020-05-06T00:00:00+02:00`), at which it is in force.
    pub from: DateOrInstant,
    /// The first day, or the instant, at which it is no longer in force: set when it is withdrawn (article 10).
    /// Absent: not withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateOrInstant>,
}

/// The works council's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorksCouncilConsent {
    /// The day it consented, such as `2020-04-21`. It counts from that day on.
    pub date: Date,
}

/// Ceilings of retention, in whole days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::RETENTION)))]
pub struct RetentionCeilings {
    /// Nothing seen by a camera lives longer, unless an incident holds it: whole days, at least `5d`. Above the
    /// cluster's own ceiling it is refused, never clamped.
    pub video: Days,
    /// No recorded call lives longer, unless an incident holds it: whole days, at least `5d`. Above the cluster's
    /// own ceiling it is refused, never clamped.
    pub calls: Days,
}

/// Where live viewing is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveView {
    /// Names of the Sites that may have it, at most 256, each once.
    #[schemars(schema_with = "schema::site_names")]
    pub sites: Vec<String>,
    /// At other sites nothing younger than this can be read, even when held: a whole number of `s`, `m` or `h`,
    /// such as `1h`.
    pub embargo: Duration,
}

/// How holds are looked after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldRules {
    /// An open hold is put up for review this often, in whole days, such as `28d`. It is never released by that.
    pub review_interval: Days,
}

/// Somebody who gets access at an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Officer {
    /// The office held, such as `gemeentesecretaris`: 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub office: String,
    /// Who that is in the cluster.
    pub subject: Subject,
    /// Who that is to the object store, as its policies name one identity; never a wildcard or an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: Option<String>,
    /// Public key to encrypt for (age, X25519), `age1` and 58 characters. Not used in this version, which does not
    /// encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 62), extend("x-kubernetes-validations" = cel::to_json(cel::ENCRYPTION_KEY)))]
    pub encryption_key: Option<String>,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordingPolicyStatus {
    /// Which `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `InForce`, `Ready`, `Stalled`; docs/reference/conditions.md explains them.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How many sites are under this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sites: Option<i32>,
    /// How many cameras hang on those sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cameras: Option<i32>,
}
