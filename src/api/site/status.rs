//! What the operator found of a site.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Days, schema};

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Which `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Permitted`, `StorageEnforced`, `AccessRestricted`, `Recording`, `Compliant`, `Intact`,
    /// `AdministratorsExcluded`, `Ready`, `Stalled`; docs/reference/conditions.md explains them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The last ceilings that were in force here (article 6): they outlive the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
    /// What was read back from the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// What somebody else last changed in the bucket's configuration, and was put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
    /// What is kept and what was deleted in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// What the last audit found in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditStatus>,
    /// How many cameras the site has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cameras: Option<i32>,
    /// How many of them record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub recording_cameras: Option<i32>,
}

/// What somebody else changed, and was put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// When the last of it was found (UTC).
    pub last_detection_time: Time,
    /// What it had become, and what it was made again; the last first, and what was found in the day before it.
    #[schemars(length(min = 1, max = 1024))]
    pub message: String,
    /// How often something was put back, each time within a day of the previous.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub count: i64,
}

impl DriftStatus {
    /// Something is told for this long.
    const RECENT_PERIOD: SignedDuration = SignedDuration::from_hours(24);
    /// What there is room for.
    const MAX_CHARS: usize = 1000;

    /// `what` was found `now`; what was told `before`, of the last day, follows it as far as there is room.
    pub fn accumulate(change: &str, previous: Option<&Self>, now: Timestamp) -> Self {
        let before = previous.filter(|before| before.is_recent(now));
        // One that an earlier version wrote had happened once.
        let times = 1 + before.map_or(0, |before| before.count.max(1));
        let before =
            before.map(|before| format!("; before, at {}: {}", before.last_detection_time.0, before.message));
        let what = format!("{change}{}", before.unwrap_or_default());
        Self {
            last_detection_time: Time(now),
            message: what.chars().take(Self::MAX_CHARS).collect(),
            count: times,
        }
    }

    /// Whether it is of the last day.
    pub fn is_recent(&self, now: Timestamp) -> bool {
        // One that lies ahead was told by a clock that was wrong.
        now.duration_since(self.last_detection_time.0).abs() < Self::RECENT_PERIOD
    }
}

/// What is kept and what was deleted in the bucket, by the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// How many holds are open here, by the API and by the bucket's ledger.
    #[schemars(range(min = 0))]
    pub open_holds: i64,
    /// Names of holds that the bucket's ledger has open and this cluster does not know, at most 16: nothing is released
    /// for them. Make the resources anew (`toezicht holds restore`), and resolve them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub orphaned_holds: Vec<String>,
    /// When tag and legal hold of every held version were last read, but for what was `refused` (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verification_time: Option<Time>,
    /// What changes them from outside is put back within this many seconds: how often all are read. Fifteen times as often
    /// while anything is `refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub verification_interval_seconds: Option<i64>,
    /// What the store refused, or failed at, of held versions when all were last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_rejection: Option<StoreRejectionStatus>,
    /// When what is over its ceiling was last deleted, and that read back (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sweep_time: Option<Time>,
    /// How many versions went in the last sweep that found any.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub deleted_versions: i64,
    /// How many versions are over their ceiling, covered by no open hold, and not given up by the store.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub undeletable_versions: i64,
    /// How many uploads in parts, begun over a day ago, are left, of those that the last sweep saw: the store did not abort
    /// them for the operator, or there are more than one sweep aborts. If that lasts, abort them as its administrator.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub incomplete_uploads: i64,
    /// What somebody else last changed of held versions, and was put back, unless they are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
    /// What kept the last pass from doing all; it is made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub last_error: Option<String>,
}

/// What a store refused, or failed at: a mark of a version, or to tell it, or to delete; or what was not looked at. All others
/// were done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRejectionStatus {
    /// Of how many versions; 0: of none, and sources were not looked at, or the hold's entry in the ledger was not ended.
    #[schemars(range(min = 0))]
    pub versions: i64,
    /// Its answer, at the first of them: operation, error code and HTTP status. Or why sources were not looked at.
    #[schemars(length(min = 1, max = 1024))]
    pub error: String,
    /// The store did not say no, but failed or gave no answer, at one of them at least: it is tried again within five minutes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
    /// When (UTC).
    pub time: Time,
}

impl StoreRejectionStatus {
    /// Whether it is about versions. Where it is not, something was not looked at, and has its turn.
    pub const fn has_versions(&self) -> bool {
        self.versions > 0
    }
}

impl fmt::Display for StoreRejectionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, error: answer, retryable: failed, .. } = self;
        let verb = if *failed { "failed at" } else { "refused" };
        match versions {
            0 => f.write_str(answer),
            _ => write!(f, "the store {verb} {versions} more, which are tried again: {answer}"),
        }
    }
}

/// What an audit found in the bucket, apart from what the operator believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditStatus {
    /// When everything was last listed (UTC): daily.
    pub last_full_audit_time: Time,
    /// When the days at the ceiling were last listed (UTC): hourly.
    pub last_boundary_audit_time: Time,
    /// Versions of recordings.
    #[schemars(range(min = 0))]
    pub versions: i64,
    /// Their bytes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Versions that an open hold covers.
    #[schemars(range(min = 0))]
    pub held_versions: i64,
    /// Versions whose tag and legal hold were read: of all that are held, and of one in `sampleOneIn` of the rest.
    #[schemars(range(min = 0))]
    pub inspected_versions: i64,
    /// Of how many versions that no hold covers one was inspected.
    #[schemars(range(min = 1))]
    pub sample_one_in: i64,
    /// From when the oldest video is that no hold covers (UTC), as of `lastBoundaryAuditTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unheld_video_time: Option<Time>,
    /// From when the oldest recorded call is that no hold covers (UTC), as of `lastBoundaryAuditTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unheld_calls_time: Option<Time>,
    /// How many seconds the store's own lifecycle is behind what S3 documents.
    #[schemars(range(min = 0))]
    pub lifecycle_lag_seconds: i64,
    /// What there should be none of, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub findings: Vec<AuditFinding>,
}

/// Something that an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditFinding {
    /// Its kind: `Overdue`, `ReleaseOverdue`, `HeldUnprotected`, `HeldMistagged`, `HeldHidden`, `UnexplainedHold`,
    /// `Mistagged`, `UnexpectedObject`, `UnparsableKey`, `UnvisitedSource`, `UnvisitedDay`, `CrowdedKey`, `UnlistedKey`,
    /// `UnreadProtection`, `ImplausibleKey`, `UnexplainedVersion`, `LateUpload` or `OrphanedHold`. docs/how-to/audit-a-bucket.md explains them.
    #[schemars(length(min = 1, max = 64))]
    #[serde(rename = "type")]
    pub type_: String,
    /// How many.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// Whether a promise is broken by it, or may be.
    pub violation: bool,
    /// The first of them, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 1024)))]
    pub examples: Vec<String>,
}

/// Ceilings of retention that were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ceilings {
    /// Of video, in whole days.
    pub video: Days,
    /// Of recorded calls, in whole days.
    pub calls: Days,
}

/// What was read back from the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// When it was read (UTC), refreshed at most every five minutes.
    pub last_read_time: Time,
    /// Whether Object Lock is on, without a default retention.
    pub object_lock: bool,
    /// Whether versioning is on.
    pub versioning: bool,
    /// Days after which the store's lifecycle hides a video; the bytes go within three days more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub video_expiration_days: Option<i32>,
    /// Days after which the store's lifecycle hides a recorded call; the bytes go within three days more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub calls_expiration_days: Option<i32>,
    /// When the conformance probe last ran (UTC): when the operator that leads sees that the credentials or the
    /// bucket's policy change, daily, and hourly while a row is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// What the store was found to keep, tried on canaries and judged by the effect; docs/reference/stores.md explains
    /// each row. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub conformance: Vec<ConformanceRow>,
    /// Parts of the bucket's configuration that the store lacks, weakens or does not show, each with its consequence. At
    /// most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub limitations: Vec<String>,
    /// Principals of managers, officers or the auditor that the store knows no identity of, at most 33. The bucket policy
    /// does not name them: they can read nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 33), inner(length(min = 1, max = 256)))]
    pub unknown_principals: Vec<String>,
    /// A digest of what was demanded of the bucket when it was read back. What is otherwise while the same is demanded,
    /// somebody else has changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub bucket_spec_hash: String,
}

/// Something that a store must keep, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConformanceRow {
    /// What holds where the verdict is `Holds`: `HeldSurvivesDelete`, `RecorderCannotGet`, …
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// As whom it was tried.
    pub identity: ConformanceIdentity,
    /// What was found.
    pub result: ConformanceResult,
    /// What it means where it fails.
    pub severity: ConformanceSeverity,
    /// What follows where it fails, why where it cannot be told; absent where it holds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

/// As whom something was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum ConformanceIdentity {
    /// With the operator's credentials.
    Operator,
    /// With the recorders' credentials.
    Recorder,
    /// Without credentials.
    Anonymous,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum ConformanceResult {
    /// It is so.
    Passed,
    /// It is not so.
    Failed,
    /// It cannot be told.
    Unknown,
}

/// What a row means where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum ConformanceSeverity {
    /// A promise cannot be kept: the bucket is refused, unless the Site has an exception for it.
    Fatal,
    /// The promises are kept by other means; what is weaker is said.
    Warning,
}
