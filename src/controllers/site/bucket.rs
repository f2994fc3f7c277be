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
use sha2::{Digest, Sha256};

use super::refusal;
use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{ConformanceVerdict, StorageStatus};
use crate::contract::StorageTarget;
use crate::controllers::kit::error::Backoff;
use crate::controllers::kit::fence::{Fence, NotLeader};
use crate::controllers::kit::status::may_refresh;
use crate::controllers::site::conformance;
use crate::storage::{self, BucketSpec, Change, Claim, EnforceError, Enforced, Failed, Trials};

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
        f.debug_struct("Access")
            .field("spec", &self.spec)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
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
        let Access {
            operator,
            recorder,
            spec,
            claim,
        } = access;
        Box::pin(storage::enforce(operator, recorder.as_ref(), spec, claim, trials)).await
    }
}

/// What may be done with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usable {
    /// Nothing: whose it is is not known, or it is another's.
    No,
    /// It is the Site's, and not as it must be: what is in it is kept, swept and audited.
    Kept,
    /// Recordings may go there too.
    Recorded,
}

/// A bucket as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// `StorageEnforced`.
    pub finding: Finding,
    /// What to report of it.
    pub status: Option<StorageStatus>,
    /// What may be done with it.
    pub usable: Usable,
    /// Whether only a person can help.
    pub is_stalled: bool,
    /// What was changed just now.
    pub changes: Vec<Change>,
    /// Whether these put back what had been otherwise, though nothing else is demanded.
    pub is_drift: bool,
    /// When to look at it again.
    pub look_again: Option<Timestamp>,
}

impl Bucket {
    /// Whether recordings may go there.
    pub fn may_record(&self) -> bool {
        self.usable == Usable::Recorded
    }

    /// Whether it is the Site's.
    pub fn is_ours(&self) -> bool {
        self.usable >= Usable::Kept
    }

    /// What was otherwise though the same was demanded when it was last read back, somebody else has changed.
    fn note_drift(&mut self, demanded: String, reported: Option<&StorageStatus>) {
        let was_so = reported.is_some_and(|reported| reported.demanded == demanded);
        self.is_drift = was_so && !self.changes.is_empty();
        if let Some(status) = self.status.as_mut().filter(|_| self.finding.is_true()) {
            status.demanded = demanded;
        }
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
            is_drift: false,
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
) -> Result<Bucket, NotLeader> {
    let Some(access) = access else {
        return Ok(unknown(reported));
    };
    if let Some(bucket) = memory.recall(access, now) {
        return Ok(bucket);
    }
    let is_due = memory.owes_trials(access) || reported.is_none_or(|status| trials_are_due(status, now));
    let trials = if is_due { Trials::Run } else { Trials::Keep };
    let answer = fence.guard(stores.enforce(access, trials)).await?;
    let wait = match &answer {
        Ok(_) => {
            memory.backoff.reset(&access.claim.uid);
            FRESH
        }
        Err(_) => SignedDuration::try_from(memory.backoff.failed(&access.claim.uid)).unwrap_or(FRESH),
    };
    let (answer, changed, is_ours) = match answer {
        Ok(enforced) => (Ok(enforced), Vec::new(), true),
        Err(Failed {
            error,
            changed,
            is_ours,
        }) => (Err(error), changed, is_ours),
    };
    // What was changed calls for them too.
    let owes_trials = answer.is_err() && (is_due || !changed.is_empty());
    let mut bucket = judge(answer, reported, now);
    bucket.changes.extend(changed);
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
    let every = if is_unknown {
        TRIALS_WHILE_UNKNOWN
    } else {
        TRIALS_EVERY
    };
    reported
        .tried_at
        .as_ref()
        .is_none_or(|tried| now.duration_since(tried.0) >= every)
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
        usable: Usable::No,
        is_stalled: false,
        changes: Vec::new(),
        is_drift: false,
        look_again: None,
    }
}

/// What follows from the store's answer.
pub fn judge(
    answer: Result<Enforced, EnforceError>,
    reported: Option<&StorageStatus>,
    now: Timestamp,
) -> Bucket {
    match answer {
        Ok(enforced) => {
            let status = status(&enforced, reported, now);
            let gaps = enforced.gaps.iter().map(ToString::to_string);
            let gaps: Vec<String> = gaps.chain(enforced.read_back.gaps()).collect();
            let message = read_back(&status, &gaps);
            Bucket {
                finding: Finding::new(ConditionType::StorageEnforced, true, Reason::ReadBack, message),
                status: Some(status),
                usable: Usable::Recorded,
                is_stalled: false,
                changes: enforced.changed,
                is_drift: false,
                look_again: None,
            }
        }
        Err(error) => {
            let nothing_learnt = matches!(error, EnforceError::Storage(_));
            // A store that says that the bucket is otherwise takes back what was reported.
            let stays = nothing_learnt || matches!(error, EnforceError::NoRecorder);
            let may_go_on = nothing_learnt && reported.is_some();
            Bucket {
                finding: not_enforced(&error, nothing_learnt, reported.is_some()),
                status: reported.filter(|_| stays).cloned(),
                usable: if may_go_on { Usable::Recorded } else { Usable::No },
                is_stalled: needs_person(&error),
                changes: Vec::new(),
                is_drift: false,
                look_again: None,
            }
        }
    }
}

/// Whether only a person can help: a store that does not answer comes back by itself, rights do not.
fn needs_person(error: &EnforceError) -> bool {
    match error {
        EnforceError::Storage(error) => !error.is_retryable(),
        _ => true,
    }
}

fn not_enforced(error: &EnforceError, nothing_learnt: bool, was_read_back: bool) -> Finding {
    let (truth, consequence) = match (nothing_learnt, was_read_back) {
        (false, _) => (Truth::False, "nothing is recorded until then"),
        (true, true) => (
            Truth::Unknown,
            "recording goes on while the operator keeps trying to read the bucket back",
        ),
        (true, false) => (
            Truth::Unknown,
            "nothing is recorded before the bucket is read back; the operator keeps trying",
        ),
    };
    let message = format!("{}; {consequence}", error.safe_message());
    Finding::new(
        ConditionType::StorageEnforced,
        truth,
        refusal::reason(error),
        message,
    )
}

/// Another release may demand otherwise of the same bucket.
fn digest(spec: &BucketSpec) -> String {
    let demanded = serde_json::to_vec(&(env!("CARGO_PKG_VERSION"), spec)).unwrap_or_default();
    hex::encode(Sha256::digest(demanded)).chars().take(16).collect()
}

fn status(enforced: &Enforced, reported: Option<&StorageStatus>, now: Timestamp) -> StorageStatus {
    let (tried_at, conformance) = match &enforced.conformance {
        Some(conformance) => (Some(Time(now)), conformance::rows(conformance)),
        None => (
            reported.and_then(|status| status.tried_at.clone()),
            reported
                .map(|status| status.conformance.clone())
                .unwrap_or_default(),
        ),
    };
    let state = &enforced.read_back;
    let read = StorageStatus {
        read_back_at: Time(now),
        object_lock: state.object_lock && state.default_retention.is_none(),
        versioning: state.versioning,
        video_expiration_days: state.video_expiration_days(),
        calls_expiration_days: state.calls_expiration_days(),
        tried_at,
        conformance,
        demanded: reported.map(|status| status.demanded.clone()).unwrap_or_default(),
    };
    // An operator that was just started reads back at once; the time alone is nothing new for five minutes.
    let reported = reported.filter(|reported| !may_refresh(Some(&reported.read_back_at), now));
    match reported.map(|reported| StorageStatus {
        read_back_at: reported.read_back_at.clone(),
        ..read.clone()
    }) {
        Some(again) if Some(&again) == reported => again,
        _ => read,
    }
}

/// What was read back, what this store does not keep although it should, and what it cannot say.
fn read_back(status: &StorageStatus, gaps: &[String]) -> String {
    let mut message =
        "Object Lock, versioning, lifecycle and policy were read back and are as they must be".to_owned();
    message.push_str(&conformance::exceptions(&status.conformance));
    for gap in gaps {
        message.push_str("; ");
        message.push_str(gap);
    }
    message
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
