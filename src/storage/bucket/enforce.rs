//! Making a bucket what it must be: observe, make or adopt, claim, prove, change what differs, read back, try.

use super::adoption::AdoptionConflict;
use super::drift::DesiredBucket;
use super::error::EnforceError;
use super::observe::{ObservedBucket, observe};
use super::owner::{Claim, Owner};
use super::policy::dialect::Dialect;
use super::policy::principals;
use super::probe::{Conformance, Exemptions, ExistingPolicy, ProbeTarget, UnknownReason, Verdict, canary};
use super::proof::machines::prove_machines;
use super::proof::people;
use super::spec::{BucketSpec, EnforceReport, StoreChange, Subresource};
use super::sync::{is_policy_rejection, sync_bucket};
use super::{adoption, apply, fitness, foreign_objects, owner, probe};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::objects;
use crate::storage::s3::target::TargetError;

/// What was proved of the store, kept so that it is proved once: in sync means zero writes.
const DIALECT_KEY: &str = "ledger/dialect.json";
const INEFFECTIVE_POLICIES: &str =
    "bucket policies have no effect on this store's identities: what others can do cannot be tried";

/// Whether the recorders' credentials are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Try: on adoption, after a change of the policy or the credentials, and daily. Writes canaries.
    Run,
    /// Keep what is known. (A change of the policy is tried all the same.)
    Skip,
}

/// Why a bucket is not what it must be, and what was changed in it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforceFailure {
    pub error: EnforceError,
    /// What had been changed before, in order.
    pub changes: Vec<StoreChange>,
    /// The bucket had been found to be claimed by the very Site, or for it.
    pub is_owned: bool,
    /// The table, where it was filled.
    pub conformance: Option<Conformance>,
}

impl From<TargetError> for EnforceFailure {
    fn from(error: TargetError) -> Self {
        Self { error: error.into(), changes: Vec::new(), is_owned: false, conformance: None }
    }
}

#[derive(Default)]
struct EnforceProgress {
    changes: Vec<StoreChange>,
    is_owned: bool,
    conformance: Option<Conformance>,
}

/// Makes the bucket what it must be, as the operator, and tries the recorders' credentials. Without these, `recorder` being
/// `None`, what must not change is still put back, and the outcome is [`EnforceError::NoRecorderCredentials`].
///
/// Idempotent: in sync, it reads and writes nothing (with [`Probe::Skip`]). Dropping the future leaves at
/// worst a proof's statements and canaries, about `probe/` alone; the next run removes them.
pub async fn enforce(
    operator: &BucketConnection,
    recorder: Option<&BucketConnection>,
    spec: &BucketSpec,
    claim: &Claim,
    probe_mode: Probe,
) -> Result<EnforceReport, EnforceFailure> {
    let mut progress = EnforceProgress::default();
    let store = operator.client();
    let outcome =
        enforce_with_progress(operator, &store, recorder, spec, claim, probe_mode, &mut progress).await;
    outcome.map_err(|error| EnforceFailure {
        error: error.with_advice(|error| store.advice(error)),
        changes: progress.changes,
        is_owned: progress.is_owned,
        conformance: progress.conformance,
    })
}

async fn enforce_with_progress(
    connection: &BucketConnection,
    operator: &BucketClient,
    recorder: Option<&BucketConnection>,
    spec: &BucketSpec,
    claim: &Claim,
    probe_mode: Probe,
    progress: &mut EnforceProgress,
) -> Result<EnforceReport, EnforceError> {
    let EnforceProgress { changes: changed, is_owned: is_ours, conformance: tried } = progress;
    let anonymous = connection.anonymous_client();
    let recorder = recorder.map(BucketConnection::client);
    super::desired::lifecycle_rules(spec)?;
    principals::check_distinct_principals(spec)?;
    let mut observed = ensure_bucket(operator, changed).await?;
    check_prerequisites(&observed, spec)?;
    let is_new = !changed.is_empty();
    ensure_claimed(operator, spec, claim, &observed, is_new, changed).await?;
    *is_ours = true;
    let is_changed = ensure_no_default_retention(operator, &mut observed, changed).await?;
    let mut dialect = load_or_prove_dialect(operator, recorder.as_ref(), spec, &observed).await?;
    let stored_dialect = dialect.clone();
    if probe_mode == Probe::Run {
        // Another right, another release of the store, or an identity may have come.
        dialect.given_up.clear();
    }
    let people = people::PeopleProver { operator, recorder: recorder.as_ref(), spec };
    let is_proof_due = probe_mode == Probe::Run && !dialect.left_out.is_empty();
    if is_proof_due || dialect.people != people::principals_of(spec) {
        people.prove_people(&mut dialect, &observed.statements).await?;
    }
    let before = changed.len();
    let statements = observed.statements.clone();
    let mut desired = people.desired_bucket(&dialect)?;
    let mut outcome = sync_bucket(operator, &mut desired, observed, is_changed, changed).await;
    // The store may no longer know somebody whom the policy names: a deleted user, say.
    if outcome.as_ref().is_err_and(is_policy_rejection) && !dialect.people.is_empty() {
        let known = dialect.left_out.clone();
        people.prove_people(&mut dialect, &statements).await?;
        if dialect.left_out != known {
            desired = people.desired_bucket(&dialect)?;
            let observed = ensure_bucket(operator, changed).await?;
            outcome = sync_bucket(operator, &mut desired, observed, true, changed).await;
        }
    }
    let read_back = outcome?;
    dialect.given_up.clone_from(&desired.unsupported);
    if dialect != stored_dialect {
        save_dialect(operator, &dialect).await?;
    }
    // What recorders can do is not told without them.
    let recorder = recorder.ok_or(EnforceError::NoRecorderCredentials { is_in_sync: true })?;
    let conformance = if probe_mode == Probe::Run || changed.len() > before {
        let stores = (operator, &recorder, &anonymous);
        let (table, restored) = run_probe(stores, spec, &desired, &dialect, &read_back).await;
        *tried = Some(table.clone());
        restored?;
        fitness::evaluate(&table, spec, dialect.heeds_policies, &read_back.state)?;
        Some(table)
    } else {
        None
    };
    Ok(EnforceReport {
        observed: read_back.state,
        changes: std::mem::take(changed),
        conformance,
        limitations: dialect.limitations(operator.is_tls),
        unknown_principals: dialect.left_out.into_iter().collect(),
    })
}

/// The table of the bucket as it is: as operator, as recorder and without credentials. An error: the policy could not be
/// put back.
async fn run_probe(
    (operator, recorder, anonymous): (&BucketClient, &BucketClient, &BucketClient),
    spec: &BucketSpec,
    desired: &DesiredBucket,
    dialect: &Dialect,
    read_back: &ObservedBucket,
) -> (Conformance, Result<(), StoreError>) {
    let named = people::without_principals(spec, &dialect.left_out);
    let rules = desired.lifecycle.values().cloned().collect();
    let lifecycle =
        if read_back.state.lifecycle.as_ref() == Some(&rules) { Verdict::Passed } else { Verdict::Failed };
    let unheeded = UnknownReason::NotTried(INEFFECTIVE_POLICIES);
    let standing = ExistingPolicy {
        statements: &read_back.statements,
        operator: &spec.operator_principal,
        exemptions: Ok(Exemptions {
            others: dialect.others,
            recorder: &spec.recorder_principal,
            auditor: named.auditor.as_deref(),
            readers: &named.readers,
        }),
    };
    let subject = ProbeTarget {
        operator,
        recorder: Some(recorder),
        anonymous,
        policy: if dialect.heeds_policies { Ok(standing) } else { Err(&unheeded) },
        lifecycle: &lifecycle,
    };
    Box::pin(probe::run(subject)).await
}

/// The bucket as it is, made first where there is none.
async fn ensure_bucket(
    operator: &BucketClient,
    changed: &mut Vec<StoreChange>,
) -> Result<ObservedBucket, EnforceError> {
    if let Some(observed) = observe(operator).await? {
        return Ok(observed);
    }
    match apply::create_bucket(operator).await {
        Ok(change) => changed.push(change),
        // A run that was given up had asked for it: by now it is there, like one that was found.
        Err(error) if error.code == "BucketAlreadyOwnedByYou" => (),
        Err(error) => return Err(error.into()),
    }
    let vanished =
        StoreError { operation: "GetBucketVersioning", code: "NoSuchBucket".into(), status: Some(404) };
    observe(operator).await?.ok_or(EnforceError::Storage(vanished))
}

/// What cannot be put right in a bucket that is there.
fn check_prerequisites(observed: &ObservedBucket, spec: &BucketSpec) -> Result<(), EnforceError> {
    if !observed.state.object_lock {
        let conflicts = vec![AdoptionConflict::NoObjectLock];
        return Err(EnforceError::Unadoptable { conflicts });
    }
    if observed.state.lifecycle.is_none() && !spec.operator_only {
        return Err(EnforceError::StoreUnsupported {
            reason: "the store has no lifecycle, so recordings would outlive a dead operator".into(),
            remedy: "use a store that has, or decide on retentionEnforcement: OperatorOnly".into(),
        });
    }
    Ok(())
}

/// Claims the bucket. One that nobody claimed and that has a configuration of its own is left alone, unless
/// it is to be taken over.
async fn ensure_claimed(
    operator: &BucketClient,
    spec: &BucketSpec,
    claim: &Claim,
    observed: &ObservedBucket,
    is_new: bool,
    changed: &mut Vec<StoreChange>,
) -> Result<(), EnforceError> {
    match owner::read_owner(operator, claim).await? {
        Owner::ThisSite => return Ok(()),
        Owner::OtherSite => return Err(EnforceError::ClaimedByOther),
        Owner::Unclaimed => (),
    }
    // In a bucket that was made just now there is nothing of anybody's, seen or not.
    if is_new {
        return write_claim(operator, claim, "nobody's", changed).await;
    }
    let foreign_objects = foreign_objects::has_foreign_objects(operator).await?;
    let mut conflicts = adoption::find_conflicts(
        operator.into(),
        spec,
        &observed.state,
        observed.is_policy_unreadable,
        foreign_objects,
    )?;
    conflicts.retain(|obstacle| !spec.take_over || !obstacle.is_resolved_by_take_over());
    if !conflicts.is_empty() {
        return Err(EnforceError::Unadoptable { conflicts });
    }
    let whose = if foreign_objects { "nobody's, with objects of somebody's, which stay" } else { "nobody's" };
    write_claim(operator, claim, whose, changed).await
}

async fn write_claim(
    operator: &BucketClient,
    claim: &Claim,
    whose: &str,
    changed: &mut Vec<StoreChange>,
) -> Result<(), EnforceError> {
    if owner::claim(operator, claim).await? != Owner::ThisSite {
        return Err(EnforceError::ClaimedByOther);
    }
    changed.push(StoreChange {
        subresource: Subresource::Claim,
        from: whose.into(),
        to: "this Site's".into(),
    });
    Ok(())
}

/// Takes a default retention away before anything else is written: canaries, too, would be kept by it.
async fn ensure_no_default_retention(
    operator: &BucketClient,
    observed: &mut ObservedBucket,
    changed: &mut Vec<StoreChange>,
) -> Result<bool, EnforceError> {
    let Some(retention) = observed.state.default_retention.take() else {
        return Ok(false);
    };
    apply::clear_default_retention(operator).await?;
    changed.push(StoreChange {
        subresource: Subresource::DefaultRetention,
        from: retention.to_string(),
        to: "none".into(),
    });
    Ok(true)
}

/// What is known of the store, proved where it is not known of these principals.
async fn load_or_prove_dialect(
    operator: &BucketClient,
    recorder: Option<&BucketClient>,
    spec: &BucketSpec,
    observed: &ObservedBucket,
) -> Result<Dialect, EnforceError> {
    let (us, them) = (spec.operator_principal.as_str(), spec.recorder_principal.as_str());
    let stored = match objects::read_json::<Dialect>(operator, DIALECT_KEY, None).await {
        Err(error) if error.is_not_found() => None,
        kept => kept?,
    };
    let kept = stored.filter(|kept| kept.operator == us && kept.recorder == them);
    // Without anybody to prove it with, what another version proved still counts.
    if let Some(dialect) = kept.filter(|kept| kept.is_current() || recorder.is_none()) {
        return Ok(dialect);
    }
    let recorder = recorder.ok_or(EnforceError::NoRecorderCredentials { is_in_sync: false })?;
    if !canary::supports_tags(operator).await? {
        return Err(EnforceError::StoreUnsupported {
            reason: "the store refuses object tags, and a recording's tag is its retention class".into(),
            remedy: "use a store with object tags".into(),
        });
    }
    let dialect = prove_machines(operator, recorder, (us, them), &observed.statements).await?;
    save_dialect(operator, &dialect).await?;
    Ok(dialect)
}

async fn save_dialect(operator: &BucketClient, dialect: &Dialect) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(dialect).unwrap_or_default();
    objects::put(operator, DIALECT_KEY, bytes).await
}
