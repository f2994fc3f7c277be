use std::collections::VecDeque;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::Days;
use crate::api::condition::{Reason, Truth};
use crate::contract::Credentials;
use crate::controllers::kit::clock::BootClock;
use crate::storage::error::StoreError;
use crate::storage::probe::{Check, Verdict};
use crate::storage::{Aspect, BucketSpec, BucketState, Change, Conformance, EnforceError};

type Answers = VecDeque<Result<Enforced, Failed>>;

/// A store that gives the answers it was told to, and notes which trials were asked for.
#[derive(Default)]
struct Scripted {
    answers: Mutex<Answers>,
    asked: Mutex<Vec<Trials>>,
}

#[async_trait]
impl Stores for Scripted {
    async fn enforce(&self, _: &Access, trials: Trials) -> Result<Enforced, Failed> {
        self.asked.lock().unwrap().push(trials);
        self.answers.lock().unwrap().pop_front().expect("the store was asked once more than expected")
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn access(secret: &str) -> Access {
    let target = StorageTarget {
        endpoint: None,
        region: "r".into(),
        bucket: "b".into(),
        path_style: false,
        ca_pem: None,
        credentials: Credentials::keys("id", secret),
        proxy: None,
    };
    let spec = BucketSpec {
        video_ceiling: Days(28),
        calls_ceiling: Days(7),
        operator_principal: "o".into(),
        recorder_principal: "r".into(),
        auditor: None,
        readers: vec![],
        take_over: false,
        operator_only: false,
        allow_unprotected: false,
    };
    let claim = Claim { cluster_id: "c".into(), namespace: "n".into(), site: "s".into(), uid: "u".into() };
    Access { operator: target.clone(), recorder: Some(target), spec, claim }
}

/// A table in which all holds, but for one row if so wished.
fn conformance(holds: bool) -> Conformance {
    let verdict = |check: &Check| match check {
        Check::RecorderCannotGet if !holds => (*check, Verdict::Fails),
        check => (*check, Verdict::Holds),
    };
    Conformance::of(&Check::ALL.iter().map(verdict).collect::<Vec<_>>())
}

fn enforced(what: Option<Aspect>, holds: Option<bool>) -> Enforced {
    let state = BucketState { object_lock: true, versioning: true, ..BucketState::default() };
    Enforced {
        read_back: state,
        changed: what.map(|what| Change { what, from: "a".into(), to: "b".into() }).into_iter().collect(),
        conformance: holds.map(conformance),
        gaps: vec![],
        left_out: vec![],
    }
}

/// The store does not answer.
fn outage() -> EnforceError {
    EnforceError::Storage(StoreError {
        operation: "GetBucketVersioning",
        code: "Timeout".into(),
        status: None,
    })
}

async fn look(
    stores: &Scripted,
    memory: &Memory,
    secret: &str,
    reported: Option<&StorageStatus>,
    now: i64,
) -> Bucket {
    let bucket = seen(stores, memory, secret, reported, now).await;
    memory.told(&access(secret).claim.uid);
    bucket
}

/// The same, and what was changed could not be told.
async fn seen(
    stores: &Scripted,
    memory: &Memory,
    secret: &str,
    reported: Option<&StorageStatus>,
    now: i64,
) -> Bucket {
    keep(stores, memory, &Fence::open(), Some(&access(secret)), reported, at(now)).await.unwrap()
}

/// It failed, after something was changed or before.
fn failed(error: EnforceError, what: Option<Aspect>) -> Failed {
    Failed {
        is_ours: error != EnforceError::Claimed,
        error,
        changed: enforced(what, None).changed,
        conformance: None,
    }
}

fn told(answers: impl IntoIterator<Item = Result<Enforced, Failed>>) -> Scripted {
    Scripted { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() }
}

#[tokio::test]
async fn what_was_read_back_counts_for_five_minutes() {
    let (stores, memory) =
        (told([Ok(enforced(Some(Aspect::Policy), Some(true))), Ok(enforced(None, None))]), Memory::default());
    let first = look(&stores, &memory, "s", None, 0).await;
    assert!(first.may_record() && first.finding.is_true());
    assert_eq!(first.changes[0].to_string(), "policy: a → b");
    assert!(!first.is_drift, "it had never been so");
    let second = look(&stores, &memory, "s", first.status.as_ref(), 299).await;
    assert_eq!((second.status.as_ref(), second.changes.len()), (first.status.as_ref(), 0));
    let third = look(&stores, &memory, "s", first.status.as_ref(), 300).await;
    assert_eq!(third.status.as_ref().unwrap().read_back_at, Time(at(300)));
    assert_eq!(third.status.unwrap().tried_at, Some(Time(at(0))));
    assert_eq!(*stores.asked.lock().unwrap(), [Trials::Run, Trials::Keep]);
}

#[tokio::test]
async fn another_secret_is_read_back_and_tried_at_once() {
    let answers =
        [Ok(enforced(None, Some(true))), Err(failed(outage(), None)), Ok(enforced(None, Some(true)))];
    let (stores, memory) = (told(answers), Memory::default());
    let first = look(&stores, &memory, "s", None, 0).await;
    look(&stores, &memory, "new", first.status.as_ref(), 1).await;
    // The trials that were due are made up for.
    look(&stores, &memory, "new", first.status.as_ref(), 10).await;
    assert_eq!(*stores.asked.lock().unwrap(), [Trials::Run, Trials::Run, Trials::Run]);
}

// The error is as large as the product's own.
#[allow(clippy::result_large_err)]
#[tokio::test]
async fn what_is_in_a_bucket_of_ours_is_looked_after_though_nothing_may_be_recorded() {
    let unfit = EnforceError::StoreUnfit { what: "w".into(), remedy: "r".into() };
    let answers = [unfit, EnforceError::Claimed].map(|error| Err(failed(error, None)));
    let (stores, memory) = (told(answers), Memory::default());
    let ours = look(&stores, &memory, "s", None, 0).await;
    assert_eq!((ours.may_record(), ours.is_ours()), (false, true));
    let theirs = look(&stores, &memory, "s", None, 3600).await;
    assert_eq!((theirs.may_record(), theirs.is_ours()), (false, false));
}

/// What was read back of the bucket is still true, and what was tried of the recorders is what is known of them.
#[tokio::test]
async fn without_the_recorders_secret_what_was_reported_stays() {
    let reported = judge(Ok(enforced(None, Some(true))), None, at(0)).status.unwrap();
    let stores = told([Err(failed(EnforceError::NoRecorder { in_sync: true }, None))]);
    let bucket = look(&stores, &Memory::default(), "s", Some(&reported), 600).await;
    assert_eq!((bucket.may_record(), bucket.is_ours()), (false, true));
    let demanded = digest(&access("s").spec);
    assert_eq!(bucket.status, Some(StorageStatus { demanded, ..reported }), "all else was as it must be");
    assert!(bucket.is_stalled && bucket.finding.reason == Reason::DependsOn);
}

#[tokio::test]
async fn drift_that_was_put_back_before_the_store_failed_is_reported_and_tried() {
    let mut tried = judge(Ok(enforced(None, Some(true))), None, at(0)).status.unwrap();
    tried.demanded = digest(&access("s").spec);
    let answers = [Err(failed(outage(), Some(Aspect::Policy))), Ok(enforced(None, Some(true)))];
    let (stores, memory) = (told(answers), Memory::default());
    let bucket = look(&stores, &memory, "s", Some(&tried), 600).await;
    assert_eq!(bucket.changes[0].to_string(), "policy: a → b");
    assert!(bucket.is_drift && !bucket.finding.is_true());
    look(&stores, &memory, "s", Some(&tried), 700).await;
    assert_eq!(*stores.asked.lock().unwrap(), [Trials::Keep, Trials::Run]);
}

#[tokio::test]
async fn drift_that_was_put_back_is_reported_and_a_day_later_all_is_tried_again() {
    let mut tried = judge(Ok(enforced(None, Some(true))), None, at(0)).status.unwrap();
    tried.demanded = digest(&access("s").spec);
    let answers = [
        Ok(enforced(Some(Aspect::Lifecycle), Some(true))),
        Ok(enforced(None, Some(true))),
        Ok(enforced(None, Some(true))),
    ];
    let (stores, memory) = (told(answers), Memory::default());
    let bucket = look(&stores, &memory, "s", Some(&tried), 600).await;
    assert_eq!(bucket.changes[0].to_string(), "lifecycle: a → b");
    assert!(bucket.is_drift, "though this process had not seen it before");
    look(&stores, &memory, "s", Some(&tried), 24 * 3600).await;
    assert_eq!(*stores.asked.lock().unwrap(), [Trials::Keep, Trials::Run]);
}

/// The API server did not take the status: what was put back is told by the next look.
#[tokio::test]
async fn drift_is_told_until_it_was_told() {
    let mut tried = judge(Ok(enforced(None, Some(true))), None, at(0)).status.unwrap();
    tried.demanded = digest(&access("s").spec);
    let (stores, memory) = (told([Ok(enforced(Some(Aspect::Policy), None))]), Memory::default());
    for second in 600..602 {
        let bucket = seen(&stores, &memory, "s", Some(&tried), second).await;
        assert!(bucket.is_drift && bucket.changes.len() == 1);
    }
    memory.told("u");
    let bucket = seen(&stores, &memory, "s", Some(&tried), 602).await;
    assert!(!bucket.is_drift && bucket.changes.is_empty());
}

#[tokio::test]
async fn what_could_not_be_told_is_tried_again_within_the_hour() {
    let tried = |verdict| {
        let mut enforced = enforced(None, Some(true));
        enforced.conformance = Some(match verdict {
            Some(verdict) => Conformance::of(&[(Check::RecorderCannotGet, verdict)]),
            None => conformance(true),
        });
        judge(Ok(enforced), None, at(0)).status.unwrap()
    };
    assert!(!trials_are_due(&tried(None), at(3600)));
    assert!(trials_are_due(&tried(Some(Verdict::Holds)), at(3600)));
    assert!(!trials_are_due(&tried(Some(Verdict::Holds)), at(3599)));
    // A status of a version that kept no table.
    let older = StorageStatus { conformance: vec![], ..tried(None) };
    assert!(trials_are_due(&older, at(3600)));
}

#[tokio::test]
async fn errors_back_off_and_recording_goes_on_only_where_it_was_right_before() {
    let (stores, memory) =
        (told([Err(failed(outage(), None)), Err(failed(EnforceError::Claimed, None))]), Memory::default());
    let first = look(&stores, &memory, "s", None, 0).await;
    assert!(!first.may_record());
    assert_eq!(first.finding.truth, Truth::Unknown);
    let again = look(&stores, &memory, "s", None, 0).await;
    assert_eq!(again.finding, first.finding);
    assert_eq!(stores.asked.lock().unwrap().len(), 1);

    let reported = judge(Ok(enforced(None, Some(true))), None, at(0)).status.unwrap();
    let silent = judge(Err(outage()), Some(&reported), at(9));
    assert!(silent.may_record() && !silent.is_stalled);
    assert_eq!(silent.status, Some(reported.clone()));
    let refused = judge(Err(EnforceError::Claimed), Some(&reported), at(9));
    assert!(!refused.may_record() && refused.is_stalled);
    assert_eq!((refused.status, refused.finding.truth), (None, Truth::False));
}

/// A table that refuses the bucket is told all the same: the row that fails may be about access.
#[tokio::test]
async fn the_table_of_a_store_that_is_unfit_is_told() {
    let unfit = EnforceError::StoreUnfit { what: "w".into(), remedy: "r".into() };
    let tried = Failed { conformance: Some(conformance(false)), ..failed(unfit, None) };
    let bucket = look(&told([Err(tried)]), &Memory::default(), "s", None, 7).await;
    assert_eq!((bucket.status, bucket.tried.at), (None, Some(Time(at(7)))));
    let fails = bucket.tried.rows.iter().find(|row| row.name == "RecorderCannotGet");
    assert_eq!(fails.unwrap().verdict, ConformanceVerdict::Fails);
}

#[tokio::test]
async fn a_bucket_that_may_not_be_used_is_not_looked_at() {
    let (stores, memory) = (told([]), Memory::default());
    let bucket = keep(&stores, &memory, &Fence::open(), None, None, at(0)).await.unwrap();
    assert!(!bucket.may_record());
    let behind = Fence::new(std::sync::Arc::new(BootClock));
    let refused = keep(&stores, &memory, &behind, Some(&access("s")), None, at(0)).await;
    assert_eq!(refused, Err(NotLeader));
    assert!(stores.asked.lock().unwrap().is_empty());
}

#[test]
fn credentials_are_not_shown() {
    assert!(!format!("{:?}", access("hunter2")).contains("hunter2"));
}
