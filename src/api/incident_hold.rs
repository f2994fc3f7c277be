//! IncidentHold: what these cameras saw between these times is kept until the incident is resolved.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalRef, TimeWindow};

/// What a site's cameras saw between two times is kept until the incident is resolved (article 6).
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "toezicht.dev",
    version = "v1alpha1",
    kind = "IncidentHold",
    plural = "incidentholds",
    shortname = "hold",
    category = "toezicht",
    namespaced,
    derive = "PartialEq",
    status = "IncidentHoldStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct IncidentHoldSpec {
    /// The site where it happened.
    pub site_ref: LocalRef,
    /// Names of the cameras; empty: every source of the site, deleted cameras included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<String>,
    /// Whether recorded calls are held too.
    #[serde(default)]
    pub calls: bool,
    /// When it happened; `until` absent: still going on.
    pub window: TimeWindow,
    /// One of the policy's purposes (article 1).
    pub purpose: String,
    /// The organisation's case number; no personal data.
    pub reference: String,
    /// `Open`, then `Resolved`: one way.
    #[serde(default)]
    pub state: HoldState,
    /// How the incident was resolved; required with `Resolved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// The last review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
}

/// Whether an incident is resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldState {
    /// What the hold covers is kept.
    #[default]
    Open,
    /// The incident is resolved: what it covered goes when its ceiling says so.
    Resolved,
}

/// How an incident was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolution {
    /// When.
    pub on: Time,
    /// By whom.
    pub by: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The recordings were handed over to police or justice (article 4.3).
    HandedOver,
    /// Nothing of the incident was to be seen.
    NothingVisible,
    /// A narrower hold took its place.
    Superseded,
    /// The case was closed.
    Closed,
}

/// A review of an open hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Review {
    /// When.
    pub on: Time,
    /// By whom.
    pub by: String,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentHoldStatus {
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Placed`, `Ready`, `Stalled`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
