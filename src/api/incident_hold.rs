//! IncidentHold: keeps the recordings of an incident until it is resolved.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{column, condition_column, described, wide};
use super::condition::ConditionType::{Placed, Ready, RecordingsFound, Released};
use super::{LocalRef, StoreRejectionStatus, TimeWindow, cel, schema};

/// Desired state of an IncidentHold.
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
    doc = "Keeps the recordings of an incident until it is resolved (article 6). Once it is in effect, a hold only \
           grows: to narrow it, create a narrow hold and resolve the broad one as Superseded. Before that, every \
           field can be corrected, and the hold can be deleted.",
    selectable = ".spec.siteRef.name",
    selectable = ".spec.state"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::INCIDENT_HOLD_SPEC)))]
pub struct IncidentHoldSpec {
    /// Site of the incident. Immutable once the hold is accepted.
    pub site_ref: LocalRef,
    /// Names of the Cameras whose recordings are kept, at most 256, each once. Defaults to every camera of the site,
    /// including deleted ones. Once the hold is in effect, names can be added, and names in `status.unknownCameras`
    /// can be removed. An empty list stays empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::camera_names")]
    pub cameras: Vec<String>,
    /// Keeps recorded calls too. Once the hold is in effect, it can change from `false` to `true` only.
    #[serde(default)]
    pub include_calls: bool,
    /// Period of the incident. Once the hold is in effect, `from` is immutable, and `until` can only be set or moved to a
    /// later time.
    pub window: TimeWindow,
    /// Purpose of the recordings, such as `Theft`: one of the policy's `purposes` (article 1).
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = cel::to_json(cel::PURPOSE)))]
    pub purpose: String,
    /// Case number of the organisation, such as `2026-0412`. 1 to 63 letters, digits, `.`, `_`, `/` and `-`, without
    /// personal data. Immutable once the hold is in effect.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = cel::to_json(cel::REFERENCE)))]
    pub reference: String,
    /// `Open`: the operator keeps the recordings. `Resolved`: their ceiling applies again (article 6). `Resolved` is
    /// final, and a resolved hold is immutable, unless `resolution.time` is in the future: a hold in effect is open until that
    /// time and can be corrected.
    #[serde(default)]
    pub state: HoldState,
    /// Resolution of the incident. Required with `state: Resolved`, rejected with `Open`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Last review of an open hold. The policy's `holds.reviewInterval` sets how often one is due. An overdue review
    /// raises an alert and never releases the hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldState {
    #[default]
    Open,
    Resolved,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolution {
    /// Time of the resolution: RFC 3339 with its offset, not before `window.from`. While it is in the future, the hold
    /// stays open and can be corrected.
    #[schemars(schema_with = "schema::instant")]
    pub time: Time,
    /// Job title of the person who resolved the incident, not a name, such as `Gemeentesecretaris`. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// `HandedOver`: recordings were handed over to police or the judiciary (article 4.3). `NothingVisible`: no
    /// recording shows the incident. `Superseded`: a narrower hold replaces this one. `Closed`: the case was closed.
    pub outcome: ResolutionOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResolutionOutcome {
    HandedOver,
    NothingVisible,
    Superseded,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Review {
    /// Time of the review: RFC 3339 with its offset, not before the previous review.
    #[schemars(schema_with = "schema::instant")]
    pub time: Time,
    /// Job title of the person who reviewed the hold, not a name, such as `Gemeentesecretaris`. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
}

/// Observed state of an IncidentHold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentHoldStatus {
    /// `metadata.generation` that the operator last reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Placed` and `RecordingsFound` of an open hold, `Released` of a resolved hold, `ReviewDue`, `Ready`
    /// and `Stalled`. See docs/reference/conditions.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Actual state of the hold. `Rejected`: it keeps nothing; see `Accepted`. `Scheduled`: its window starts in the
    /// future, and it keeps nothing yet. `Open`: it is accepted and not resolved. It keeps recordings once `placement` exists,
    /// and all of them once `Placed` is `True`. `Releasing`: its incident is resolved, and it may still keep recordings.
    /// `Released`: it keeps nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HoldPhase>,
    /// Names in `spec.cameras` for which the Site has no Camera and the bucket has no segment in the window. At most
    /// 64. They can be removed from `spec.cameras`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub unknown_cameras: Vec<String>,
    /// Recordings that the bucket keeps for this hold, as last read back. Absent until the hold is in
    /// effect: until the ledger has it. While it is absent, every field can be corrected, and the hold can be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Time when the operator read the ledger and found no entry of a hold that was resolved before it was in
    /// effect (UTC). Nothing was ever kept for this hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_held_time: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldPhase {
    Rejected,
    Scheduled,
    Open,
    Releasing,
    Released,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// `metadata.generation` of the hold that this placement describes.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,
    /// Time when the operator recorded the hold in the bucket's ledger, before it placed anything (UTC). From this time
    /// on, the hold only grows.
    pub acceptance_time: Time,
    /// Hash of the cameras, calls and window that this placement describes. If the hold's scope has another hash, the
    /// hold has grown since.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub scope_hash: String,
    /// `true` once every recorder of the site has acknowledged the hold with this scope. It stays `true` if a recorder
    /// stops responding later.
    #[serde(default)]
    pub acknowledged: bool,
    /// `true` if a pass, started after every recorder had acknowledged the hold, read back the legal hold and tag of
    /// every covered version. The next pass verifies segments that recorders sealed later.
    pub verified: bool,
    /// Time of the last pass that read every covered version without a refusal by the store (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verification_time: Option<Time>,
    /// Number of segments that the hold keeps, or kept until its release.
    #[schemars(range(min = 0))]
    pub segments: i64,
    /// Size of these segments for people, such as `1.4 GiB`.
    #[schemars(length(min = 1, max = 16))]
    pub size: String,
    /// Time up to which the coverage of the window is known (UTC). Later recordings may not be uploaded yet. `coverage`
    /// and `sources` describe the window up to this time. Absent while nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage_until_time: Option<Time>,
    /// Share of the window with recordings, over all its sources, such as `98%`. `sources` lists the gaps. Absent if it
    /// is unknown or nothing had to be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub coverage: Option<String>,
    /// Number of those `segments` that nobody can read yet (article 4.2). They have the tag `sealed`.
    #[schemars(range(min = 0))]
    pub sealed_segments: i64,
    /// Covered segments that the store refused or failed to protect in the last full pass. Their protection is unknown.
    /// For a resolved hold: segments that the store refused or failed to release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_rejection: Option<StoreRejectionStatus>,
    /// Coverage by source, at most 64: sources without any segment first, then those with the most missing time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sources: Vec<SourceCoverage>,
    /// Reason that the release of a resolved hold has not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_wait: Option<ReleaseWait>,
    /// Time from which the bucket keeps nothing for a resolved hold, as read back (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_time: Option<Time>,
    /// Error that stopped the last pass before its end. The operator retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub last_error: Option<String>,
}

/// Reason that a release has not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseWait {
    /// A request that protects the recordings can still take effect, for at most 16 minutes.
    EarlierRequests,
    /// A recorder may still upload segments with the hold's tag. A recorder that does not answer delays the release by at
    /// most 24 hours.
    Recorders,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceCoverage {
    /// Name of the camera or telephone.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Number of its segments that the hold covers.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub segments: i64,
    /// Seconds with recordings, in the window up to `coverageUntilTime`.
    #[schemars(range(min = 0))]
    pub recorded_seconds: i64,
    /// Seconds without recordings, in the window up to `coverageUntilTime`.
    #[schemars(range(min = 0))]
    pub missing_seconds: i64,
    /// First periods without recordings, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub gaps: Vec<CoverageGap>,
}

/// Period of a hold's window without recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoverageGap {
    /// Start (UTC).
    pub from: Time,
    /// End, exclusive (UTC).
    pub until: Time,
    /// Cause that the recorder reported: `Disconnected`, `Suspended`, `NotPermitted`, `SiteNotReady`, `SpoolFull`, `RecorderRestarted`,
    /// `SpoolLost` or `ClockNotSynchronized`. `ExpiredBeforeHold`: lifecycle rules may have deleted the recordings before the hold took
    /// effect.
    /// `Unexplained`: no recorder reported a cause.
    #[schemars(length(min = 1, max = 32))]
    pub reason: String,
}

impl IncidentHold {
    /// Returns the columns of `kubectl get incidentholds`.
    pub(crate) fn columns() -> Vec<CustomResourceColumnDefinition> {
        vec![
            column("Reference", "string", ".spec.reference"),
            described(
                column("State", "string", ".status.state"),
                "Open: accepted; see Placed. Rejected, Scheduled: it keeps nothing. Releasing, Released: its incident is resolved",
            ),
            described(
                condition_column("Placed", Placed, "status"),
                "Whether every covered version has its legal hold. Empty once the incident is resolved",
            ),
            described(
                condition_column("Found", RecordingsFound, "status"),
                "Whether the bucket has covered recordings. Empty once the incident is resolved",
            ),
            described(
                condition_column("Released", Released, "status"),
                "Whether the hold keeps nothing any more. Empty until the incident is resolved",
            ),
            wide(condition_column("Reason", Ready, "reason")),
            column("Site", "string", ".spec.siteRef.name"),
            column("From", "string", ".spec.window.from"),
            column("Until", "string", ".spec.window.until"),
            described(
                column("Segments", "integer", ".status.placement.segments"),
                "Number of segments that the hold keeps, or kept until its release",
            ),
            described(column("Size", "string", ".status.placement.size"), "Size of these segments"),
            described(
                column("Coverage", "string", ".status.placement.coverage"),
                "Share of the window with recordings. Empty until it is known",
            ),
            column("Age", "date", ".metadata.creationTimestamp"),
            wide(column("Purpose", "string", ".spec.purpose")),
            wide(condition_column("Message", Ready, "message")),
        ]
    }
}
