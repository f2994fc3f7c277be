//! Observed state of a Site.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Days, Duration, LostRecorder, SuspensionPeriod, schema};

/// Observed state of a Site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// `metadata.generation` that the operator last reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `StorageEnforced`, `AccessRestricted`, `Recording`, `Compliant`, `Intact`,
    /// `AdministratorsExcluded`, `SpoolPersistent`, `Ready` and `Stalled`. See docs/reference/conditions.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Policy that governs the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<GoverningPolicy>,
    /// Last ceilings that were in force at this site (article 6). They still apply after the policy is deleted. After a policy
    /// replaced another, the stricter ones apply until the recordings of the earlier policy are past its ceilings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
    /// Last embargo of a policy of this site (article 4.2). It still applies after the policy is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embargo: Option<Duration>,
    /// Next time at which the protocol requires something at this site. Absent: no such time is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_deadline: Option<Deadline>,
    /// Suspensions that cover cameras of the site now, and the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspensions: Option<SiteSuspensions>,
    /// State of the bucket, as the operator last read it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Latest change of the bucket's configuration by another party, which the operator reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
    /// Holds, verification and sweeps of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// Result of the last audit of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditStatus>,
    /// End of the grace in which cameras that recorded go on although a reference is missing (UTC): a tool may replace an
    /// object by a deletion and a creation. Absent: no reference that recording needs is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_reference_grace_end_time: Option<Time>,
    /// Time when the operator began to drain the recorders of the deleted Site (UTC). Without a hold, what is in their spools ten minutes
    /// later is lost. Absent: the Site is not being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_start_time: Option<Time>,
    /// Time when every spool of the deleted Site was proved empty, or the loss of its content was reported (UTC). Absent: recorders may
    /// have segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_end_time: Option<Time>,
    /// Recorders on nodes that Kubernetes does not reach. While an entry has no `spoolLostTime`, no hold is placed or released on the
    /// word of the other recorders alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub lost_recorders: Vec<LostRecorder>,
    /// Number of cameras at the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cameras: Option<i32>,
    /// Number of cameras that record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub recording_cameras: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deadline {
    /// The time (UTC).
    pub time: Time,
    /// `RecordingExpires`: the oldest recording that no hold covers, by the last audit, reaches its ceiling, and must be deleted before.
    /// `RecordingBegins`, `RecordingEnds`: the protocol permits recording from then on, or no longer. `PolicyReplaced`: another
    /// policy takes over. `SuspensionBegins`, `SuspensionEnds`: cameras are covered from then on, or no longer.
    /// `CeilingsChange`: the ceilings of an earlier policy end.
    pub reason: DeadlineReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DeadlineReason {
    RecordingExpires,
    RecordingEnds,
    RecordingBegins,
    PolicyReplaced,
    SuspensionBegins,
    SuspensionEnds,
    CeilingsChange,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteSuspensions {
    /// Suspensions in effect, the earliest end first, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub current: Vec<SuspensionPeriod>,
    /// Next suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SuspensionPeriod>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoverningPolicy {
    /// Name of the RecordingPolicy that governs the site: that of `policyRef`, or the one that replaced it (article 10).
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `spec.policyRef.name` at that time.
    #[schemars(length(min = 1, max = 253))]
    pub policy_ref: String,
    /// Time when the operator found that this policy governs the site (UTC). Recordings from before it keep the ceilings under which
    /// they were made.
    pub since_time: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// Time when the operator last detected a change (UTC).
    pub last_detection_time: Time,
    /// Changed values and their desired values, newest first: the latest change, and earlier ones, each within a day
    /// of the next.
    #[schemars(length(min = 1, max = 1024))]
    pub message: String,
    /// Number of consecutive changes, each detected within a day of the previous one. It restarts at 1 after a day
    /// without a change.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub count: i64,
}

impl DriftStatus {
    const RECENT_PERIOD: SignedDuration = SignedDuration::from_hours(24);
    /// Below the 1024 characters that the schema allows.
    const MAX_CHARS: usize = 1000;

    /// Returns `previous` with a `change` that was detected `now`. Drops a `previous` that is older than a day, and the
    /// end of a message that is too long.
    pub fn accumulate(change: &str, previous: Option<&Self>, now: Timestamp) -> Self {
        // A status has whole seconds. Without rounding, a message with this time would change when the status is read.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let previous = previous.filter(|previous| previous.is_recent(now));
        // Earlier versions wrote no count. Such a status stands for one change.
        let count = previous.map_or(0, |previous| previous.count.max(1)).saturating_add(1);
        let earlier = previous
            .map(|previous| format!("; before, at {}: {}", previous.last_detection_time.0, previous.message));
        let message = format!("{change}{}", earlier.unwrap_or_default());
        Self {
            last_detection_time: Time(now),
            message: message.chars().take(Self::MAX_CHARS).collect(),
            count,
        }
    }

    /// Returns whether the change was detected within the last day.
    pub fn is_recent(&self, now: Timestamp) -> bool {
        // A time in the future comes from a clock that was ahead. Without `abs` it would stay recent for years.
        now.duration_since(self.last_detection_time.0).abs() < Self::RECENT_PERIOD
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// Number of open holds, from the API and from the bucket's ledger.
    #[schemars(range(min = 0))]
    pub open_holds: i64,
    /// Names of holds that are open in the bucket's ledger but do not exist in this cluster, at most 16. The operator
    /// releases nothing for them. Re-create them with `toezicht holds restore`, then resolve them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub orphaned_holds: Vec<String>,
    /// Time when the operator last read the tag and legal hold of every held version, except those in
    /// `storeRejection` (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verification_time: Option<Time>,
    /// Interval between verifications of all held versions, in seconds. The operator reverts a change by another party
    /// within this time. While `storeRejection` is set, it verifies fifteen times as often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub verification_interval_seconds: Option<i64>,
    /// Errors of the store for held versions in the last verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_rejection: Option<StoreRejectionStatus>,
    /// Time when the operator last deleted all versions past their ceiling and read the result back (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sweep_time: Option<Time>,
    /// Number of versions that the last sweep with any deletions deleted.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub deleted_versions: i64,
    /// Number of versions past their ceiling and not held that the store refused to delete.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub undeletable_versions: i64,
    /// Number of multipart uploads, started over a day ago, that the last sweep found and did not abort. The store
    /// refused, or there were too many for one sweep. If the number stays above 0, see `ToezichtUndeletableVersions` in
    /// docs/reference/alerts.md.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub incomplete_uploads: i64,
    /// Latest change of held versions by another party. The operator reverted it unless the versions are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
    /// Error that stopped the last pass before its end. The operator retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub last_error: Option<String>,
}

/// Requests that the store refused or failed: to read or change a tag or legal hold, or to delete. Also reports sources
/// that the operator did not list. All other versions were processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRejectionStatus {
    /// Number of affected versions. 0: no version is affected, but the operator did not list some sources or could not
    /// close the hold's ledger entry.
    #[schemars(range(min = 0))]
    pub versions: i64,
    /// First error: operation, error code and HTTP status, or the reason that sources were not listed.
    #[schemars(length(min = 1, max = 1024))]
    pub error: String,
    /// `true` if at least one request failed or got no answer instead of being refused. The operator retries within
    /// five minutes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
    /// Time of the error (UTC).
    pub time: Time,
}

impl StoreRejectionStatus {
    /// Returns whether versions are affected. If not, sources were skipped and come next.
    pub const fn has_versions(&self) -> bool {
        self.versions > 0
    }
}

impl fmt::Display for StoreRejectionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, error, retryable, .. } = self;
        let verb = if *retryable { "failed on" } else { "refused" };
        match versions {
            0 => f.write_str(error),
            _ => write!(f, "the store {verb} {versions} of the versions, and the operator retries: {error}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditStatus {
    /// Time of the last audit of all days (UTC). The operator runs one daily.
    pub last_full_audit_time: Time,
    /// Time of the last audit of the days at the ceiling (UTC). The operator runs one hourly.
    pub last_boundary_audit_time: Time,
    /// Number of versions of recordings.
    #[schemars(range(min = 0))]
    pub versions: i64,
    /// Size of all versions of recordings, in bytes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Number of versions that an open hold covers.
    #[schemars(range(min = 0))]
    pub held_versions: i64,
    /// Number of versions whose tag and legal hold the audit read: all held versions and one in `sampleOneIn` others.
    #[schemars(range(min = 0))]
    pub inspected_versions: i64,
    /// Sampling rate: the audit inspected one in this number of versions that no hold covers.
    #[schemars(range(min = 1))]
    pub sample_one_in: i64,
    /// Start of the oldest video that no hold covers (UTC), as of `lastBoundaryAuditTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unheld_video_time: Option<Time>,
    /// Start of the oldest recorded call that no hold covers (UTC), as of `lastBoundaryAuditTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unheld_calls_time: Option<Time>,
    /// Delay of the store's lifecycle rules, in seconds, compared with the S3 documentation.
    #[schemars(range(min = 0))]
    pub lifecycle_lag_seconds: i64,
    /// Findings by type, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub findings: Vec<AuditFinding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditFinding {
    /// `Overdue`, `ReleaseOverdue`, `HeldUnprotected`, `HeldMistagged`, `HeldHidden`, `UnexplainedHold`, `Mistagged`,
    /// `UnexpectedObject`, `UnparsableKey`, `UnvisitedSource`, `UnvisitedDay`, `CrowdedKey`, `UnlistedKey`,
    /// `UnreadProtection`, `ImplausibleKey`, `UnexplainedVersion`, `LateUpload` or `OrphanedHold`. See
    /// docs/how-to/audit-a-bucket.md.
    #[schemars(length(min = 1, max = 64))]
    #[serde(rename = "type")]
    pub type_: String,
    /// Number of findings of this type.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// `true` if the finding is a confirmed or possible violation of retention, holds or access.
    pub violation: bool,
    /// First examples, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 1024)))]
    pub examples: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ceilings {
    /// Ceiling of video, in whole days.
    pub video: Days,
    /// Ceiling of recorded calls, in whole days.
    pub calls: Days,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Time of the last read (UTC). Updated at most every five minutes.
    pub last_read_time: Time,
    /// `true` if Object Lock is on, without a default retention.
    pub object_lock: bool,
    /// `true` if versioning is on.
    pub versioning: bool,
    /// Days after which the store's lifecycle rules hide a video. The rules delete the bytes within three days after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub video_expiration_days: Option<i32>,
    /// Days after which the store's lifecycle rules hide a recorded call. They delete the bytes within three more
    /// days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub calls_expiration_days: Option<i32>,
    /// Time of the last conformance probe (UTC). The leader probes daily, when the credentials or the bucket policy
    /// change, and hourly while a result in `conformance` is `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// Hash of what the last probe used: endpoint, region, bucket, certificate authority, and access key IDs or roles, without secret
    /// keys. Absent if that probe failed or a change calls for another one: a new leader then probes at once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub probed_access_hash: String,
    /// Results of the conformance probe, which tries each guarantee on canaries and judges it by its effect. At most
    /// 64. See docs/reference/stores.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub conformance: Vec<ConformanceRow>,
    /// Bucket settings that the store does not support, weakens or does not show, each with its consequence. At most
    /// 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub limitations: Vec<String>,
    /// Principals of managers, officers or the auditor that do not exist at the store, at most 33. The bucket policy
    /// omits them, so they have no access.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 33), inner(length(min = 1, max = 256)))]
    pub unknown_principals: Vec<String>,
    /// Hash of the desired bucket configuration at the last read. If the bucket differs while this hash is unchanged,
    /// another party changed the bucket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub bucket_spec_hash: String,
}

/// Guarantee that a store must give, and the result of trying it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConformanceRow {
    /// Guarantee, such as `HeldSurvivesDelete` or `RecorderCannotGet`.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Credentials that the probe used: those of the `Operator` or the `Recorder`, or none (`Anonymous`).
    pub identity: ConformanceIdentity,
    /// `Passed`, `Failed`, or `Unknown` if the probe could not determine it.
    pub result: ConformanceResult,
    /// Consequence of a failure. `Fatal`: the operator rejects the bucket unless the Site has an exception.
    /// `Warning`: recording continues, and `message` describes the consequence.
    pub severity: ConformanceSeverity,
    /// Consequence of the failure, or the reason that the result is unknown. Absent if the result is `Passed`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum ConformanceIdentity {
    Operator,
    Recorder,
    Anonymous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum ConformanceResult {
    Passed,
    Failed,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum ConformanceSeverity {
    Fatal,
    Warning,
}
