//! RecordingPolicy: the protocol as adopted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Date, DateOrInstant, Days, Duration, Subject};

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
    status = "RecordingPolicyStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct RecordingPolicySpec {
    /// The protocol's title.
    pub title: String,
    /// IANA time zone; a bare date is a day of this zone.
    pub time_zone: String,
    /// Who adopted the protocol, and when.
    pub adopted: Adopted,
    /// Name of the policy that this one replaces (article 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// When the protocol is in force (article 11).
    pub in_force: InForce,
    /// The works council's consent (article 8); without it nothing records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works_council_consent: Option<Consent>,
    /// What recordings may be used for (article 1).
    pub purposes: Vec<String>,
    /// Ceilings of retention (article 6).
    pub retention: Retention,
    /// Where live viewing is allowed (article 4.2); absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_view: Option<LiveView>,
    /// How holds are looked after.
    pub holds: HoldRules,
    /// Who gets access at an incident (article 4.1), beside a site's managers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incident_officers: Vec<Officer>,
}

/// Who adopted a protocol, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adopted {
    /// The body that adopted it.
    pub by: String,
    /// The day of the decision.
    pub on: Date,
}

/// When a protocol is in force: from `from` until, but not including, `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InForce {
    /// The first day, or the instant it enters into force.
    pub from: DateOrInstant,
    /// The first day, or the instant, at which it is no longer in force; absent: not withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateOrInstant>,
}

/// The works council's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Consent {
    /// The day it consented.
    pub on: Date,
}

/// Ceilings of retention, in whole days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retention {
    /// Nothing seen by a camera lives longer, unless an incident holds it.
    pub video: Days,
    /// No recorded call lives longer, unless an incident holds it.
    pub calls: Days,
}

/// Where live viewing is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveView {
    /// Names of the sites.
    pub sites: Vec<String>,
    /// At other sites nothing younger than this can be read, even when held.
    pub embargo: Duration,
}

/// How holds are looked after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldRules {
    /// An open hold is put up for review this often.
    pub review_every: Days,
}

/// Somebody who gets access at an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Officer {
    /// The office held.
    pub role: String,
    /// Who that is in the cluster.
    pub subject: Subject,
    /// Who that is to the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Public key (age, X25519) to encrypt for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordingPolicyStatus {
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `InForce`, `Ready`, `Stalled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// How many sites are under this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<i32>,
    /// How many cameras hang on those sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cameras: Option<i32>,
}
