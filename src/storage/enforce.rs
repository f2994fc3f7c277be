//! Making a bucket what it must be: observe, make or adopt, claim, prove, change what differs, read back, try.

use super::adoption::{self, Obstacle};
use super::apply;
use super::bucket::{Aspect, BucketSpec, Change, Enforced};
use super::client::{Purpose, Store};
use super::dialect::Dialect;
use super::drift::Desired;
use super::error::StoreError;
use super::fitness;
use super::foreign;
use super::objects;
use super::observe::{Observed, observe};
use super::owner::{self, Claim, Owner};
use super::people;
use super::principal::prove;
use super::probe::{self, Conformance, Exempt, Standing, Subject, Verdict, Why, canary};
use super::readers;
use super::refusal::EnforceError;
use super::sync::{in_sync, is_about_policy};
use crate::contract::StorageTarget;

/// What was proved of the store, kept so that it is proved once: in sync means zero writes.
const DIALECT_KEY: &str = "ledger/dialect.json";
const UNHEEDED: &str =
    "bucket policies have no effect on this store's identities: what others can do cannot be tried";

/// Whether the recorders' credentials are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trials {
    /// Try: on adoption, after a change of the policy or the credentials, and daily. Writes canaries.
    Run,
    /// Keep what is known. (A change of the policy is tried all the same.)
    Keep,
}

/// Why a bucket is not what it must be, and what was changed in it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub error: EnforceError,
    /// What had been changed before, in order.
    pub changed: Vec<Change>,
    /// The bucket had been found to be claimed by the very Site, or for it.
    pub is_ours: bool,
    /// The table, where it was filled.
    pub conformance: Option<Conformance>,
}

/// How far it came.
#[derive(Default)]
struct Progress {
    changed: Vec<Change>,
    is_ours: bool,
    conformance: Option<Conformance>,
}

/// Makes the bucket what it must be, as the operator, and tries the recorders' credentials. Without these, `recorder` being
/// `None`, what must not change is still put back, and the outcome is [`EnforceError::NoRecorder`].
///
/// Idempotent: in sync, it reads and writes nothing (with [`Trials::Keep`]). Dropping the future leaves at
/// worst a proof's statements and canaries, about `probe/` alone; the next run removes them.
pub async fn enforce(
    operator: &StorageTarget,
    recorder: Option<&StorageTarget>,
    spec: &BucketSpec,
    claim: &Claim,
    trials: Trials,
) -> Result<Enforced, Failed> {
    let mut progress = Progress::default();
    let failed = |error| Failed { error, changed: Vec::new(), is_ours: false, conformance: None };
    let store = Store::new(operator, Purpose::Configure).map_err(|error| failed(error.into()))?;
    let outcome = enforced(operator, &store, recorder, spec, claim, trials, &mut progress).await;
    outcome.map_err(|error| Failed {
        error: error.explained(|error| store.advice(error)),
        changed: progress.changed,
        is_ours: progress.is_ours,
        conformance: progress.conformance,
    })
}

async fn enforced(
    target: &StorageTarget,
    operator: &Store,
    recorder: Option<&StorageTarget>,
    spec: &BucketSpec,
    claim: &Claim,
    trials: Trials,
    progress: &mut Progress,
) -> Result<Enforced, EnforceError> {
    let Progress { changed, is_ours, conformance: tried } = progress;
    let anonymous = Store::anonymous(target)?;
    let recorder = recorder.map(|recorder| Store::new(recorder, Purpose::Configure)).transpose()?;
    super::desired::lifecycle(spec)?;
    readers::apart(spec)?;
    let mut observed = present(operator, changed).await?;
    fit(&observed, spec)?;
    let is_new = !changed.is_empty();
    claimed(operator, spec, claim, &observed, is_new, changed).await?;
    *is_ours = true;
    let is_touched = without_retention(operator, &mut observed, changed).await?;
    let mut dialect = proved(operator, recorder.as_ref(), spec, &observed).await?;
    let learnt = dialect.clone();
    if trials == Trials::Run {
        // Another right, another release of the store, or an identity may have come.
        dialect.given_up.clear();
    }
    let people = people::Proving { operator, recorder: recorder.as_ref(), spec };
    let is_due = trials == Trials::Run && !dialect.left_out.is_empty();
    if is_due || dialect.people != people::of(spec) {
        people.prove(&mut dialect, &observed.statements).await?;
    }
    let before = changed.len();
    let statements = observed.statements.clone();
    let mut desired = people.desired(&dialect)?;
    let mut outcome = in_sync(operator, &mut desired, observed, is_touched, changed).await;
    // The store may no longer know somebody whom the policy names: a deleted user, say.
    if outcome.as_ref().is_err_and(is_about_policy) && !dialect.people.is_empty() {
        let known = dialect.left_out.clone();
        people.prove(&mut dialect, &statements).await?;
        if dialect.left_out != known {
            desired = people.desired(&dialect)?;
            let observed = present(operator, changed).await?;
            outcome = in_sync(operator, &mut desired, observed, true, changed).await;
        }
    }
    let read_back = outcome?;
    dialect.given_up.clone_from(&desired.given_up);
    if dialect != learnt {
        remember(operator, &dialect).await?;
    }
    // What recorders can do is not told without them.
    let recorder = recorder.ok_or(EnforceError::NoRecorder { in_sync: true })?;
    let conformance = if trials == Trials::Run || changed.len() > before {
        let stores = (operator, &recorder, &anonymous);
        let (table, restored) = try_all(stores, spec, &desired, &dialect, &read_back).await;
        *tried = Some(table.clone());
        restored?;
        fitness::judge(&table, spec, dialect.heeds_policies, &read_back.state)?;
        Some(table)
    } else {
        None
    };
    Ok(Enforced {
        read_back: read_back.state,
        changed: std::mem::take(changed),
        conformance,
        gaps: dialect.gaps(operator.tls),
        left_out: dialect.left_out.into_iter().collect(),
    })
}

/// The table of the bucket as it is: as operator, as recorder and without credentials. An error: the policy could not be
/// put back.
async fn try_all(
    (operator, recorder, anonymous): (&Store, &Store, &Store),
    spec: &BucketSpec,
    desired: &Desired,
    dialect: &Dialect,
    read_back: &Observed,
) -> (Conformance, Result<(), StoreError>) {
    let named = people::without(spec, &dialect.left_out);
    let rules = desired.lifecycle.values().cloned().collect();
    let lifecycle =
        if read_back.state.lifecycle.as_ref() == Some(&rules) { Verdict::Holds } else { Verdict::Fails };
    let unheeded = Why::NotTried(UNHEEDED);
    let standing = Standing {
        statements: &read_back.statements,
        operator: &spec.operator_principal,
        exempt: Ok(Exempt {
            others: dialect.others,
            recorder: &spec.recorder_principal,
            auditor: named.auditor.as_deref(),
            readers: &named.readers,
        }),
    };
    let subject = Subject {
        operator,
        recorder: Some(recorder),
        anonymous,
        policy: if dialect.heeds_policies { Ok(standing) } else { Err(&unheeded) },
        lifecycle: &lifecycle,
    };
    Box::pin(probe::run(subject)).await
}

/// The bucket as it is, made first where there is none.
async fn present(operator: &Store, changed: &mut Vec<Change>) -> Result<Observed, EnforceError> {
    if let Some(observed) = observe(operator).await? {
        return Ok(observed);
    }
    match apply::create(operator).await {
        Ok(change) => changed.push(change),
        // A run that was given up had asked for it: by now it is there, like one that was found.
        Err(error) if error.code == "BucketAlreadyOwnedByYou" => (),
        Err(error) => return Err(error.into()),
    }
    let lost =
        StoreError { operation: "GetBucketVersioning", code: "NoSuchBucket".into(), status: Some(404) };
    observe(operator).await?.ok_or(EnforceError::Storage(lost))
}

/// What cannot be put right in a bucket that is there.
fn fit(observed: &Observed, spec: &BucketSpec) -> Result<(), EnforceError> {
    if !observed.state.object_lock {
        let obstacles = vec![Obstacle::NoObjectLock];
        return Err(EnforceError::Unadoptable { obstacles });
    }
    if observed.state.lifecycle.is_none() && !spec.operator_only {
        return Err(EnforceError::StoreUnfit {
            what: "the store has no lifecycle, so recordings would outlive a dead operator".into(),
            remedy: "use a store that has, or decide on retentionEnforcement: OperatorOnly".into(),
        });
    }
    Ok(())
}

/// Claims the bucket. One that nobody claimed and that has a configuration of its own is left alone, unless
/// it is to be taken over.
async fn claimed(
    operator: &Store,
    spec: &BucketSpec,
    claim: &Claim,
    observed: &Observed,
    is_new: bool,
    changed: &mut Vec<Change>,
) -> Result<(), EnforceError> {
    match owner::read(operator, claim).await? {
        Owner::Ours => return Ok(()),
        Owner::Another => return Err(EnforceError::Claimed),
        Owner::Nobody => (),
    }
    // In a bucket that was made just now there is nothing of anybody's, seen or not.
    if is_new {
        return take(operator, claim, "nobody's", changed).await;
    }
    let foreign_objects = foreign::objects(operator).await?;
    let mut obstacles = adoption::obstacles(
        operator.into(),
        spec,
        &observed.state,
        observed.unreadable_policy,
        foreign_objects,
    )?;
    obstacles.retain(|obstacle| !spec.take_over || !obstacle.yields_to_take_over());
    if !obstacles.is_empty() {
        return Err(EnforceError::Unadoptable { obstacles });
    }
    let whose = if foreign_objects { "nobody's, with objects of somebody's, which stay" } else { "nobody's" };
    take(operator, claim, whose, changed).await
}

async fn take(
    operator: &Store,
    claim: &Claim,
    whose: &str,
    changed: &mut Vec<Change>,
) -> Result<(), EnforceError> {
    if owner::claim(operator, claim).await? != Owner::Ours {
        return Err(EnforceError::Claimed);
    }
    changed.push(Change { what: Aspect::Claim, from: whose.into(), to: "this Site's".into() });
    Ok(())
}

/// Takes a default retention away before anything else is written: canaries, too, would be kept by it.
async fn without_retention(
    operator: &Store,
    observed: &mut Observed,
    changed: &mut Vec<Change>,
) -> Result<bool, EnforceError> {
    let Some(retention) = observed.state.default_retention.take() else {
        return Ok(false);
    };
    apply::clear_retention(operator).await?;
    changed.push(Change { what: Aspect::DefaultRetention, from: retention.to_string(), to: "none".into() });
    Ok(true)
}

/// What is known of the store, proved where it is not known of these principals.
async fn proved(
    operator: &Store,
    recorder: Option<&Store>,
    spec: &BucketSpec,
    observed: &Observed,
) -> Result<Dialect, EnforceError> {
    let (us, them) = (spec.operator_principal.as_str(), spec.recorder_principal.as_str());
    let kept = match objects::read::<Dialect>(operator, DIALECT_KEY, None).await {
        Err(error) if error.is_absent() => None,
        kept => kept?,
    };
    let kept = kept.filter(|kept| kept.operator == us && kept.recorder == them);
    // Without anybody to prove it with, what another version proved still counts.
    if let Some(dialect) = kept.filter(|kept| kept.is_current() || recorder.is_none()) {
        return Ok(dialect);
    }
    let recorder = recorder.ok_or(EnforceError::NoRecorder { in_sync: false })?;
    if !canary::takes_tags(operator).await? {
        return Err(EnforceError::StoreUnfit {
            what: "the store refuses object tags, and a recording's tag is its retention class".into(),
            remedy: "use a store with object tags".into(),
        });
    }
    let dialect = prove(operator, recorder, (us, them), &observed.statements).await?;
    remember(operator, &dialect).await?;
    Ok(dialect)
}

async fn remember(operator: &Store, dialect: &Dialect) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(dialect).unwrap_or_default();
    objects::put(operator, DIALECT_KEY, bytes).await
}
