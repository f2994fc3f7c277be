//! Third step of a Site's reconcile: the bucket.
//!
//! A read-back counts for five minutes unless the desired state changes. After an error, the operator backs off.
//!
//! Recording starts only after the bucket was read back as compliant, and stops if the store says otherwise. While a
//! store that was compliant does not answer, recorders continue into their spools.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::access::ProbeResults;
use self::evaluation::{BucketEvaluation, BucketUse, evaluate_bucket, hash, spec_hash, unobserved};
use crate::api::{ConformanceResult, StorageStatus, later, reject_future};
use crate::controllers::handoff::{BucketIdentity, SiteHandoff};
use crate::controllers::kubernetes::error::ReconcileBackoff;
use crate::leader::fence::{Fence, NotLeader};
use crate::storage::{self, BucketSpec, Claim, EnforceFailure, EnforceReport, Probe};
use crate::sync::lock;
use crate::wire::{Credentials, StorageTarget};

/// Time for which a read-back counts.
const READ_BACK_TTL: SignedDuration = SignedDuration::from_mins(5);
/// Interval between probes without a change.
const PROBE_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// Interval between probes while a row is unknown.
const UNKNOWN_PROBE_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// A bucket as both identities, and its desired state.
#[derive(Clone, PartialEq)]
pub struct BucketAccess {
    pub operator: StorageTarget,
    /// Recorder identity. `None`: its Secret is missing or unusable. Recorders keep the keys that they have.
    pub recorder: Option<StorageTarget>,
    pub spec: BucketSpec,
    /// Owner in whose name the bucket is claimed.
    pub claim: Claim,
}

impl fmt::Debug for BucketAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketAccess")
            .field("spec", &self.spec)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

/// Access to object stores; tests replace it.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Brings the bucket into its desired state, reads it back, and probes the store on request.
    async fn enforce(&self, access: &BucketAccess, probe: Probe) -> Result<EnforceReport, EnforceFailure>;
}

/// S3 stores, over the connections of the handoff.
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

/// Last evaluation of each Site's bucket, by the Site's UID.
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
    /// A probe was due and did not complete.
    is_probe_pending: bool,
}

impl BucketCache {
    /// Removes a Site that is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.entries).remove(uid);
        self.backoff.reset(uid);
    }

    fn get(&self, access: &BucketAccess, now: Timestamp) -> Option<BucketEvaluation> {
        let entries = lock(&self.entries);
        let memo = entries.get(&access.claim.uid).filter(|memo| {
            // A clock that was ahead may have written `recheck_at`: then the entry would count for days.
            memo.access == *access && now < memo.recheck_at && reject_future(memo.checked_at, now).is_some()
        })?;
        Some(memo.bucket.clone())
    }

    /// Clears the changes of a Site's bucket after the status reports them.
    pub fn mark_reported(&self, uid: &str) {
        if let Some(memo) = lock(&self.entries).get_mut(uid) {
            memo.bucket.changes.clear();
            memo.bucket.is_drift = false;
        }
    }

    /// Returns whether a probe is due because the desired state changed or the last probe did not complete.
    fn is_probe_pending(&self, access: &BucketAccess) -> bool {
        lock(&self.entries)
            .get(&access.claim.uid)
            .is_some_and(|memo| memo.is_probe_pending || memo.access != *access)
    }

    fn insert(
        &self,
        access: &BucketAccess,
        bucket: &mut BucketEvaluation,
        wait: SignedDuration,
        is_probe_pending: bool,
        now: Timestamp,
    ) {
        let recheck_at = later(now, wait);
        bucket.recheck_at = Some(recheck_at);
        let (access, bucket) = (access.clone(), bucket.clone());
        let uid = access.claim.uid.clone();
        lock(&self.entries)
            .insert(uid, Cached { access, bucket, checked_at: now, recheck_at, is_probe_pending });
    }
}

/// Returns the evaluation of the bucket, and corrects its drift. `reported` is the Site's status, which outlives this
/// process.
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
    let access_hash = access_hash(access);
    // The cache knows no probe of an earlier leader: neither one that failed, nor one of other credentials.
    let is_reported_due =
        |status: &StorageStatus| status.probed_access_hash != access_hash || is_probe_due(status, now);
    let is_due = cache.is_probe_pending(access) || reported.is_none_or(is_reported_due);
    // Without recorder credentials there is nothing to probe, so the probe stays due.
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
    let (answer, changes, is_owned, conformance) = match answer {
        Ok(enforced) => (Ok(enforced), Vec::new(), true, None),
        Err(EnforceFailure { error, changes, is_owned, conformance }) => {
            (Err(error), changes, is_owned, conformance)
        }
    };
    // Changes to the bucket call for a probe too.
    let is_probe_pending = answer.is_err() && (is_due || !changes.is_empty());
    let is_probed = answer.as_ref().is_ok_and(|enforced| enforced.conformance.is_some());
    let mut bucket = evaluate_bucket(answer, reported, now);
    if let Some(status) = &mut bucket.status {
        if is_probed {
            status.probed_access_hash = access_hash;
        } else if is_probe_pending {
            status.probed_access_hash.clear();
        }
    }
    bucket.changes.extend(changes);
    if let Some(table) = conformance {
        bucket.probe_results = ProbeResults { rows: conformance::rows(&table), probed_at: Some(Time(now)) };
    }
    // Holds, sweep and audit continue in the Site's own bucket, even if nothing may be recorded.
    if is_owned {
        bucket.allowed_use = bucket.allowed_use.max(BucketUse::RetainOnly);
    }
    bucket.detect_drift(spec_hash(&access.spec), reported);
    cache.insert(access, &mut bucket, wait, is_probe_pending, now);
    Ok(bucket)
}

/// Returns a hash of what a probe of `access` uses. No secret key: many people can read a status.
///
/// So a key that is replaced under the same ID while no operator runs is found by the daily probe only.
fn access_hash(access: &BucketAccess) -> String {
    let BucketAccess { operator, recorder, .. } = access;
    let target = |target: &StorageTarget| {
        let StorageTarget { endpoint, region, bucket, path_style, ca_pem, credentials, proxy: _ } = target;
        let key_id = credentials.as_access_key().map(|key| key.access_key_id.reveal());
        let role = match credentials {
            Credentials::WebIdentity { web_identity } => Some(&web_identity.role_arn),
            Credentials::AccessKey(_) | Credentials::Profile(_) => None,
        };
        hash(&(endpoint, region, bucket, path_style, ca_pem, key_id, role))
    };
    hash(&(target(operator), recorder.as_ref().map(target)))
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
