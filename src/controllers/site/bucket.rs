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

use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{Ceilings, StorageStatus, Trial};
use crate::contract::StorageTarget;
use crate::controllers::kit::error::Backoff;
use crate::controllers::kit::fence::Fence;

/// What was read back counts this long.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// The recorders' credentials are tried this often though nothing changed.
const TRIALS_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// A bucket, both identities, and what it must be.
#[derive(Clone, PartialEq)]
pub struct Access {
    /// The bucket as the operator.
    pub operator: StorageTarget,
    /// The bucket as the recorders.
    pub recorder: StorageTarget,
    /// What it must be.
    pub demand: Demand,
    /// In whose name it is claimed.
    pub claim: Claim,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("demand", &self.demand)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

/// What a bucket must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Nothing lives longer, unless it is held.
    pub ceilings: Ceilings,
    /// The operator, as the store's policies name it.
    pub operator_principal: String,
    /// The recorders, as the store's policies name them.
    pub recorder_principal: String,
    /// Who may read what is held; sorted, each once.
    pub readers: Vec<String>,
    /// Replace a configuration that is there already.
    pub take_over: bool,
    /// The store has no lifecycle.
    pub operator_only: bool,
    /// The store keeps no legal holds.
    pub allow_unprotected: bool,
}

/// In whose name a bucket is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster_id: String,
    /// The Site's namespace.
    pub namespace: String,
    /// The Site's name.
    pub site: String,
    /// The Site's UID.
    pub uid: String,
}

/// What was read back from a bucket that is as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// As it is reported; the time is filled in by who asked.
    pub object_lock: bool,
    /// Whether versioning is on.
    pub versioning: bool,
    /// Days after which lifecycle hides a video.
    pub video_expiration_days: Option<i32>,
    /// Days after which lifecycle hides a call.
    pub calls_expiration_days: Option<i32>,
    /// What was changed, in words.
    pub changes: Vec<String>,
    /// What the recorders' credentials were tried to do, if they were.
    pub trials: Option<Vec<Trial>>,
}

/// Why a bucket is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnforced {
    /// Why, for machines.
    pub reason: Reason,
    /// Of a bounded set, for metrics.
    pub category: &'static str,
    /// Why, for people, with the remedy; holds no text of the store.
    pub message: String,
    /// Whether the bucket is known to be otherwise; else nothing was learnt of it.
    pub is_certain: bool,
    /// Whether only a person can help.
    pub needs_person: bool,
}

/// The stores that buckets are at.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Makes the bucket what it must be, reads it back, and tries the recorders' credentials if asked to.
    async fn enforce(&self, access: &Access, run_trials: bool) -> Result<Enforced, NotEnforced>;
}

/// A bucket as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// `StorageEnforced`.
    pub finding: Finding,
    /// What to report of it.
    pub status: Option<StorageStatus>,
    /// Whether recordings may go there.
    pub may_record: bool,
    /// Whether only a person can help.
    pub is_stalled: bool,
    /// What was changed just now, in words.
    pub changes: Vec<String>,
    /// When to look at it again.
    pub look_again: Option<Timestamp>,
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
    look_again: Timestamp,
    /// Trials were due, and came to nothing.
    owes_trials: bool,
}

impl Memory {
    /// Forgets a Site that is gone.
    pub fn forget(&self, uid: &str) {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        self.backoff.reset(uid);
    }

    fn recall(&self, access: &Access, now: Timestamp) -> Option<Bucket> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let memo = found
            .get(&access.claim.uid)
            .filter(|memo| memo.access == *access && now < memo.look_again)?;
        Some(Bucket {
            changes: Vec::new(),
            ..memo.bucket.clone()
        })
    }

    /// Whether trials are due because something else was demanded before, or because the last came to nothing.
    fn owes_trials(&self, access: &Access) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found
            .get(&access.claim.uid)
            .is_some_and(|memo| memo.owes_trials || memo.access != *access)
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
        let memo = Memo {
            access: access.clone(),
            bucket: bucket.clone(),
            look_again,
            owes_trials,
        };
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(access.claim.uid.clone(), memo);
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
) -> Bucket {
    let Some(access) = access else {
        return unknown(reported);
    };
    if let Some(bucket) = memory.recall(access, now) {
        return bucket;
    }
    let run_trials = memory.owes_trials(access) || reported.is_none_or(|status| trials_are_due(status, now));
    let mut answer = enforce(stores, fence, access, run_trials).await;
    // What was just changed is tried at once.
    if !run_trials && answer.as_ref().is_ok_and(|enforced| !enforced.changes.is_empty()) {
        let changes = answer.map(|enforced| enforced.changes).unwrap_or_default();
        answer = enforce(stores, fence, access, true)
            .await
            .map(|enforced| Enforced { changes, ..enforced });
    }
    let wait = match &answer {
        Ok(_) => {
            memory.backoff.reset(&access.claim.uid);
            FRESH
        }
        Err(_) => SignedDuration::try_from(memory.backoff.failed(&access.claim.uid)).unwrap_or(FRESH),
    };
    let owes_trials = answer.is_err() && run_trials;
    let mut bucket = judge(answer, reported, now);
    memory.keep(access, &mut bucket, wait, owes_trials, now);
    bucket
}

async fn enforce(
    stores: &dyn Stores,
    fence: &Fence,
    access: &Access,
    run_trials: bool,
) -> Result<Enforced, NotEnforced> {
    fence
        .guard(stores.enforce(access, run_trials))
        .await
        .unwrap_or_else(|refused| {
            Err(NotEnforced {
                reason: Reason::Retrying,
                category: "not_leader",
                message: refused.to_string(),
                is_certain: false,
                needs_person: false,
            })
        })
}

fn trials_are_due(reported: &StorageStatus, now: Timestamp) -> bool {
    reported
        .tried_at
        .as_ref()
        .is_none_or(|tried| now.duration_since(tried.0) >= TRIALS_EVERY)
}

/// Of a bucket that may not be looked at nothing is known; what was read back once is still reported.
fn unknown(reported: Option<&StorageStatus>) -> Bucket {
    let message = "the bucket is not looked at: see Accepted";
    Bucket {
        finding: Finding::new(
            ConditionType::StorageEnforced,
            Truth::Unknown,
            Reason::DependsOn,
            message,
        ),
        status: reported.cloned(),
        may_record: false,
        is_stalled: false,
        changes: Vec::new(),
        look_again: None,
    }
}

/// What follows from the store's answer.
pub fn judge(
    answer: Result<Enforced, NotEnforced>,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> Bucket {
    match answer {
        Ok(enforced) => {
            let changes = enforced.changes.clone();
            let status = status(enforced, reported, now);
            Bucket {
                finding: Finding::new(
                    ConditionType::StorageEnforced,
                    true,
                    Reason::ReadBack,
                    read_back(&status),
                ),
                status: Some(status),
                may_record: true,
                is_stalled: false,
                changes,
                look_again: None,
            }
        }
        Err(error) => Bucket {
            finding: not_enforced(&error, reported.is_some()),
            // A store that says that the bucket is otherwise takes back what was reported.
            status: reported.filter(|_| !error.is_certain).cloned(),
            may_record: !error.is_certain && reported.is_some(),
            is_stalled: error.needs_person,
            changes: Vec::new(),
            look_again: None,
        },
    }
}

fn not_enforced(error: &NotEnforced, was_read_back: bool) -> Finding {
    let (truth, consequence) = match (error.is_certain, was_read_back) {
        (true, _) => (Truth::False, "nothing is recorded until then"),
        (false, true) => (
            Truth::Unknown,
            "recording goes on while the operator keeps trying to read the bucket back",
        ),
        (false, false) => (
            Truth::Unknown,
            "nothing is recorded before the bucket is read back; the operator keeps trying",
        ),
    };
    let message = format!("{}; {consequence}", error.message);
    Finding::new(ConditionType::StorageEnforced, truth, error.reason, message)
}

fn status(enforced: Enforced, reported: Option<&StorageStatus>, now: Timestamp) -> StorageStatus {
    let (tried_at, recorder_trials) = match enforced.trials {
        Some(trials) => (Some(Time(now)), trials),
        None => (
            reported.and_then(|status| status.tried_at.clone()),
            reported
                .map(|status| status.recorder_trials.clone())
                .unwrap_or_default(),
        ),
    };
    StorageStatus {
        read_back_at: Time(now),
        object_lock: enforced.object_lock,
        versioning: enforced.versioning,
        video_expiration_days: enforced.video_expiration_days,
        calls_expiration_days: enforced.calls_expiration_days,
        tried_at,
        recorder_trials,
    }
}

/// What was read back, and from what this store does not keep the recorders.
fn read_back(status: &StorageStatus) -> String {
    let open: Vec<&str> = status
        .recorder_trials
        .iter()
        .filter(|trial| !trial.refused)
        .map(|trial| trial.operation.as_str())
        .collect();
    let read = "Object Lock, versioning, lifecycle and policy were read back and are as they must be";
    if open.is_empty() {
        return read.to_owned();
    }
    format!(
        "{read}; but this store does not refuse the recorders' credentials: {}: restrict that identity (toezicht iam prints its policy)",
        open.join(", ")
    )
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
