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

use super::access::Tried;
use super::conformance;
use super::found::{Bucket, Usable, digest, judge, unknown};
use crate::api::{ConformanceVerdict, StorageStatus, past};
use crate::contract::StorageTarget;
use crate::controllers::kit::error::Backoff;
use crate::controllers::kit::fence::{Fence, NotLeader};
use crate::storage::{self, BucketSpec, Claim, Enforced, Failed, Trials};

/// What was read back counts this long.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// The store is probed this often though nothing changed.
const TRIALS_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// The same while something could not be told.
const TRIALS_WHILE_UNKNOWN: SignedDuration = SignedDuration::from_hours(1);

/// A bucket, both identities, and what it must be.
#[derive(Clone, PartialEq)]
pub struct Access {
    /// The bucket as the operator.
    pub operator: StorageTarget,
    /// The bucket as the recorders; `None`: their Secret is missing, and nothing is recorded.
    pub recorder: Option<StorageTarget>,
    /// What it must be.
    pub spec: BucketSpec,
    /// In whose name it is claimed.
    pub claim: Claim,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("spec", &self.spec).field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// The stores that buckets are at.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Makes the bucket what it must be, reads it back, and probes the store if asked to.
    async fn enforce(&self, access: &Access, trials: Trials) -> Result<Enforced, Failed>;
}

/// The stores themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct S3;

#[async_trait]
impl Stores for S3 {
    async fn enforce(&self, access: &Access, trials: Trials) -> Result<Enforced, Failed> {
        let Access { operator, recorder, spec, claim } = access;
        Box::pin(storage::enforce(operator, recorder.as_ref(), spec, claim, trials)).await
    }
}

/// What was found of each Site's bucket, and when; by the Site's UID.
#[derive(Debug, Default)]
pub struct Memory {
    found: Mutex<HashMap<String, Memo>>,
    backoff: Backoff,
}

#[derive(Clone, Debug)]
struct Memo {
    access: Access,
    bucket: Bucket,
    looked_at: Timestamp,
    look_again: Timestamp,
    /// Trials were due, and came to nothing.
    owes_trials: bool,
}

impl Memory {
    /// Forgets a Site that is gone.
    pub fn forget(&self, uid: &str) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.backoff.reset(uid);
    }

    fn recall(&self, access: &Access, now: Timestamp) -> Option<Bucket> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let memo = found.get(&access.claim.uid).filter(|memo| {
            memo.access == *access && now < memo.look_again && past(memo.looked_at, now).is_some()
        })?;
        Some(memo.bucket.clone())
    }

    /// What was changed in a Site's bucket is told: by the status, for one.
    pub fn told(&self, uid: &str) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memo) = found.get_mut(uid) {
            memo.bucket.changes.clear();
            memo.bucket.is_drift = false;
        }
    }

    /// Whether trials are due because something else was demanded before, or because the last came to nothing.
    fn owes_trials(&self, access: &Access) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&access.claim.uid).is_some_and(|memo| memo.owes_trials || memo.access != *access)
    }

    fn keep(
        &self,
        access: &Access,
        bucket: &mut Bucket,
        wait: SignedDuration,
        owes_trials: bool,
        now: Timestamp,
    ) {
        let look_again = now + wait;
        bucket.look_again = Some(look_again);
        let memo =
            Memo { access: access.clone(), bucket: bucket.clone(), looked_at: now, look_again, owes_trials };
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(access.claim.uid.clone(), memo);
    }
}

/// The bucket of `access` as it is now, made what it must be where it is not. `reported` is what the Site's
/// status says of it, which outlives this process.
pub async fn keep(
    stores: &dyn Stores,
    memory: &Memory,
    fence: &Fence,
    access: Option<&Access>,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> Result<Bucket, NotLeader> {
    let Some(access) = access else {
        return Ok(unknown(reported));
    };
    if let Some(bucket) = memory.recall(access, now) {
        return Ok(bucket);
    }
    let is_due = memory.owes_trials(access) || reported.is_none_or(|status| trials_are_due(status, now));
    // Without anybody to try, they stay due.
    let may_try = access.recorder.is_some();
    let trials = if is_due && may_try { Trials::Run } else { Trials::Keep };
    let answer = fence.guard(stores.enforce(access, trials)).await?;
    let wait = match &answer {
        Ok(_) => {
            memory.backoff.reset(&access.claim.uid);
            FRESH
        }
        Err(_) => SignedDuration::try_from(memory.backoff.failed(&access.claim.uid)).unwrap_or(FRESH),
    };
    let (answer, changed, is_ours, table) = match answer {
        Ok(enforced) => (Ok(enforced), Vec::new(), true, None),
        Err(Failed { error, changed, is_ours, conformance }) => (Err(error), changed, is_ours, conformance),
    };
    // What was changed calls for them too.
    let owes_trials = answer.is_err() && (is_due || !changed.is_empty());
    let mut bucket = judge(answer, reported, now);
    bucket.changes.extend(changed);
    if let Some(table) = table {
        bucket.tried = Tried { rows: conformance::rows(&table), at: Some(Time(now)) };
    }
    if is_ours {
        bucket.usable = bucket.usable.max(Usable::Kept);
    }
    bucket.note_drift(digest(&access.spec), reported);
    memory.keep(access, &mut bucket, wait, owes_trials, now);
    Ok(bucket)
}

fn trials_are_due(reported: &StorageStatus, now: Timestamp) -> bool {
    let rows = &reported.conformance;
    let is_unknown = rows.is_empty() || rows.iter().any(|row| row.verdict == ConformanceVerdict::Unknown);
    let every = if is_unknown { TRIALS_WHILE_UNKNOWN } else { TRIALS_EVERY };
    reported
        .tried_at
        .as_ref()
        .and_then(|tried| past(tried.0, now))
        .is_none_or(|tried| now.duration_since(tried) >= every)
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
