//! The probe of an empty bucket at any store. It gives the bucket a Site's configuration, runs the checks, and removes everything
//! again.

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::canary::{ignore_rejection, is_canary, remove_canaries};
use super::{Conformance, Exemptions, ExistingPolicy, ProbeTarget, UnknownReason, Verdict, run};
use crate::api::{Days, is_one_identity};
use crate::storage::bucket::apply::{create_bucket, put_policy, restore_policy};
use crate::storage::bucket::drift::DesiredBucket;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::policy::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::document::{Policy, parse_statements};
use crate::storage::bucket::policy::principals::AmbiguousPrincipal;
use crate::storage::bucket::policy::statements::bootstrap;
use crate::storage::bucket::probe::request::{ProbeError, ProbeRequest};
use crate::storage::bucket::proof::machines::prove_machines;
use crate::storage::bucket::spec::BucketSpec;
use crate::storage::bucket::state::BucketState;
use crate::storage::bucket::{lifecycle_write, observe};
use crate::storage::s3::send::send;
use crate::storage::s3::{BucketClient, BucketConnection, StoreError, objects};

/// Reads of a change before it counts as not kept.
const MAX_READ_BACKS: u32 = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// Attempts to remove the canaries.
const MAX_REMOVALS: u32 = 5;
/// The ceilings of the tried lifecycle rules (the protocol's own).
const CEILINGS: (Days, Days) = (Days(28), Days(7));
const NO_PRINCIPAL: &str = "the operator's principal was not given";
const NO_SITE_POLICY: &str = "the bucket has no Site's policy";
const INEFFECTIVE_POLICIES: &str = "bucket policies have no effect on this store's identities: give each the rights that toezicht iam --store \
                        identity-policies prints";
const POLICY_UNREADABLE: &str = "the bucket's policy is unreadable, so the probe did not replace it";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    pub conformance: Conformance,
    /// The policy under which the recorders' rows were tried, with the reason.
    pub remarks: Vec<String>,
    /// Keys of canaries and parts of the configuration that could not be removed.
    pub leftovers: Vec<String>,
}

/// Probes a bucket. Then the bucket is as it was, except for the leftovers in the report.
pub async fn probe(request: &ProbeRequest, stop: &CancellationToken) -> Result<ProbeReport, ProbeError> {
    let (operator, anonymous) = (request.operator.client(), request.operator.anonymous_client());
    let recorder = request.recorder.as_ref().map(BucketConnection::client);
    check_unambiguous_principals(request)?;
    let initial = prepare_bucket(&operator, request).await?;
    let probe = StandaloneProbe {
        operator: &operator,
        recorder: recorder.as_ref(),
        anonymous: &anonymous,
        request,
        initial: &initial,
    };
    let outcome = tokio::select! {
        outcome = Box::pin(probe.run_probe()) => Some(outcome),
        () = stop.cancelled() => None,
    };
    // Outside the `select!`: a stopped probe must still clean up.
    let leftovers = probe.restore_bucket(outcome.is_none()).await;
    match outcome {
        Some((conformance, remarks)) => Ok(ProbeReport { conformance, remarks, leftovers }),
        None => Err(ProbeError::Stopped { leftovers }),
    }
}

fn check_unambiguous_principals(request: &ProbeRequest) -> Result<(), AmbiguousPrincipal> {
    let given = [
        ("--operator-principal", &request.operator_principal),
        ("--recorder-principal", &request.recorder_principal),
    ];
    for (field, principal) in given {
        if let Some(principal) = principal.as_ref().filter(|principal| !is_one_identity(principal)) {
            return Err(AmbiguousPrincipal { field: field.to_owned(), principal: principal.clone() });
        }
    }
    Ok(())
}

/// Configuration of an empty bucket before the probe.
struct InitialBucket {
    /// Statements that let the operator in, to put back; `None`: the policy cannot be read.
    policy: Option<Vec<Value>>,
    /// Whether the store has a lifecycle.
    lifecycle: Result<bool, StoreError>,
}

/// Creates the bucket, or checks that it is empty.
async fn prepare_bucket(
    operator: &BucketClient,
    request: &ProbeRequest,
) -> Result<InitialBucket, ProbeError> {
    let in_use_error = |what: &str| Err(ProbeError::InUse(what.to_owned()));
    match send!(operator, "ListObjectVersions", list_object_versions()) {
        Ok(_) if request.create => return Err(ProbeError::BucketExists),
        Ok(page) => {
            let versions = page.versions().iter().filter_map(|it| it.key());
            let mut keys = versions.chain(page.delete_markers().iter().filter_map(|it| it.key()));
            if keys.any(|key| !is_canary(key)) {
                return in_use_error("objects");
            }
        }
        Err(error) if error.is_not_found() && request.create => {
            create_bucket(operator).await?;
        }
        Err(error) if error.is_not_found() => return Err(ProbeError::NoBucket),
        Err(error) => return Err(error.into()),
    }
    // A retention would keep the canaries in the bucket.
    if let Ok((_, Some(retention))) = observe::read_object_lock(operator).await {
        return in_use_error(&format!("a default retention ({})", retention.description));
    }
    let lifecycle = match observe::read_lifecycle(operator).await {
        Ok(Some(rules)) if !rules.is_empty() => return in_use_error("lifecycle rules"),
        Ok(rules) => Ok(rules.is_some()),
        Err(error) => Err(error),
    };
    let policy = match observe::read_policy(operator).await {
        Ok(None) => Some(Vec::new()),
        Ok(Some(text)) => {
            let document = serde_json::from_str::<Value>(&text).unwrap_or_default();
            let found = parse_statements(&document).unwrap_or_default();
            let principal = request.operator_principal.as_deref().unwrap_or_default();
            let needed =
                Policy::from_statements(&bootstrap(operator.into(), principal, true)).unwrap_or_default();
            let is_bootstrap = |policy: Policy| !policy.is_empty() && policy.is_subset_of(&needed);
            if !Policy::from_statements(&found).is_ok_and(is_bootstrap) {
                return in_use_error("a policy");
            }
            Some(found)
        }
        // Not fatal: without the policy, only its rows are not tried.
        Err(_) => None,
    };
    Ok(InitialBucket { policy, lifecycle })
}

/// The policy of the bucket during the probe: a Site's, or the one that was there.
struct ActivePolicy {
    statements: Vec<Value>,
    /// The operator, as the store's policies name it.
    operator: String,
    /// The form of "everyone but" in a Site's policy; `None`: it is no Site's policy.
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
        // Canaries of a run that was killed: a proof would find them under its keys.
        remove_canaries(self.operator, "probe/").await;
        let lifecycle = self.check_lifecycle().await.unwrap_or_else(Verdict::Unknown);
        let policy = self.prepare_policy(&mut remarks).await;
        let target = ProbeTarget {
            operator: self.operator,
            recorder: self.recorder,
            anonymous: self.anonymous,
            policy: policy.as_ref().map(|policy| ExistingPolicy {
                statements: &policy.statements,
                operator: &policy.operator,
                exemptions: match (policy.others, &self.request.recorder_principal) {
                    (Some(others), Some(recorder)) => {
                        Ok(Exemptions { others, recorder, auditor: None, readers: &[] })
                    }
                    _ => Err(NO_SITE_POLICY),
                },
            }),
            lifecycle: &lifecycle,
        };
        let (conformance, restored) = run(target).await;
        // Not fatal: the clean-up replaces the whole policy anyway.
        remarks.extend(restored.err().map(|error| error.to_string()));
        (conformance, remarks)
    }

    fn spec(&self) -> BucketSpec {
        let ProbeRequest { operator_principal, recorder_principal, .. } = self.request;
        let name = |principal: &'_ Option<String>| principal.clone().unwrap_or_default();
        BucketSpec::for_machines(CEILINGS, &name(operator_principal), &name(recorder_principal))
    }

    /// Writes the lifecycle rules of a Site, and reads them back.
    async fn check_lifecycle(&self) -> Result<Verdict, UnknownReason> {
        match &self.initial.lifecycle {
            Ok(true) => (),
            Ok(false) => return Ok(Verdict::Failed),
            Err(error) => return Err(error.clone().into()),
        }
        let mut desired = DesiredBucket::with_lifecycle_only(&self.spec())
            .map_err(|_| UnknownReason::NotTried("the ceilings leave no day for the lifecycle"))?;
        let bare = BucketState::default();
        // A rejection is no failure yet: only the rules that read back count.
        ignore_rejection(lifecycle_write::write_supported(self.operator, &mut desired, &bare).await)?;
        for _ in 0..MAX_READ_BACKS {
            match observe::read_lifecycle(self.operator).await? {
                Some(rules) if rules == desired.rule_set() => return Ok(Verdict::Passed),
                Some(_) => tokio::time::sleep(PAUSE).await,
                None => return Ok(Verdict::Failed),
            }
        }
        Ok(Verdict::Failed)
    }

    /// Puts a Site's policy if the principals are known. Returns the policy that the bucket then has.
    async fn prepare_policy(&self, remarks: &mut Vec<String>) -> Result<ActivePolicy, UnknownReason> {
        let mut add_remark = |reason: &str| {
            if self.recorder.is_some() {
                remarks.push(format!("the recorders were tried without a bucket policy: {reason}"));
            }
        };
        let (found, operator) = match (&self.initial.policy, &self.request.operator_principal) {
            (Some(found), Some(operator)) => (found, operator.clone()),
            (found, _) => {
                let reason = if found.is_some() { NO_PRINCIPAL } else { POLICY_UNREADABLE };
                add_remark(reason);
                return Err(UnknownReason::NotTried(reason));
            }
        };
        let (Some(recorder), Some(principal)) = (self.recorder, &self.request.recorder_principal) else {
            add_remark("the recorders' principal was not given");
            return Ok(ActivePolicy { statements: found.clone(), operator, others: None });
        };
        match self.prove_and_put_policy(recorder, (&operator, principal), found).await {
            Ok((statements, dialect)) if dialect.heeds_policies => {
                Ok(ActivePolicy { statements, operator, others: Some(dialect.others) })
            }
            Ok(_) => {
                add_remark(INEFFECTIVE_POLICIES);
                Err(UnknownReason::NotTried(INEFFECTIVE_POLICIES))
            }
            Err(reason) => {
                add_remark(&reason);
                Ok(ActivePolicy { statements: found.clone(), operator, others: None })
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
            Err(EnforceError::WrongPrincipal { identity }) => {
                return Err(format!("--{identity}-principal is not how the store names that identity"));
            }
            Err(error) => return Err(error.to_string()),
        };
        let desired =
            DesiredBucket::for_spec(self.operator.into(), &self.spec(), &dialect, self.operator.is_tls)
                .map_err(|error| error.to_string())?;
        match put_policy(self.operator, &desired.statements).await {
            Ok(()) => Ok((desired.statements, dialect)),
            // There are no statements then, and a store without policies rejects the deletion of one.
            Err(_) if !dialect.heeds_policies => Ok((Vec::new(), dialect)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Restores the bucket. Returns the leftovers.
    async fn restore_bucket(&self, is_stopped: bool) -> Vec<String> {
        let store = self.operator;
        let mut leftovers = self.remove_objects(is_stopped).await;
        let mut note = |part: &str, restored: Result<(), StoreError>| {
            leftovers.extend(restored.err().map(|error| format!("{part}: {error}")));
        };
        // Without the principal, the probe has not replaced the policy.
        let policy = self.initial.policy.as_ref().filter(|_| self.request.operator_principal.is_some());
        if let Some(policy) = policy {
            note("the policy", restore_policy(store, policy).await);
        }
        if matches!(self.initial.lifecycle, Ok(true)) {
            let answer = send!(store, "DeleteBucketLifecycle", delete_bucket_lifecycle());
            note("lifecycle rules", removed(answer));
        }
        // Last, since a store deletes only an empty bucket.
        if self.request.create {
            note("the bucket", removed(send!(store, "DeleteBucket", delete_bucket())));
        }
        leftovers
    }

    /// Removes the canaries. Returns the keys of the remaining objects.
    async fn remove_objects(&self, is_stopped: bool) -> Vec<String> {
        let mut remaining = Vec::new();
        for round in 0..MAX_REMOVALS {
            // An aborted request may still arrive at the store.
            if is_stopped || round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            remove_canaries(self.operator, "probe/").await;
            remaining = match objects::list_versions(self.operator, "").await {
                Ok(versions) => versions.into_iter().map(|version| version.key).collect(),
                Err(error) => vec![error.to_string()],
            };
            if remaining.is_empty() {
                break;
            }
        }
        remaining.dedup();
        remaining
    }
}

/// Accepts 404 as removed: the SDK repeats a request whose answer was lost.
fn removed<T>(answer: Result<T, StoreError>) -> Result<(), StoreError> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
