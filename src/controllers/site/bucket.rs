//! Step three: the bucket, before anything is recorded into it.
//!
//! Not every look at a Site reads its bucket: what was read back counts for five minutes unless what is
//! demanded changed, and after an error the waits grow. What was found decides whether recording may go on:
//! it never begins before the bucket was read back as it must be; it stops when the store says otherwise;
//! it goes on, into the spool, while a store that was as it must be does not answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::access::ProbeResults;
use self::evaluation::{BucketEvaluation, BucketUse, evaluate_bucket, spec_hash, unobserved};
use crate::api::{ConformanceResult, StorageStatus, reject_future};
use crate::controllers::handoff::{BucketIdentity, SiteHandoff};
use crate::controllers::kubernetes::error::ReconcileBackoff;
use crate::leader::fence::{Fence, NotLeader};
use crate::storage::{self, BucketSpec, Claim, EnforceFailure, EnforceReport, Probe};
use crate::wire::StorageTarget;

/// What was read back counts this long.
const READ_BACK_TTL: SignedDuration = SignedDuration::from_mins(5);
/// The store is probed this often though nothing changed.
const PROBE_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// The same while something could not be told.
const UNKNOWN_PROBE_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// A bucket, both identities, and what it must be.
#[derive(Clone, PartialEq)]
pub struct BucketAccess {
    pub operator: StorageTarget,
    /// The bucket as the recorders; `None`: their Secret is missing, and nothing is recorded.
    pub recorder: Option<StorageTarget>,
    pub spec: BucketSpec,
    /// In whose name it is claimed.
    pub claim: Claim,
}

impl fmt::Debug for BucketAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("spec", &self.spec).field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// The stores that buckets are at.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Makes the bucket what it must be, reads it back, and probes the store if asked to.
    async fn enforce(&self, access: &BucketAccess, probe: Probe) -> Result<EnforceReport, EnforceFailure>;
}

/// S3 servers, by the connections that the hand-over keeps.
#[derive(Clone, Debug, Default)]
pub struct S3 {
    pub handoff: SiteHandoff,
}

#[async_trait]
impl Stores for S3 {
    async fn enforce(&self, access: &BucketAccess, probe: Probe) -> Result<EnforceReport, EnforceFailure> {
        let BucketAccess { operator, recorder, spec, claim } = access;
        let connect = |identity, target| self.handoff.connect(&claim.uid, identity, target);
        let operator = connect(BucketIdentity::Operator, operator)?;
        let recorder =
            recorder.as_ref().map(|recorder| connect(BucketIdentity::Recorder, recorder)).transpose()?;
        Box::pin(storage::enforce(&operator, recorder.as_ref(), spec, claim, probe)).await
    }
}

/// What was found of each Site's bucket, and when; by the Site's UID.
#[derive(Debug, Default)]
pub struct BucketCache {
    entries: Mutex<HashMap<String, Cached>>,
    backoff: ReconcileBackoff,
}

#[derive(Clone, Debug)]
struct Cached {
    access: BucketAccess,
    bucket: BucketEvaluation,
    checked_at: Timestamp,
    recheck_at: Timestamp,
    /// Probe were due, and came to nothing.
    is_probe_pending: bool,
}

impl BucketCache {
    /// Forgets a Site that is gone.
    pub fn forget(&self, uid: &str) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.backoff.reset(uid);
    }

    fn get(&self, access: &BucketAccess, now: Timestamp) -> Option<BucketEvaluation> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let memo = entries.get(&access.claim.uid).filter(|memo| {
            memo.access == *access && now < memo.recheck_at && reject_future(memo.checked_at, now).is_some()
        })?;
        Some(memo.bucket.clone())
    }

    /// What was changed in a Site's bucket is told: by the status, for one.
    pub fn mark_reported(&self, uid: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memo) = entries.get_mut(uid) {
            memo.bucket.changes.clear();
            memo.bucket.is_drift = false;
        }
    }

    /// Whether trials are due because something else was demanded before, or because the last came to nothing.
    fn is_probe_pending(&self, access: &BucketAccess) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(&access.claim.uid).is_some_and(|memo| memo.is_probe_pending || memo.access != *access)
    }

    fn insert(
        &self,
        access: &BucketAccess,
        bucket: &mut BucketEvaluation,
        wait: SignedDuration,
        is_probe_pending: bool,
        now: Timestamp,
    ) {
        let recheck_at = now + wait;
        bucket.recheck_at = Some(recheck_at);
        let memo = Cached {
            access: access.clone(),
            bucket: bucket.clone(),
            checked_at: now,
            recheck_at,
            is_probe_pending,
        };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(access.claim.uid.clone(), memo);
    }
}

/// The bucket of `access` as it is now, made what it must be where it is not. `reported` is what the Site's
/// status says of it, which outlives this process.
pub async fn ensure(
    stores: &dyn Stores,
    cache: &BucketCache,
    fence: &Fence,
    access: Option<&BucketAccess>,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> Result<BucketEvaluation, NotLeader> {
    let Some(access) = access else {
        return Ok(unobserved(reported));
    };
    if let Some(bucket) = cache.get(access, now) {
        return Ok(bucket);
    }
    let is_due = cache.is_probe_pending(access) || reported.is_none_or(|status| is_probe_due(status, now));
    // Without anybody to try, they stay due.
    let has_recorder = access.recorder.is_some();
    let probe = if is_due && has_recorder { Probe::Run } else { Probe::Skip };
    let answer = fence.guard(stores.enforce(access, probe)).await?;
    let wait = match &answer {
        Ok(_) => {
            cache.backoff.reset(&access.claim.uid);
            READ_BACK_TTL
        }
        Err(_) => {
            SignedDuration::try_from(cache.backoff.record_failure(&access.claim.uid)).unwrap_or(READ_BACK_TTL)
        }
    };
    let (answer, changed, is_ours, table) = match answer {
        Ok(enforced) => (Ok(enforced), Vec::new(), true, None),
        Err(EnforceFailure { error, changes: changed, is_owned: is_ours, conformance }) => {
            (Err(error), changed, is_ours, conformance)
        }
    };
    // What was changed calls for them too.
    let is_probe_pending = answer.is_err() && (is_due || !changed.is_empty());
    let mut bucket = evaluate_bucket(answer, reported, now);
    bucket.changes.extend(changed);
    if let Some(table) = table {
        bucket.probe_results = ProbeResults { rows: conformance::rows(&table), probed_at: Some(Time(now)) };
    }
    if is_ours {
        bucket.allowed_use = bucket.allowed_use.max(BucketUse::RetainOnly);
    }
    bucket.detect_drift(spec_hash(&access.spec), reported);
    cache.insert(access, &mut bucket, wait, is_probe_pending, now);
    Ok(bucket)
}

fn is_probe_due(reported: &StorageStatus, now: Timestamp) -> bool {
    let rows = &reported.conformance;
    let is_unknown = rows.is_empty() || rows.iter().any(|row| row.result == ConformanceResult::Unknown);
    let every = if is_unknown { UNKNOWN_PROBE_INTERVAL } else { PROBE_INTERVAL };
    reported
        .last_probe_time
        .as_ref()
        .and_then(|tried| reject_future(tried.0, now))
        .is_none_or(|tried| now.duration_since(tried) >= every)
}

pub(crate) mod access;
pub(crate) mod conformance;
pub(crate) mod enforce_reason;
pub(crate) mod evaluation;
pub(crate) mod handoff;
pub(crate) mod target;
#[cfg(test)]
mod tests;
