//! IncidentHold: what these cameras saw between these times is kept until the incident is resolved.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalRef, TimeWindow, rules, schema};

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
    status = "IncidentHoldStatus",
    doc = "What a site's cameras saw between two times is kept until the incident is resolved (article 6). A hold \
           only grows while it is open: to narrow it, place a narrow hold and resolve the broad one as Superseded.",
    selectable = ".spec.siteRef.name",
    selectable = ".spec.state",
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(
        name = "Placed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Placed\")].status"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Placed\")].reason"
    ),
    printcolumn(name = "Site", type_ = "string", json_path = ".spec.siteRef.name"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.window.from"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.window.until"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose", priority = 1),
    printcolumn(
        name = "Reference",
        type_ = "string",
        json_path = ".spec.reference",
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
#[schemars(extend("x-kubernetes-validations" = rules::json(rules::INCIDENT_HOLD_SPEC)))]
pub struct IncidentHoldSpec {
    /// The Site where it happened. Fixed.
    pub site_ref: LocalRef,
    /// Names of the Cameras whose recordings are kept, at most 256, each once; empty: every source of the site,
    /// deleted cameras included. Names may be added; an empty list stays empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::camera_names")]
    pub cameras: Vec<String>,
    /// Whether recorded calls are kept too. May go from false to true.
    #[serde(default)]
    pub calls: bool,
    /// When it happened. `from` is fixed; `until`, once set, may only be moved to a later time.
    pub window: TimeWindow,
    /// What the recordings are wanted for: one of the policy's purposes (article 1).
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = rules::json(rules::PURPOSE)))]
    pub purpose: String,
    /// The organisation's case number, such as `2026-0412`: letters, digits, `.`, `_`, `/` and `-`. No personal
    /// data. Fixed.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = rules::json(rules::REFERENCE)))]
    pub reference: String,
    /// `Open`: what the hold covers is kept. `Resolved`: it goes when its ceiling says so (article 6). One way;
    /// a resolved hold cannot be changed.
    #[serde(default)]
    pub state: HoldState,
    /// How the incident was resolved; goes with `Resolved`, and only with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// The last review of an open hold; the policy says how often one is due. Overdue alarms, never releases.
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
    /// When: an instant with its offset (RFC 3339), not before the incident began.
    #[schemars(schema_with = "schema::instant")]
    pub at: Time,
    /// By whom: an office, such as `Gemeentesecretaris`.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// What came of it. `HandedOver`: to police or justice (article 4.3). `NothingVisible`: nothing of the incident
    /// was to be seen. `Superseded`: a narrower hold took its place. `Closed`: the case was closed.
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
    /// When: an instant with its offset (RFC 3339), not before the review before it.
    #[schemars(schema_with = "schema::instant")]
    pub at: Time,
    /// By whom: an office, such as `Gemeentesecretaris`.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentHoldStatus {
    /// Which `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Placed`, `Ready`, `Stalled`; docs/conditions.md explains them.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
