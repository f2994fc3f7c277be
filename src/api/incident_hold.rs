//! IncidentHold: what these cameras saw between these times is kept until the incident is resolved.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalRef, StoreRejectionStatus, TimeWindow, cel, schema};

/// What a site's cameras saw between two times is kept until the incident is resolved (article 6).
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "toezicht.dev",
    version = "v1alpha1",
    kind = "IncidentHold",
    plural = "incidentholds",
    shortname = "hold",
    shortname = "holds",
    category = "toezicht",
    namespaced,
    derive = "PartialEq",
    status = "IncidentHoldStatus",
    doc = "What a site's cameras saw between two times is kept until the incident is resolved (article 6). Once it counts, a \
           hold only grows: to narrow it, place a narrow hold and resolve the broad one as Superseded. Before that, every \
           field may be corrected, and the hold may be deleted.",
    selectable = ".spec.siteRef.name",
    selectable = ".spec.state",
    printcolumn(name = "Reference", type_ = "string", json_path = ".spec.reference"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "Open: it keeps recordings. Rejected, Scheduled: it keeps nothing. Releasing, Released: its incident is resolved"
    ),
    printcolumn(
        name = "Placed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Placed\")].status",
        description = "Whether all that it covers was found with its legal hold; empty once it is resolved"
    ),
    printcolumn(
        name = "Found",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"RecordingsFound\")].status",
        description = "Whether there are recordings of what it names; empty once it is resolved"
    ),
    printcolumn(
        name = "Released",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Released\")].status",
        description = "Whether nothing is kept for it any more; empty until it is resolved"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Site", type_ = "string", json_path = ".spec.siteRef.name"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.window.from"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.window.until"),
    printcolumn(
        name = "Segments",
        type_ = "integer",
        json_path = ".status.placement.segments",
        description = "How many segments it keeps; of a released hold: how many it kept"
    ),
    printcolumn(
        name = "Size",
        type_ = "string",
        json_path = ".status.placement.size",
        description = "Size of these segments"
    ),
    printcolumn(
        name = "Coverage",
        type_ = "string",
        json_path = ".status.placement.coverage",
        description = "How much of its window there are recordings of; empty until that is known"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::INCIDENT_HOLD_SPEC)))]
pub struct IncidentHoldSpec {
    /// The Site where it happened. Fixed once the hold counts (`status.placement`).
    pub site_ref: LocalRef,
    /// Names of the Cameras whose recordings are kept, at most 256, each once; empty: every source of the site,
    /// deleted cameras included. Names may be added, and those in `status.unknownCameras` removed; an empty list stays
    /// empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::camera_names")]
    pub cameras: Vec<String>,
    /// Whether recorded calls are kept too. May go from false to true.
    #[serde(default)]
    pub include_calls: bool,
    /// When it happened. `from` is fixed; `until`, once set, may only be moved to a later time.
    pub window: TimeWindow,
    /// What the recordings are wanted for: one of the policy's purposes (article 1).
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = cel::to_json(cel::PURPOSE)))]
    pub purpose: String,
    /// The organisation's case number, such as `2026-0412`: letters, digits, `.`, `_`, `/` and `-`. No personal
    /// data. Fixed.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = cel::to_json(cel::REFERENCE)))]
    pub reference: String,
    /// `Open`: what the hold covers is kept. `Resolved`: it goes when its ceiling says so (article 6). One way, and a
    /// resolved hold cannot be changed, unless its `resolution.time` lies in the future: until then it is open.
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
    /// When: an instant with its offset (RFC 3339), not before the incident began. While it lies in the future, the hold is
    /// as if it were open, and may be corrected.
    #[schemars(schema_with = "schema::instant")]
    pub time: Time,
    /// By whom: an office, such as `Gemeentesecretaris`.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// What came of it. `HandedOver`: to police or justice (article 4.3). `NothingVisible`: nothing of the incident
    /// was to be seen. `Superseded`: a narrower hold took its place. `Closed`: the case was closed.
    pub outcome: ResolutionOutcome,
}

/// What came of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResolutionOutcome {
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
    pub time: Time,
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
    /// `Accepted`, `Placed` and `RecordingsFound` of an open hold, `Released` of a resolved one, `ReviewDue`, `Ready`, `Stalled`;
    /// docs/reference/conditions.md explains them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Where the hold stands, whatever `spec.state` asks for. Absent: the operator has not looked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HoldPhase>,
    /// Names in `spec.cameras`, at most 64, that the Site has no Camera of and that no segment was found of in the window.
    /// These may be removed from `spec.cameras`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub unknown_cameras: Vec<String>,
    /// What is kept in the bucket for this hold, as it was last read back. Absent: the hold does not count yet, so every
    /// field of it may be corrected, and it may be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// When the bucket's ledger was read and had nothing of a hold that was resolved before it counted (UTC): nothing was ever
    /// kept for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_held_time: Option<Time>,
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldPhase {
    /// It is not accepted, and nothing is kept for it: `Accepted` says why.
    Rejected,
    /// Its window begins in the future, and nothing is kept for it until then.
    Scheduled,
    /// What it covers is kept.
    Open,
    /// Its incident is resolved, and something may still be kept for it.
    Releasing,
    /// Its incident is resolved, and nothing is kept for it any more.
    Released,
}

/// What is kept in the bucket for a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Which `metadata.generation` of the hold the rest speaks of.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,
    /// Since when the hold counts (UTC): the instant at which the bucket's ledger took it, before anything was placed.
    /// From then on it only grows.
    pub acceptance_time: Time,
    /// The scope of the hold (cameras, calls and window) that this speaks of, as a hash. Another one: the hold has grown since.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub scope_hash: String,
    /// Whether every recorder of the site has acknowledged the hold with this scope. A recorder's later silence takes nothing
    /// back.
    #[serde(default)]
    pub acknowledged: bool,
    /// Whether a pass over the bucket, made after every recorder had acknowledged the hold, found or read back everything
    /// that it covers with its legal hold and tag. Segments that were sealed since are those of the next pass.
    pub verified: bool,
    /// When the last pass ended (UTC) that read all that the hold covers and was refused none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verification_time: Option<Time>,
    /// How many segments the hold keeps; of a released hold: how many it kept.
    #[schemars(range(min = 0))]
    pub segments: i64,
    /// Size of these segments, as people read it, such as `1.4 GiB`.
    #[schemars(length(min = 1, max = 16))]
    pub size: String,
    /// Up to which instant of the window (UTC) it is known what was recorded: recordings of later instants may still be on
    /// their way. `coverage` and `sources` speak of the window up to then. Absent: nothing is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage_until_time: Option<Time>,
    /// How much of the window there are recordings of, over all its sources, such as `98%`; the rest is in `sources`.
    /// Absent: it is not known yet, or nothing was to be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub coverage: Option<String>,
    /// How many of the segments nobody may read yet (article 4.2): they have the tag `sealed`.
    #[schemars(range(min = 0))]
    pub sealed_segments: i64,
    /// Segments that the hold covers and to which the store refused a mark, or failed at it, when all were last read: whether
    /// these are kept is not known. Of a resolved hold: those of its segments that the store refused or failed to release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_rejection: Option<StoreRejectionStatus>,
    /// Recordings of each source, at most 64 sources: first those without any segment, then those that miss most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sources: Vec<SourceCoverage>,
    /// Since when nothing is kept for a resolved hold (UTC), as read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_time: Option<Time>,
    /// Why the last pass was incomplete; the operator makes it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub last_error: Option<String>,
}

/// How much of a hold's window there are recordings of, from one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceCoverage {
    /// The camera or telephone.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// How many segments of it the hold covers.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub segments: i64,
    /// Seconds of the window, up to `coverageUntilTime`, of which there are recordings.
    #[schemars(range(min = 0))]
    pub recorded_seconds: i64,
    /// Seconds of the window, up to `coverageUntilTime`, of which there are none.
    #[schemars(range(min = 0))]
    pub missing_seconds: i64,
    /// The first stretches without recordings, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub gaps: Vec<CoverageGap>,
}

/// A stretch of a hold's window without recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoverageGap {
    /// When it begins (UTC).
    pub from: Time,
    /// When it ends (UTC).
    pub until: Time,
    /// Why: `ExpiredBeforeHold`: what was recorded then was over its time before the hold was declared. Or what the recorder
    /// said: `Disconnected`, `Suspended`, `NotPermitted`, `SpoolFull`, `RecorderRestarted`, `ClockNotSynchronized`. Or `Unexplained`.
    #[schemars(length(min = 1, max = 32))]
    pub reason: String,
}
