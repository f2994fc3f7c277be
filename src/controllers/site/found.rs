//! What was found of a bucket, and what follows from it: pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use super::access::Tried;
use super::refusal;
use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{Drift, StorageStatus};
use crate::controllers::kit::status::may_refresh;
use crate::controllers::site::conformance;
use crate::storage::error::StoreError;
use crate::storage::{BucketSpec, BucketState, Change, EnforceError, Enforced};

/// What a status has room for.
const MOST_GAPS: usize = 32;
const LONGEST_GAP: usize = 512;

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
    /// What was tried of access to it.
    pub tried: Tried,
    /// What may be done with it.
    pub usable: Usable,
    /// Whether only a person can help.
    pub is_stalled: bool,
    /// What was changed just now.
    pub changes: Vec<Change>,
    /// Whether these put back what had been otherwise, though nothing else is demanded.
    pub is_drift: bool,
    /// Whether all that is demanded of it was read back, be there nobody to try as a recorder.
    pub in_sync: bool,
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

    /// What somebody else had changed, by what was told of it `before` and what was put back now.
    pub fn drift(&self, before: Option<&Drift>, now: Timestamp) -> Option<Drift> {
        if !self.is_drift {
            return before.cloned();
        }
        Some(Drift::told(&joined(&self.changes), before, now))
    }

    /// What was otherwise though the same was demanded when it was last read back, somebody else has changed.
    pub(super) fn note_drift(&mut self, demanded: String, reported: Option<&StorageStatus>) {
        let was_so = reported.is_some_and(|reported| reported.demanded == demanded);
        self.is_drift = was_so && !self.changes.is_empty();
        if let Some(status) = self.status.as_mut().filter(|_| self.in_sync) {
            status.demanded = demanded;
        }
    }
}

/// Of a bucket that may not be looked at nothing is known; what was read back once is still reported.
pub(super) fn unknown(reported: Option<&StorageStatus>) -> Bucket {
    let message = "the bucket is not looked at: see Accepted";
    Bucket {
        finding: Finding::new(ConditionType::StorageEnforced, Truth::Unknown, Reason::DependsOn, message),
        status: reported.cloned(),
        tried: Tried::of(reported),
        usable: Usable::No,
        is_stalled: false,
        changes: Vec::new(),
        is_drift: false,
        in_sync: false,
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
            let message = read_back(&enforced.read_back);
            Bucket {
                finding: Finding::new(ConditionType::StorageEnforced, true, Reason::ReadBack, message),
                tried: Tried::of(Some(&status)),
                status: Some(status),
                usable: Usable::Recorded,
                is_stalled: false,
                changes: enforced.changed,
                is_drift: false,
                in_sync: true,
                look_again: None,
            }
        }
        Err(error) => {
            let nothing_learnt = error.store_error().is_some();
            // A store that says that the bucket is otherwise takes back what was reported.
            let stays = nothing_learnt || matches!(error, EnforceError::NoRecorder { .. });
            let may_go_on = nothing_learnt && reported.is_some();
            let kept = reported.filter(|_| stays);
            Bucket {
                finding: not_enforced(&error, nothing_learnt, reported.is_some()),
                tried: Tried::of(kept),
                status: kept.cloned(),
                usable: if may_go_on { Usable::Recorded } else { Usable::No },
                is_stalled: needs_person(&error),
                changes: Vec::new(),
                is_drift: false,
                in_sync: matches!(error, EnforceError::NoRecorder { in_sync: true }),
                look_again: None,
            }
        }
    }
}

/// Whether only a person can help: a store that does not answer comes back by itself, rights do not, nor a login at the proxy.
fn needs_person(error: &EnforceError) -> bool {
    let is_refused_on_the_way = |error: &StoreError| error.code == "ProxyAuthenticationRequired";
    let error = error.store_error();
    error.is_none_or(|error| !error.is_retryable() || is_refused_on_the_way(error))
}

fn not_enforced(error: &EnforceError, nothing_learnt: bool, was_read_back: bool) -> Finding {
    let (truth, consequence) = match (nothing_learnt, was_read_back) {
        (false, _) => (Truth::False, "nothing is recorded until then"),
        (true, true) => {
            (Truth::Unknown, "recording goes on while the operator keeps trying to read the bucket back")
        }
        (true, false) => {
            (Truth::Unknown, "nothing is recorded before the bucket is read back; the operator keeps trying")
        }
    };
    let message = format!("{}; {consequence}", error.safe_message());
    Finding::new(ConditionType::StorageEnforced, truth, refusal::reason(error), message)
}

/// Another release may demand otherwise of the same bucket.
pub(super) fn digest(spec: &BucketSpec) -> String {
    let demanded = serde_json::to_vec(&(env!("CARGO_PKG_VERSION"), spec)).unwrap_or_default();
    hex::encode(Sha256::digest(demanded)).chars().take(16).collect()
}

fn status(enforced: &Enforced, reported: Option<&StorageStatus>, now: Timestamp) -> StorageStatus {
    let (tried_at, conformance) = match &enforced.conformance {
        Some(conformance) => (Some(Time(now)), conformance::rows(conformance)),
        None => (
            reported.and_then(|status| status.tried_at.clone()),
            reported.map(|status| status.conformance.clone()).unwrap_or_default(),
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
        gaps: gaps(enforced),
        unknown_principals: enforced.left_out.clone(),
        demanded: reported.map(|status| status.demanded.clone()).unwrap_or_default(),
    };
    // An operator that was just started reads back at once; the time alone is nothing new for five minutes.
    let reported = reported.filter(|reported| !may_refresh(Some(&reported.read_back_at), now));
    match reported
        .map(|reported| StorageStatus { read_back_at: reported.read_back_at.clone(), ..read.clone() })
    {
        Some(again) if Some(&again) == reported => again,
        _ => read,
    }
}

/// What the store's policies cannot say, and what of the configuration is weaker than required or not shown.
fn gaps(enforced: &Enforced) -> Vec<String> {
    let of_policy = enforced.gaps.iter().map(ToString::to_string);
    let gaps = of_policy.chain(enforced.read_back.gaps());
    gaps.take(MOST_GAPS).map(|gap| gap.chars().take(LONGEST_GAP).collect()).collect()
}

/// What was read back, and nothing else: access is told by `AccessRestricted`, what the store lacks by its status.
fn read_back(state: &BucketState) -> String {
    let parts = match &state.lifecycle {
        Some(_) => "Object Lock, versioning, lifecycle and policy",
        None => {
            "Object Lock, versioning and policy (this store has no lifecycle: retentionEnforcement is OperatorOnly)"
        }
    };
    format!("{parts}, as read back, are as required")
}

/// All that was changed.
pub(super) fn joined(changes: &[Change]) -> String {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    changes.join("; ")
}
