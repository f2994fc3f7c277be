use std::collections::VecDeque;

use super::*;
use crate::api::condition::{ConditionStatus, Reason};
use crate::leader::clock::BootClock;
use crate::storage::bucket::probe::{Check, Verdict};
use crate::storage::s3::stub::target;
use crate::storage::{
    BucketSpec, BucketState, Claimant, Conformance, EnforceError, StoreChange, StoreError, Subresource,
};
use crate::wire::Credentials;

type ScriptedAnswers = VecDeque<Result<EnforceReport, EnforceFailure>>;

/// Stores with prepared answers that record the requested probes, and the cache of their answers.
#[derive(Default)]
struct ScriptedStores {
    answers: Mutex<ScriptedAnswers>,
    probes: Mutex<Vec<Probe>>,
    memory: BucketCache,
}

#[async_trait]
impl Stores for ScriptedStores {
    async fn enforce(&self, _: &BucketAccess, probe: Probe) -> Result<EnforceReport, EnforceFailure> {
        self.probes.lock().unwrap().push(probe);
        self.answers.lock().unwrap().pop_front().expect("the store was asked once more than expected")
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn access(secret: &str) -> BucketAccess {
    let key_id = format!("id of {secret}");
    let target = StorageTarget { credentials: Credentials::access_key(key_id, secret), ..target() };
    let spec = BucketSpec::example();
    let claim = Claim { cluster_id: "c".into(), namespace: "n".into(), site: "s".into(), uid: "u".into() };
    BucketAccess { operator: target.clone(), recorder: Some(target), spec, claim }
}

/// Conformance table in which every row passes, or all but one.
fn conformance(holds: bool) -> Conformance {
    let verdict = |check: &Check| match check {
        Check::RecorderCannotGet if !holds => (*check, Verdict::Failed),
        check => (*check, Verdict::Passed),
    };
    Conformance::from_verdicts(&Check::ALL.iter().map(verdict).collect::<Vec<_>>())
}

fn enforced(what: Option<Subresource>, holds: Option<bool>) -> EnforceReport {
    let state = BucketState { object_lock: true, versioning: true, ..BucketState::default() };
    let change = |what| StoreChange { subresource: what, from: "a".into(), to: "b".into() };
    EnforceReport {
        observed: state,
        changes: what.map(change).into_iter().collect(),
        conformance: holds.map(conformance),
        ..EnforceReport::default()
    }
}

/// Status of a bucket that was as required and passed the probe.
fn read_back() -> StorageStatus {
    let status = evaluate_bucket(Ok(enforced(None, Some(true))), None, at(0)).status.unwrap();
    StorageStatus { probed_access_hash: access_hash(&access("s")), ..status }
}

/// The store does not answer.
fn outage() -> EnforceError {
    EnforceError::Storage(StoreError::without_status("GetBucketVersioning", "Timeout"))
}

impl ScriptedStores {
    async fn ensure(&self, reported: Option<&StorageStatus>, now: i64) -> BucketEvaluation {
        self.ensure_with("s", reported, now).await
    }

    async fn ensure_with(
        &self,
        secret: &str,
        reported: Option<&StorageStatus>,
        now: i64,
    ) -> BucketEvaluation {
        let bucket = self.ensure_unreported(secret, reported, now).await;
        self.memory.mark_reported(&access(secret).claim.uid);
        bucket
    }

    /// Ensures the bucket, but its status cannot be written.
    async fn ensure_unreported(
        &self,
        secret: &str,
        reported: Option<&StorageStatus>,
        now: i64,
    ) -> BucketEvaluation {
        let (fence, access) = (Fence::always_open(), access(secret));
        ensure(self, &self.memory, &fence, Some(&access), reported, at(now)).await.unwrap()
    }

    fn probes(&self) -> Vec<Probe> {
        self.probes.lock().unwrap().clone()
    }
}

/// Failure after a change to the bucket, or before.
fn enforce_failure(error: EnforceError, what: Option<Subresource>) -> EnforceFailure {
    EnforceFailure {
        is_owned: !matches!(error, EnforceError::ClaimedByOther(_)),
        error,
        changes: enforced(what, None).changes,
        conformance: None,
    }
}

fn scripted_stores(
    answers: impl IntoIterator<Item = Result<EnforceReport, EnforceFailure>>,
) -> ScriptedStores {
    ScriptedStores { answers: Mutex::new(answers.into_iter().collect()), ..ScriptedStores::default() }
}

#[tokio::test]
async fn read_back_is_cached_for_five_minutes() {
    let stores =
        scripted_stores([Ok(enforced(Some(Subresource::Policy), Some(true))), Ok(enforced(None, None))]);
    let first = stores.ensure(None, 0).await;
    assert!(first.may_record() && first.finding.is_true());
    assert_eq!(first.changes[0].to_string(), "policy: a → b");
    assert!(!first.is_drift, "it had never been so");
    let second = stores.ensure(first.status.as_ref(), 299).await;
    assert_eq!((second.status.as_ref(), second.changes.len()), (first.status.as_ref(), 0));
    let third = stores.ensure(first.status.as_ref(), 300).await;
    assert_eq!(third.status.as_ref().unwrap().last_read_time, Time(at(300)));
    assert_eq!(third.status.unwrap().last_probe_time, Some(Time(at(0))));
    assert_eq!(stores.probes(), [Probe::Run, Probe::Skip]);
}

#[tokio::test]
async fn changed_credentials_trigger_read_back_and_probe() {
    let answers = [
        Ok(enforced(None, Some(true))),
        Err(enforce_failure(outage(), None)),
        Ok(enforced(None, Some(true))),
    ];
    let stores = scripted_stores(answers);
    let first = stores.ensure(None, 0).await;
    stores.ensure_with("new", first.status.as_ref(), 1).await;
    // The probe that was due is run now.
    stores.ensure_with("new", first.status.as_ref(), 10).await;
    assert_eq!(stores.probes(), [Probe::Run, Probe::Run, Probe::Run]);
}

/// A new leader has no cache, and the last probe that completed is an hour old.
// The error is as large as the product's own.
#[allow(clippy::result_large_err)]
#[tokio::test]
async fn new_leader_probes_what_no_probe_has_confirmed() {
    let wrong_key = || {
        let error = EnforceError::RecorderCannotPut { has_customer_key: false };
        Err(enforce_failure(error, None))
    };
    let probed = || scripted_stores([Ok(enforced(None, Some(true)))]);
    let first = probed().ensure(None, 0).await.status;
    // Nothing changed.
    let unchanged = scripted_stores([Ok(enforced(None, None))]);
    assert!(unchanged.ensure(first.as_ref(), 3600).await.finding.is_true());
    assert_eq!(unchanged.probes(), [Probe::Skip]);

    let before = scripted_stores([wrong_key()]);
    let failed = before.ensure_with("wrong", first.as_ref(), 3600).await;
    assert_eq!(before.probes(), [Probe::Run], "another key ID");
    let after = scripted_stores([wrong_key()]);
    let found = after.ensure_with("wrong", failed.status.as_ref(), 3700).await;
    assert_eq!(after.probes(), [Probe::Run]);
    assert!(!found.finding.is_true(), "{:?}", found.finding);

    let corrected = probed().ensure(found.status.as_ref(), 3800).await.status;
    let quiet = scripted_stores([Ok(enforced(None, None))]);
    quiet.ensure(corrected.as_ref(), 7000).await;
    assert_eq!(quiet.probes(), [Probe::Skip], "a probe confirmed the corrected key");
}

// The error is as large as the product's own.
#[allow(clippy::result_large_err)]
#[tokio::test]
async fn owned_bucket_stays_managed_when_recording_is_not_allowed() {
    let unfit = EnforceError::StoreUnsupported { reason: "w".into(), remedy: "r".into() };
    let answers = [unfit, EnforceError::ClaimedByOther(Claimant::SameCluster)]
        .map(|error| Err(enforce_failure(error, None)));
    let stores = scripted_stores(answers);
    let ours = stores.ensure(None, 0).await;
    assert_eq!((ours.may_record(), ours.is_ours()), (false, true));
    let theirs = stores.ensure(None, 3600).await;
    assert_eq!((theirs.may_record(), theirs.is_ours()), (false, false));
}

/// The read-back of the bucket and the probe results of the recorders are still valid.
#[tokio::test]
async fn missing_recorder_secret_keeps_reported_status() {
    let reported = read_back();
    let failure = enforce_failure(EnforceError::NoRecorderCredentials { is_in_sync: true }, None);
    let stores = scripted_stores([Err(failure)]);
    let bucket = stores.ensure(Some(&reported), 600).await;
    assert_eq!((bucket.may_record(), bucket.is_ours()), (true, true), "segments wait in the spools");
    let demanded = spec_hash(&access("s").spec);
    assert_eq!(
        bucket.status,
        Some(StorageStatus { bucket_spec_hash: demanded, ..reported }),
        "all else was as it must be"
    );
    assert!(bucket.is_stalled && bucket.finding.reason == Reason::DependencyNotReady);
}

#[tokio::test]
async fn drift_restored_before_store_failure_is_reported_and_probed() {
    let tried = StorageStatus { bucket_spec_hash: spec_hash(&access("s").spec), ..read_back() };
    let answers = [Err(enforce_failure(outage(), Some(Subresource::Policy))), Ok(enforced(None, Some(true)))];
    let stores = scripted_stores(answers);
    let bucket = stores.ensure(Some(&tried), 600).await;
    assert_eq!(bucket.changes[0].to_string(), "policy: a → b");
    assert!(bucket.is_drift && !bucket.finding.is_true());
    stores.ensure(Some(&tried), 700).await;
    assert_eq!(stores.probes(), [Probe::Skip, Probe::Run]);
}

#[tokio::test]
async fn restored_drift_is_reported_and_probe_repeats_daily() {
    let tried = StorageStatus { bucket_spec_hash: spec_hash(&access("s").spec), ..read_back() };
    let answers = [
        Ok(enforced(Some(Subresource::Lifecycle), Some(true))),
        Ok(enforced(None, Some(true))),
        Ok(enforced(None, Some(true))),
    ];
    let stores = scripted_stores(answers);
    let bucket = stores.ensure(Some(&tried), 600).await;
    assert_eq!(bucket.changes[0].to_string(), "lifecycle: a → b");
    assert!(bucket.is_drift, "though this process had not seen it before");
    stores.ensure(Some(&tried), 24 * 3600).await;
    assert_eq!(stores.probes(), [Probe::Skip, Probe::Run]);
}

/// The API server rejected the status, so the next reconcile reports the drift.
#[tokio::test]
async fn drift_is_reported_until_marked_reported() {
    let tried = StorageStatus { bucket_spec_hash: spec_hash(&access("s").spec), ..read_back() };
    let stores = scripted_stores([Ok(enforced(Some(Subresource::Policy), None))]);
    for second in 600..602 {
        let bucket = stores.ensure_unreported("s", Some(&tried), second).await;
        assert!(bucket.is_drift && bucket.changes.len() == 1);
    }
    stores.memory.mark_reported("u");
    let bucket = stores.ensure_unreported("s", Some(&tried), 602).await;
    assert!(!bucket.is_drift && bucket.changes.is_empty());
}

#[tokio::test]
async fn unknown_probe_rows_are_retried_hourly() {
    let tried = |verdict| {
        let mut enforced = enforced(None, Some(true));
        enforced.conformance = Some(match verdict {
            Some(verdict) => Conformance::from_verdicts(&[(Check::RecorderCannotGet, verdict)]),
            None => conformance(true),
        });
        evaluate_bucket(Ok(enforced), None, at(0)).status.unwrap()
    };
    assert!(!is_probe_due(&tried(None), at(3600)));
    assert!(is_probe_due(&tried(Some(Verdict::Passed)), at(3600)));
    assert!(!is_probe_due(&tried(Some(Verdict::Passed)), at(3599)));
    // A status from a version without a table.
    let older = StorageStatus { conformance: vec![], ..tried(None) };
    assert!(is_probe_due(&older, at(3600)));
}

#[tokio::test]
async fn store_outage_backs_off_and_recording_continues_only_after_read_back() {
    let [down, claimed] = [outage(), EnforceError::ClaimedByOther(Claimant::SameCluster)]
        .map(|error| enforce_failure(error, None));
    let stores = scripted_stores([Err(down), Err(claimed)]);
    let first = stores.ensure(None, 0).await;
    assert!(!first.may_record());
    assert_eq!(first.finding.status, ConditionStatus::Unknown);
    let again = stores.ensure(None, 0).await;
    assert_eq!(again.finding, first.finding);
    assert_eq!(stores.probes().len(), 1);

    let reported = read_back();
    let silent = evaluate_bucket(Err(outage()), Some(&reported), at(9));
    assert!(silent.may_record() && !silent.is_stalled);
    assert_eq!(silent.status, Some(reported.clone()));
    let refused =
        evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), Some(&reported), at(9));
    assert!(!refused.may_record() && refused.is_stalled);
    assert_eq!((refused.status, refused.finding.status), (None, ConditionStatus::False));
}

/// A failed row about access must be reported even if the store is unsupported.
#[tokio::test]
async fn unfit_store_still_reports_probe_results() {
    let unfit = EnforceError::StoreUnsupported { reason: "w".into(), remedy: "r".into() };
    let tried = EnforceFailure { conformance: Some(conformance(false)), ..enforce_failure(unfit, None) };
    let bucket = scripted_stores([Err(tried)]).ensure(None, 7).await;
    assert_eq!((bucket.status, bucket.probe_results.probed_at), (None, Some(Time(at(7)))));
    let fails = bucket.probe_results.rows.iter().find(|row| row.name == "RecorderCannotGet");
    assert_eq!(fails.unwrap().result, ConformanceResult::Failed);
}

#[tokio::test]
async fn bucket_without_access_or_leadership_is_not_contacted() {
    let stores = scripted_stores([]);
    let bucket = ensure(&stores, &stores.memory, &Fence::always_open(), None, None, at(0)).await.unwrap();
    assert!(!bucket.may_record());
    let behind = Fence::new(std::sync::Arc::new(BootClock));
    let refused = ensure(&stores, &stores.memory, &behind, Some(&access("s")), None, at(0)).await;
    assert_eq!(refused, Err(NotLeader));
    assert!(stores.probes().is_empty());
}

#[test]
fn debug_output_omits_credentials() {
    assert!(!format!("{:?}", access("hunter2")).contains("hunter2"));
}
