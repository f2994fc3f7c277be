//! Making a bucket compliant: observe, create or adopt, claim, prove, write the differences, read back, probe.

use super::adoption::AdoptionConflict;
use super::drift::DesiredBucket;
use super::error::EnforceError;
use super::observe::{ObservedBucket, observe};
use super::owner::{Claim, Claimant, Owner};
use super::policy::dialect::Dialect;
use super::policy::principals;
use super::probe::{Conformance, Exemptions, ExistingPolicy, ProbeTarget, UnknownReason, Verdict, canary};
use super::proof::machines::prove_machines;
use super::proof::people;
use super::spec::{BucketSpec, EnforceReport, StoreChange};
use super::subresources::Subresource;
use super::sync::sync_bucket;
use super::{adoption, apply, fitness, foreign_objects, owner, probe};
use crate::storage::s3::{BucketClient, BucketConnection, StoreError, TargetError, objects};

/// The proved dialect of the store. It is proved once, so that a bucket in sync is not written.
const DIALECT_KEY: &str = "ledger/dialect.json";
const INEFFECTIVE_POLICIES: &str =
    "bucket policies have no effect on this store's identities: the rights of others cannot be tried";

/// Whether the operator probes the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Probe: on adoption, after a change of the policy or the credentials, and daily. Writes canaries.
    Run,
    /// Probe only after a change of the bucket.
    Skip,
}

/// Reason that a bucket is not compliant, and the changes that the operator made before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforceFailure {
    pub error: EnforceError,
    /// The changes, in order.
    pub changes: Vec<StoreChange>,
    /// The bucket is claimed for this Site.
    pub is_owned: bool,
    /// Results of the probe, if it ran.
    pub conformance: Option<Conformance>,
}

impl From<TargetError> for EnforceFailure {
    fn from(error: TargetError) -> Self {
        Self { error: error.into(), changes: Vec::new(), is_owned: false, conformance: None }
    }
}

/// Makes the bucket compliant as the operator, and probes the recorders' credentials. If `recorder` is `None`, drift is still
/// corrected, and the result is [`EnforceError::NoRecorderCredentials`].
///
/// Idempotent: in sync, it reads and writes nothing (with [`Probe::Skip`]). Dropping the future may leave statements and
/// canaries of a proof, which concern `probe/` alone; the next run removes them.
pub async fn enforce(
    operator: &BucketConnection,
    recorder: Option<&BucketConnection>,
    spec: &BucketSpec,
    claim: &Claim,
    probe_mode: Probe,
) -> Result<EnforceReport, EnforceFailure> {
    let store = operator.client();
    let mut enforcement = Enforcement {
        operator: &store,
        spec,
        claim,
        probe_mode,
        changes: Vec::new(),
        is_owned: false,
        conformance: None,
    };
    let outcome = enforcement.run(operator, recorder).await;
    outcome.map_err(|error| EnforceFailure {
        error: error.with_advice(|error| store.advice(error)),
        changes: enforcement.changes,
        is_owned: enforcement.is_owned,
        conformance: enforcement.conformance,
    })
}

/// One run of [`enforce`], with its progress.
struct Enforcement<'a> {
    operator: &'a BucketClient,
    spec: &'a BucketSpec,
    claim: &'a Claim,
    probe_mode: Probe,
    changes: Vec<StoreChange>,
    is_owned: bool,
    conformance: Option<Conformance>,
}

impl Enforcement<'_> {
    async fn run(
        &mut self,
        connection: &BucketConnection,
        recorder: Option<&BucketConnection>,
    ) -> Result<EnforceReport, EnforceError> {
        let (anonymous, recorder) = (connection.anonymous_client(), recorder.map(BucketConnection::client));
        // Before the first request: a Site with an impossible specification must not even create a bucket.
        super::desired::lifecycle_rules(self.spec)?;
        principals::check_distinct_principals(self.spec)?;
        let mut observed = self.ensure_bucket().await?;
        self.check_prerequisites(&observed)?;
        // Before any other write: of two clusters with one bucket, only the owner may configure it.
        self.ensure_claimed(&observed).await?;
        self.is_owned = true;
        let is_touched = self.ensure_no_default_retention(&mut observed).await?;
        let mut dialect = self.load_or_prove_dialect(recorder.as_ref(), &observed).await?;
        let stored_dialect = dialect.clone();
        if self.probe_mode == Probe::Run {
            // The operator may have another right by now, or the store another release.
            dialect.given_up.clear();
        }
        // Earlier changes do not affect rights, so they need no probe.
        let before = self.changes.len();
        let (read_back, desired) = self.sync(recorder.as_ref(), &mut dialect, observed, is_touched).await?;
        dialect.given_up.clone_from(&desired.unsupported);
        // A write even without a difference would break "in sync means zero writes".
        if dialect != stored_dialect {
            save_dialect(self.operator, &dialect).await?;
        }
        // Only after the writes: drift is corrected even without the recorders' credentials.
        let recorder = recorder.ok_or(EnforceError::NoRecorderCredentials { is_in_sync: true })?;
        if self.probe_mode == Probe::Run || self.changes.len() > before {
            let (table, restored) =
                self.run_probe(&recorder, &anonymous, &desired, &dialect, &read_back).await;
            // First: the status shows the table even if the store is unfit.
            self.conformance = Some(table.clone());
            restored?;
            fitness::evaluate(&table, self.spec, dialect.heeds_policies, &read_back.state)?;
        }
        Ok(EnforceReport {
            observed: read_back.state,
            changes: std::mem::take(&mut self.changes),
            conformance: self.conformance.take(),
            limitations: dialect.limitations(self.operator.is_tls),
            unknown_principals: dialect.left_out.into_iter().collect(),
        })
    }

    /// Returns the bucket as read. Creates it if there is none.
    async fn ensure_bucket(&mut self) -> Result<ObservedBucket, EnforceError> {
        if let Some(observed) = observe(self.operator).await? {
            return Ok(observed);
        }
        match apply::create_bucket(self.operator).await {
            Ok(change) => self.changes.push(change),
            // An aborted run sent the request that created it. Now it counts as found.
            Err(error) if error.code == "BucketAlreadyOwnedByYou" => (),
            Err(error) => return Err(error.into()),
        }
        let vanished =
            StoreError { operation: "GetBucketVersioning", code: "NoSuchBucket".into(), status: Some(404) };
        observe(self.operator).await?.ok_or(EnforceError::Storage(vanished))
    }

    /// Checks the properties that an existing bucket cannot get later.
    fn check_prerequisites(&self, observed: &ObservedBucket) -> Result<(), EnforceError> {
        if !observed.state.object_lock {
            let conflicts = vec![AdoptionConflict::NoObjectLock];
            return Err(EnforceError::Unadoptable { conflicts });
        }
        if observed.state.lifecycle.is_none() && !self.spec.operator_only {
            return Err(EnforceError::StoreUnsupported {
                reason: "the store has no lifecycle, so recordings would outlive their ceiling while the operator is down"
                    .into(),
                remedy: "use a store with a lifecycle, or decide on retentionEnforcement: OperatorOnly".into(),
            });
        }
        Ok(())
    }

    /// Claims the bucket. An unclaimed one with a configuration of its own stays as it is, unless it is to be taken over.
    async fn ensure_claimed(&mut self, observed: &ObservedBucket) -> Result<(), EnforceError> {
        match owner::read_owner(self.operator, self.claim).await? {
            Owner::ThisSite => return Ok(()),
            Owner::OtherSite(claimant) => return Err(EnforceError::ClaimedByOther(claimant)),
            Owner::Unclaimed => (),
        }
        let mut from = "unclaimed";
        // This run created the bucket if it changed anything: then there is nothing of anybody else, visible or not.
        if self.changes.is_empty() {
            let has_foreign_objects = foreign_objects::has_foreign_objects(self.operator).await?;
            let mut conflicts = adoption::find_conflicts(
                self.operator.into(),
                self.spec,
                &observed.state,
                observed.is_policy_unreadable,
                has_foreign_objects,
            )?;
            conflicts.retain(|conflict| !self.spec.take_over || !conflict.is_resolved_by_take_over());
            if !conflicts.is_empty() {
                return Err(EnforceError::Unadoptable { conflicts });
            }
            if has_foreign_objects {
                from = "unclaimed, with foreign objects, which stay";
            }
        }
        match owner::claim(self.operator, self.claim).await? {
            Owner::ThisSite => (),
            Owner::OtherSite(claimant) => return Err(EnforceError::ClaimedByOther(claimant)),
            // The store does not list the claim that it took.
            Owner::Unclaimed => return Err(EnforceError::ClaimedByOther(Claimant::Unknown)),
        }
        self.changes.push(StoreChange::new(Subresource::Claim, from, "this Site's"));
        Ok(())
    }

    /// Removes a default retention before any other write, because it would protect the canaries, too. Returns whether there
    /// was one.
    async fn ensure_no_default_retention(
        &mut self,
        observed: &mut ObservedBucket,
    ) -> Result<bool, EnforceError> {
        let Some(retention) = observed.state.default_retention.take() else {
            return Ok(false);
        };
        apply::clear_default_retention(self.operator).await?;
        self.changes.push(StoreChange::new(Subresource::DefaultRetention, retention.description, "none"));
        Ok(true)
    }

    /// Returns the dialect of the store, from the ledger or from a proof with these principals.
    async fn load_or_prove_dialect(
        &self,
        recorder: Option<&BucketClient>,
        observed: &ObservedBucket,
    ) -> Result<Dialect, EnforceError> {
        let principals = (self.spec.operator_principal.as_str(), self.spec.recorder_principal.as_str());
        let stored = match objects::read_json::<Dialect>(self.operator, DIALECT_KEY, None).await {
            // A file that somebody overwrote reads as `None` too: a new proof replaces it.
            Err(error) if error.is_not_found() => None,
            stored => stored?,
        };
        let stored = stored.filter(|it| (it.operator.as_str(), it.recorder.as_str()) == principals);
        // Without recorder credentials there can be no new proof, so the proof of an earlier version still counts.
        if let Some(dialect) = stored.filter(|dialect| dialect.is_current() || recorder.is_none()) {
            return Ok(dialect);
        }
        let recorder = recorder.ok_or(EnforceError::NoRecorderCredentials { is_in_sync: false })?;
        if !canary::supports_tags(self.operator).await? {
            return Err(EnforceError::StoreUnsupported {
                reason: "the store rejects object tags, and a recording's tag is its retention class".into(),
                remedy: "use a store with object tags".into(),
            });
        }
        let dialect = prove_machines(self.operator, recorder, principals, &observed.statements).await?;
        save_dialect(self.operator, &dialect).await?;
        Ok(dialect)
    }

    /// Proves the people's principals if that is due, then writes the differences and reads them back.
    async fn sync(
        &mut self,
        recorder: Option<&BucketClient>,
        dialect: &mut Dialect,
        observed: ObservedBucket,
        is_touched: bool,
    ) -> Result<(ObservedBucket, DesiredBucket), EnforceError> {
        let people = people::PeopleProver { operator: self.operator, recorder, spec: self.spec };
        // An identity that the store did not know may exist by now.
        let is_proof_due = self.probe_mode == Probe::Run && !dialect.left_out.is_empty();
        if is_proof_due || dialect.people != people::principals_of(self.spec) {
            people.prove_people(dialect, &observed.statements).await?;
        }
        // The proof after a failed write restores the policy from before it.
        let statements = observed.statements.clone();
        let mut desired = people.desired_bucket(dialect)?;
        let outcome = sync_bucket(self.operator, &mut desired, observed, is_touched, &mut self.changes).await;
        let error = match outcome {
            Ok(read_back) => return Ok((read_back, desired)),
            Err(error) if error.may_be_about_people() && !dialect.people.is_empty() => error,
            Err(error) => return Err(error.into()),
        };
        // The store may have lost an identity that the policy names, such as a deleted user.
        let known = dialect.left_out.clone();
        people.prove_people(dialect, &statements).await?;
        // The people were not the cause, so a second write would fail, too.
        if dialect.left_out == known {
            return Err(error.into());
        }
        desired = people.desired_bucket(dialect)?;
        let observed = self.ensure_bucket().await?;
        let read_back = sync_bucket(self.operator, &mut desired, observed, true, &mut self.changes).await?;
        Ok((read_back, desired))
    }

    /// Probes the bucket as the operator, as a recorder and without credentials. The inner error: the policy could not be
    /// restored.
    async fn run_probe(
        &self,
        recorder: &BucketClient,
        anonymous: &BucketClient,
        desired: &DesiredBucket,
        dialect: &Dialect,
        read_back: &ObservedBucket,
    ) -> (Conformance, Result<(), StoreError>) {
        let named = people::without_principals(self.spec, &dialect.left_out);
        let has_rules = read_back.state.lifecycle.as_ref() == Some(&desired.rule_set());
        let ineffective = UnknownReason::NotTried(INEFFECTIVE_POLICIES);
        let policy = ExistingPolicy {
            statements: &read_back.statements,
            operator: &self.spec.operator_principal,
            exemptions: Ok(Exemptions {
                others: dialect.others,
                recorder: &self.spec.recorder_principal,
                auditor: named.auditor.as_deref(),
                readers: &named.readers,
            }),
        };
        let subject = ProbeTarget {
            operator: self.operator,
            recorder: Some(recorder),
            anonymous,
            policy: if dialect.heeds_policies { Ok(policy) } else { Err(&ineffective) },
            lifecycle: &Verdict::from_expectation(has_rules),
        };
        // On the heap, since the stages of a probe are large futures.
        Box::pin(probe::run(subject)).await
    }
}

async fn save_dialect(operator: &BucketClient, dialect: &Dialect) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(dialect).unwrap_or_default();
    objects::put(operator, DIALECT_KEY, bytes).await
}
