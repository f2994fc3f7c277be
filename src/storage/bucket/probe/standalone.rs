//! The probe of a bucket that was made for it: an empty one, without configuration, at any store. It is given
//! what a Site's bucket is given, is tried, and is empty and without configuration again.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::canary::remove_canaries;
use super::initial_bucket::{InitialBucket, prepare_bucket};
use super::{Conformance, Exemptions, ExistingPolicy, ProbeTarget, UnknownReason, Verdict, run};
use crate::api::{Days, is_one_identity};
use crate::storage::bucket::apply::put_policy;
use crate::storage::bucket::drift::DesiredBucket;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::lifecycle::BucketLifecycleRule;
use crate::storage::bucket::policy::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::principals::AmbiguousPrincipal;
use crate::storage::bucket::probe::request::{ProbeError, ProbeRequest};
use crate::storage::bucket::proof::machines::prove_machines;
use crate::storage::bucket::spec::{BucketSpec, BucketState};
use crate::storage::bucket::{desired, lifecycle_write, observe};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::objects;

/// How often a change is read back before it counts as not made.
const MAX_READ_BACKS: u32 = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// How often it is tried to remove the canaries.
const MAX_REMOVALS: u32 = 5;
/// The ceilings of the rules that are tried (the protocol's own).
const CEILINGS: (Days, Days) = (Days(28), Days(7));
const NO_PRINCIPAL: &str = "the operator's principal was not given";
const NO_SITE_POLICY: &str = "no Site's policy was put";
const INEFFECTIVE_POLICIES: &str = "bucket policies have no effect on this store's identities: give each the rights that toezicht iam --for \
                        identity-policies prints";
const POLICY_UNREADABLE: &str = "the bucket's policy could not be read, so none was put over it";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    pub conformance: Conformance,
    /// Under which policy the recorders' rows were tried, and why, in words.
    pub remarks: Vec<String>,
    /// What could not be removed: keys of canaries, or parts of the configuration.
    pub leftovers: Vec<String>,
}

/// Probes a bucket. Whatever comes of it, the bucket is as it was, or the report says what is not.
pub async fn probe(request: &ProbeRequest, stop: &CancellationToken) -> Result<ProbeReport, ProbeError> {
    let (operator, anonymous) = (request.operator.client(), request.operator.anonymous_client());
    let recorder = request.recorder.as_ref().map(BucketConnection::client);
    check_unambiguous_principals(request)?;
    let initial = prepare_bucket(&operator, request).await?;
    let site = StandaloneProbe {
        operator: &operator,
        recorder: recorder.as_ref(),
        anonymous: &anonymous,
        request,
        initial: &initial,
    };
    let tried = tokio::select! {
        tried = Box::pin(site.run_probe()) => Some(tried),
        () = stop.cancelled() => None,
    };
    let left = site.restore_bucket(tried.is_none()).await;
    let Some((conformance, remarks)) = tried else {
        return Err(ProbeError::Stopped { leftovers: left });
    };
    Ok(ProbeReport { conformance, remarks, leftovers: left })
}

fn check_unambiguous_principals(request: &ProbeRequest) -> Result<(), AmbiguousPrincipal> {
    let given = [
        ("--operator-principal", &request.operator_principal),
        ("--recorder-principal", &request.recorder_principal),
    ];
    for (field, principal) in given {
        if let Some(principal) = principal.as_ref().filter(|principal| !is_one_identity(principal)) {
            let (field, principal) = (field.to_owned(), principal.clone());
            return Err(AmbiguousPrincipal { field, principal });
        }
    }
    Ok(())
}

/// A policy that was put, or is as it was found.
struct ActivePolicy {
    statements: Vec<Value>,
    /// The operator as the store's policies name it.
    operator: String,
    /// How a Site's policy says "everyone but"; `None`: this is none.
    others: Option<EveryoneExcept>,
}

struct StandaloneProbe<'a> {
    operator: &'a BucketClient,
    recorder: Option<&'a BucketClient>,
    anonymous: &'a BucketClient,
    request: &'a ProbeRequest,
    initial: &'a InitialBucket,
}

impl StandaloneProbe<'_> {
    async fn run_probe(&self) -> (Conformance, Vec<String>) {
        let mut remarks = Vec::new();
        // Canaries of a run that was killed.
        remove_canaries(self.operator, "probe/").await;
        let lifecycle = self.check_lifecycle().await.unwrap_or_else(Verdict::Unknown);
        let policy = self.prepare_policy(&mut remarks).await;
        let subject = ProbeTarget {
            operator: self.operator,
            recorder: self.recorder,
            anonymous: self.anonymous,
            policy: policy.as_ref().map(|put| ExistingPolicy {
                statements: &put.statements,
                operator: &put.operator,
                exemptions: match (put.others, &self.request.recorder_principal) {
                    (Some(others), Some(recorder)) => {
                        Ok(Exemptions { others, recorder, auditor: None, readers: &[] })
                    }
                    _ => Err(NO_SITE_POLICY),
                },
            }),
            lifecycle: &lifecycle,
        };
        let (conformance, restored) = run(subject).await;
        // It is removed as a whole in any case.
        if let Err(error) = restored {
            remarks.push(error.to_string());
        }
        (conformance, remarks)
    }

    fn spec(&self) -> BucketSpec {
        let name = |principal: &Option<String>| principal.clone().unwrap_or_default();
        BucketSpec {
            video_ceiling: CEILINGS.0,
            calls_ceiling: CEILINGS.1,
            operator_principal: name(&self.request.operator_principal),
            recorder_principal: name(&self.request.recorder_principal),
            auditor: None,
            readers: Vec::new(),
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        }
    }

    /// Writes the rules of a site, and reads them back.
    async fn check_lifecycle(&self) -> Result<Verdict, UnknownReason> {
        match &self.initial.lifecycle {
            Ok(true) => (),
            Ok(false) => return Ok(Verdict::Failed),
            Err(error) => return Err(error.clone().into()),
        }
        let rules = desired::lifecycle_rules(&self.spec())
            .map_err(|_| UnknownReason::NotTried("the ceilings leave no day for the lifecycle"))?;
        let mut desired = DesiredBucket {
            lifecycle: rules,
            statements: Vec::new(),
            policy: None,
            unsupported: BTreeSet::new(),
        };
        let put =
            lifecycle_write::write_supported(self.operator, &mut desired, &BucketState::default()).await;
        // Whatever the answer was, what can be read back counts.
        super::canary::ignore_rejection(put)?;
        let wanted: BTreeSet<BucketLifecycleRule> = desired.lifecycle.values().cloned().collect();
        for _ in 0..MAX_READ_BACKS {
            match observe::read_lifecycle(self.operator).await? {
                Some(rules) if rules == wanted => return Ok(Verdict::Passed),
                Some(_) => tokio::time::sleep(PAUSE).await,
                None => return Ok(Verdict::Failed),
            }
        }
        Ok(Verdict::Failed)
    }

    /// Puts a Site's policy, if the principals are known: the policy that is then there.
    async fn prepare_policy(&self, remarks: &mut Vec<String>) -> Result<ActivePolicy, UnknownReason> {
        let mut add_remark = |why: &str| {
            if self.recorder.is_some() {
                remarks.push(format!("the recorders were tried without a bucket policy: {why}"));
            }
        };
        let Some(found) = &self.initial.policy else {
            add_remark(POLICY_UNREADABLE);
            return Err(UnknownReason::NotTried(POLICY_UNREADABLE));
        };
        let Some(us) = self.request.operator_principal.clone() else {
            add_remark(NO_PRINCIPAL);
            return Err(UnknownReason::NotTried(NO_PRINCIPAL));
        };
        let as_found = |operator: String| ActivePolicy { statements: found.clone(), operator, others: None };
        let (Some(recorder), Some(them)) = (self.recorder, &self.request.recorder_principal) else {
            add_remark("the recorders' principal was not given");
            return Ok(as_found(us));
        };
        match self.prove_and_put_policy(recorder, (&us, them), found).await {
            Ok((statements, dialect)) if dialect.heeds_policies => {
                Ok(ActivePolicy { statements, operator: us, others: Some(dialect.others) })
            }
            Ok(_) => {
                add_remark(INEFFECTIVE_POLICIES);
                Err(UnknownReason::NotTried(INEFFECTIVE_POLICIES))
            }
            Err(why) => {
                add_remark(&why);
                Ok(as_found(us))
            }
        }
    }

    async fn prove_and_put_policy(
        &self,
        recorder: &BucketClient,
        principals: (&str, &str),
        found: &[Value],
    ) -> Result<(Vec<Value>, Dialect), String> {
        let dialect = match prove_machines(self.operator, recorder, principals, found).await {
            Ok(dialect) => dialect,
            Err(EnforceError::WrongPrincipal { identity: whose }) => {
                return Err(format!("--{whose}-principal is not how the store names that identity"));
            }
            Err(error) => return Err(error.to_string()),
        };
        let desired =
            DesiredBucket::for_spec(self.operator.into(), &self.spec(), &dialect, self.operator.is_tls)
                .map_err(|error| error.to_string())?;
        match put_policy(self.operator, &desired.statements).await {
            Ok(()) => Ok((desired.statements, dialect)),
            // Without statements it was to be removed, and where no policies are known there is none.
            Err(_) if !dialect.heeds_policies => Ok((Vec::new(), dialect)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Makes the bucket what it was. What is left.
    async fn restore_bucket(&self, is_stopped: bool) -> Vec<String> {
        let store = self.operator;
        // What a request removed whose answer was lost is not there when it is made again.
        let failed = |error: &StoreError| !error.is_not_found();
        let mut left = self.remove_objects(is_stopped).await;
        if let Some(policy) =
            self.initial.policy.as_ref().filter(|_| self.request.operator_principal.is_some())
        {
            let error = put_policy(store, policy).await.err();
            let error = error.filter(|error| !policy.is_empty() || failed(error));
            left.extend(error.map(|error| format!("the policy: {error}")));
        }
        if matches!(self.initial.lifecycle, Ok(true)) {
            let answer = store.client.delete_bucket_lifecycle().bucket(&store.bucket).send().await;
            let error = answer
                .err()
                .map(|error| StoreError::from_sdk("DeleteBucketLifecycle", &error))
                .filter(failed);
            left.extend(error.map(|error| format!("lifecycle rules: {error}")));
        }
        if self.request.create {
            let answer = store.client.delete_bucket().bucket(&store.bucket).send().await;
            let error = answer.err().map(|error| StoreError::from_sdk("DeleteBucket", &error)).filter(failed);
            left.extend(error.map(|error| format!("the bucket: {error}")));
        }
        left
    }

    /// Removes the canaries. What is left.
    async fn remove_objects(&self, is_stopped: bool) -> Vec<String> {
        let mut left = Vec::new();
        for round in 0..MAX_REMOVALS {
            // A request that was given up half way may still land.
            if is_stopped || round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            remove_canaries(self.operator, "probe/").await;
            left = match objects::list_versions(self.operator, "").await {
                Ok(versions) => versions.into_iter().map(|version| version.key).collect(),
                Err(error) => vec![error.to_string()],
            };
            if left.is_empty() {
                break;
            }
        }
        left.dedup();
        left
    }
}
