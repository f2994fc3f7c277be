//! What was found of a bucket, and what follows from it: pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use super::access::ProbeResults;
use super::{conformance, enforce_reason};
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{DriftStatus, StorageStatus};
use crate::controllers::kubernetes::status::may_refresh;
use crate::storage::s3::error::StoreError;
use crate::storage::{BucketSpec, BucketState, EnforceError, EnforceReport, StoreChange};

/// What a status has room for.
const MAX_LIMITATIONS: usize = 32;
const MAX_LIMITATION_CHARS: usize = 512;

/// What may be done with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BucketUse {
    /// Nothing: whose it is is not known, or it is another's.
    Unavailable,
    /// It is the Site's, and not as it must be: what is in it is kept, swept and audited.
    RetainOnly,
    Record,
}

/// A bucket as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketEvaluation {
    /// `StorageEnforced`.
    pub finding: ConditionFinding,
    pub status: Option<StorageStatus>,
    /// What was tried of access to it.
    pub probe_results: ProbeResults,
    /// What may be done with it.
    pub allowed_use: BucketUse,
    /// Whether only a person can help.
    pub is_stalled: bool,
    pub changes: Vec<StoreChange>,
    /// Whether these put back what had been otherwise, though nothing else is demanded.
    pub is_drift: bool,
    /// Whether all that is demanded of it was read back, be there nobody to try as a recorder.
    pub in_sync: bool,
    /// When to look at it again.
    pub recheck_at: Option<Timestamp>,
}

impl BucketEvaluation {
    pub fn may_record(&self) -> bool {
        self.allowed_use == BucketUse::Record
    }

    pub fn is_ours(&self) -> bool {
        self.allowed_use >= BucketUse::RetainOnly
    }

    /// What somebody else had changed, by what was told of it `before` and what was put back now.
    pub fn drift(&self, before: Option<&DriftStatus>, now: Timestamp) -> Option<DriftStatus> {
        if !self.is_drift {
            return before.cloned();
        }
        Some(DriftStatus::accumulate(&describe_changes(&self.changes), before, now))
    }

    /// What was otherwise though the same was demanded when it was last read back, somebody else has changed.
    pub(crate) fn detect_drift(&mut self, demanded: String, reported: Option<&StorageStatus>) {
        let is_same_spec = reported.is_some_and(|reported| reported.bucket_spec_hash == demanded);
        self.is_drift = is_same_spec && !self.changes.is_empty();
        if let Some(status) = self.status.as_mut().filter(|_| self.in_sync) {
            status.bucket_spec_hash = demanded;
        }
    }
}

/// Of a bucket that may not be looked at nothing is known; what was read back once is still reported.
pub(crate) fn unobserved(reported: Option<&StorageStatus>) -> BucketEvaluation {
    let message = "the bucket is not looked at: see Accepted";
    BucketEvaluation {
        finding: ConditionFinding::new(
            ConditionType::StorageEnforced,
            ConditionStatus::Unknown,
            Reason::DependencyNotReady,
            message,
        ),
        status: reported.cloned(),
        probe_results: ProbeResults::from_status(reported),
        allowed_use: BucketUse::Unavailable,
        is_stalled: false,
        changes: Vec::new(),
        is_drift: false,
        in_sync: false,
        recheck_at: None,
    }
}

/// What follows from the store's answer.
pub fn evaluate_bucket(
    answer: Result<EnforceReport, EnforceError>,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> BucketEvaluation {
    match answer {
        Ok(enforced) => {
            let status = storage_status(&enforced, reported, now);
            let message = describe_read_back(&enforced.observed);
            BucketEvaluation {
                finding: ConditionFinding::new(
                    ConditionType::StorageEnforced,
                    true,
                    Reason::Verified,
                    message,
                ),
                probe_results: ProbeResults::from_status(Some(&status)),
                status: Some(status),
                allowed_use: BucketUse::Record,
                is_stalled: false,
                changes: enforced.changes,
                is_drift: false,
                in_sync: true,
                recheck_at: None,
            }
        }
        Err(error) => {
            let is_inconclusive = error.store_error().is_some();
            // A store that says that the bucket is otherwise takes back what was reported.
            let keeps_status = is_inconclusive || matches!(error, EnforceError::NoRecorderCredentials { .. });
            let may_continue_recording = is_inconclusive && reported.is_some();
            let kept = reported.filter(|_| keeps_status);
            BucketEvaluation {
                finding: not_enforced(&error, is_inconclusive, reported.is_some()),
                probe_results: ProbeResults::from_status(kept),
                status: kept.cloned(),
                allowed_use: if may_continue_recording { BucketUse::Record } else { BucketUse::Unavailable },
                is_stalled: is_terminal_error(&error),
                changes: Vec::new(),
                is_drift: false,
                in_sync: matches!(error, EnforceError::NoRecorderCredentials { is_in_sync: true }),
                recheck_at: None,
            }
        }
    }
}

/// Whether only a person can help: a store that does not answer comes back by itself, rights do not, nor a login at the proxy.
fn is_terminal_error(error: &EnforceError) -> bool {
    let is_proxy_rejection = |error: &StoreError| error.code == "ProxyAuthenticationRequired";
    let error = error.store_error();
    error.is_none_or(|error| !error.is_retryable() || is_proxy_rejection(error))
}

fn not_enforced(error: &EnforceError, is_inconclusive: bool, was_read_back: bool) -> ConditionFinding {
    let (truth, consequence) = match (is_inconclusive, was_read_back) {
        (false, _) => (ConditionStatus::False, "nothing is recorded until then"),
        (true, true) => (
            ConditionStatus::Unknown,
            "recording goes on while the operator keeps trying to read the bucket back",
        ),
        (true, false) => (
            ConditionStatus::Unknown,
            "nothing is recorded before the bucket is read back; the operator keeps trying",
        ),
    };
    let message = format!("{error}; {consequence}");
    ConditionFinding::new(ConditionType::StorageEnforced, truth, enforce_reason::reason(error), message)
}

/// Another release may demand otherwise of the same bucket.
pub(crate) fn spec_hash(spec: &BucketSpec) -> String {
    let demanded = serde_json::to_vec(&(env!("CARGO_PKG_VERSION"), spec)).unwrap_or_default();
    hex::encode(Sha256::digest(demanded)).chars().take(16).collect()
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
        object_lock: state.object_lock && state.default_retention.is_none(),
        versioning: state.versioning,
        video_expiration_days: state.video_expiration_days(),
        calls_expiration_days: state.calls_expiration_days(),
        last_probe_time: tried_at,
        conformance,
        limitations: limitations(enforced),
        unknown_principals: enforced.unknown_principals.clone(),
        bucket_spec_hash: reported.map(|status| status.bucket_spec_hash.clone()).unwrap_or_default(),
    };
    // An operator that was just started reads back at once; the time alone is nothing new for five minutes.
    let reported = reported.filter(|reported| !may_refresh(Some(&reported.last_read_time), now));
    match reported
        .map(|reported| StorageStatus { last_read_time: reported.last_read_time.clone(), ..read.clone() })
    {
        Some(again) if Some(&again) == reported => again,
        _ => read,
    }
}

/// What the store's policies cannot say, and what of the configuration is weaker than required or not shown.
fn limitations(enforced: &EnforceReport) -> Vec<String> {
    let of_policy = enforced.limitations.iter().map(ToString::to_string);
    let gaps = of_policy.chain(enforced.observed.limitations());
    gaps.take(MAX_LIMITATIONS).map(|gap| gap.chars().take(MAX_LIMITATION_CHARS).collect()).collect()
}

/// What was read back, and nothing else: access is told by `AccessRestricted`, what the store lacks by its status.
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
