//! Evaluation of a bucket from the store's answer. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::access::ProbeResults;
use super::{conformance, enforce_reason};
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{DriftStatus, StorageStatus};
use crate::controllers::kubernetes::status::may_refresh;
use crate::storage::{BucketSpec, BucketState, EnforceError, EnforceReport, StoreChange, StoreError};

/// Limit of the status field.
const MAX_LIMITATIONS: usize = 32;
const MAX_LIMITATION_CHARS: usize = 512;

/// Permitted use of a bucket, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BucketUse {
    /// None: the owner is unknown, or another Site.
    Unavailable,
    /// The Site owns the bucket, which is not compliant: holds, sweep and audit continue, and nothing new is recorded.
    RetainOnly,
    Record,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BucketEvaluation {
    /// `StorageEnforced`.
    pub finding: ConditionFinding,
    pub status: Option<StorageStatus>,
    /// Probe results about access.
    pub probe_results: ProbeResults,
    pub allowed_use: BucketUse,
    /// Whether only a person can help.
    pub is_stalled: bool,
    pub changes: Vec<StoreChange>,
    /// Whether `changes` restored an earlier desired state that somebody else had changed.
    pub is_drift: bool,
    /// Whether the whole desired state was read back, even if recorder credentials are missing.
    pub in_sync: bool,
    /// Time of the next check.
    pub recheck_at: Option<Timestamp>,
}

impl BucketEvaluation {
    /// Returns an evaluation that permits nothing, with the probe results of `status`.
    fn new(finding: ConditionFinding, status: Option<StorageStatus>) -> Self {
        Self {
            finding,
            probe_results: ProbeResults::from_status(status.as_ref()),
            status,
            allowed_use: BucketUse::Unavailable,
            is_stalled: false,
            changes: Vec::new(),
            is_drift: false,
            in_sync: false,
            recheck_at: None,
        }
    }

    pub fn may_record(&self) -> bool {
        self.allowed_use == BucketUse::Record
    }

    pub fn is_ours(&self) -> bool {
        self.allowed_use >= BucketUse::RetainOnly
    }

    /// Returns the drift to report: this one, or the one reported `before`.
    pub fn drift(&self, before: Option<&DriftStatus>, now: Timestamp) -> Option<DriftStatus> {
        if !self.is_drift {
            return before.cloned();
        }
        Some(DriftStatus::accumulate(&describe_changes(&self.changes), before, now))
    }

    /// Detects drift: a change that was needed although the desired state is the one last read back.
    pub(crate) fn detect_drift(&mut self, demanded: String, reported: Option<&StorageStatus>) {
        let is_same_spec = reported.is_some_and(|reported| reported.bucket_spec_hash == demanded);
        self.is_drift = is_same_spec && !self.changes.is_empty();
        if let Some(status) = self.status.as_mut().filter(|_| self.in_sync) {
            status.bucket_spec_hash = demanded;
        }
    }
}

/// Returns the evaluation of a bucket that may not be contacted. Keeps the reported status.
pub(crate) fn unobserved(reported: Option<&StorageStatus>) -> BucketEvaluation {
    let message = "the bucket is not checked; see Accepted";
    let (condition, status) = (ConditionType::StorageEnforced, ConditionStatus::Unknown);
    let finding = ConditionFinding::new(condition, status, Reason::DependencyNotReady, message);
    BucketEvaluation::new(finding, reported.cloned())
}

/// Evaluates the store's answer.
pub fn evaluate_bucket(
    answer: Result<EnforceReport, EnforceError>,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> BucketEvaluation {
    match answer {
        Ok(enforced) => {
            let status = storage_status(&enforced, reported, now);
            let message = describe_read_back(&enforced.observed);
            let finding =
                ConditionFinding::new(ConditionType::StorageEnforced, true, Reason::Verified, message);
            BucketEvaluation {
                allowed_use: BucketUse::Record,
                changes: enforced.changes,
                in_sync: true,
                ..BucketEvaluation::new(finding, Some(status))
            }
        }
        Err(error) => {
            let is_inconclusive = error.is_inconclusive();
            // A store that contradicts the status takes it back. An inconclusive answer does not.
            let is_about_uploads = error.is_about_recorder_credentials();
            let keeps_status = is_inconclusive
                || is_about_uploads
                || matches!(error, EnforceError::NoRecorderCredentials { .. });
            // Segments wait in the spools until the store answers, or the recorders have the right credentials.
            let may_continue_recording = (is_inconclusive || is_about_uploads) && reported.is_some();
            let kept = reported.filter(|_| keeps_status);
            let finding = not_enforced(&error, is_inconclusive, may_continue_recording);
            BucketEvaluation {
                allowed_use: if may_continue_recording { BucketUse::Record } else { BucketUse::Unavailable },
                is_stalled: is_terminal_error(&error),
                in_sync: matches!(error, EnforceError::NoRecorderCredentials { is_in_sync: true }),
                ..BucketEvaluation::new(finding, kept.cloned())
            }
        }
    }
}

/// Returns whether only a person can help. Outages and server errors pass; missing rights and a rejected proxy login do
/// not.
fn is_terminal_error(error: &EnforceError) -> bool {
    let is_proxy_rejection = |error: &StoreError| error.code == "ProxyAuthenticationRequired";
    let error = error.store_error();
    error.is_none_or(|error| !error.is_retryable() || is_proxy_rejection(error))
}

fn not_enforced(error: &EnforceError, is_inconclusive: bool, may_record: bool) -> ConditionFinding {
    let (truth, consequence) = match (is_inconclusive, may_record) {
        (false, false) => (ConditionStatus::False, "nothing is recorded until this is corrected"),
        (false, true) => (
            ConditionStatus::False,
            "cameras record on, and segments wait in the recorders' spools until this is corrected",
        ),
        (true, true) => (
            ConditionStatus::Unknown,
            "recording continues while the operator retries to read the bucket back",
        ),
        (true, false) => (
            ConditionStatus::Unknown,
            "nothing is recorded until the bucket is read back; the operator retries",
        ),
    };
    let message = format!("{error}; {consequence}");
    ConditionFinding::new(ConditionType::StorageEnforced, truth, enforce_reason::reason(error), message)
}

/// Includes the version: another release may have another desired state for the same spec.
pub(crate) fn spec_hash(spec: &BucketSpec) -> String {
    hash(&(env!("CARGO_PKG_VERSION"), spec))
}

/// Returns a short hash of `value`.
pub(crate) fn hash(value: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(Sha256::digest(bytes)).chars().take(16).collect()
}

fn storage_status(
    enforced: &EnforceReport,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> StorageStatus {
    let (tried_at, conformance) = match &enforced.conformance {
        Some(conformance) => (Some(Time(now)), conformance::rows(conformance)),
        None => (
            reported.and_then(|status| status.last_probe_time.clone()),
            reported.map(|status| status.conformance.clone()).unwrap_or_default(),
        ),
    };
    let state = &enforced.observed;
    let read = StorageStatus {
        last_read_time: Time(now),
        // With a default retention, nothing can be deleted at its ceiling, so the lock is not as required.
        object_lock: state.object_lock && state.default_retention.is_none(),
        versioning: state.versioning,
        video_expiration_days: state.video_expiration_days(),
        calls_expiration_days: state.calls_expiration_days(),
        last_probe_time: tried_at,
        // The caller knows whom the probe was for.
        probed_access_hash: reported.map(|status| status.probed_access_hash.clone()).unwrap_or_default(),
        conformance,
        limitations: limitations(enforced),
        unknown_principals: enforced.unknown_principals.clone(),
        bucket_spec_hash: reported.map(|status| status.bucket_spec_hash.clone()).unwrap_or_default(),
    };
    // After a restart the bucket is read back at once. The time alone is no news for five minutes, so the status does
    // not change for it.
    let reported = reported.filter(|reported| !may_refresh(Some(&reported.last_read_time), now));
    match reported
        .map(|reported| StorageStatus { last_read_time: reported.last_read_time.clone(), ..read.clone() })
    {
        Some(again) if Some(&again) == reported => again,
        _ => read,
    }
}

/// Lists what the store's policies cannot express, and where the configuration is weaker than required or unreadable.
fn limitations(enforced: &EnforceReport) -> Vec<String> {
    let of_policy = enforced.limitations.iter().map(ToString::to_string);
    let gaps = of_policy.chain(enforced.observed.limitations());
    gaps.take(MAX_LIMITATIONS).map(|gap| gap.chars().take(MAX_LIMITATION_CHARS).collect()).collect()
}

/// Describes the read-back only: `AccessRestricted` describes access, and the status lists the limitations.
fn describe_read_back(state: &BucketState) -> String {
    let parts = match &state.lifecycle {
        Some(_) => "Object Lock, versioning, lifecycle and policy",
        None => {
            "Object Lock, versioning and policy (this store has no lifecycle: retentionEnforcement is OperatorOnly)"
        }
    };
    format!("{parts}, as read back, are as required")
}

pub(crate) fn describe_changes(changes: &[StoreChange]) -> String {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    changes.join("; ")
}
