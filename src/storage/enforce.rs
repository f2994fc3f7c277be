//! Making a bucket what it must be: observe, make or adopt, claim, prove, change what differs, read back, try.

use super::apply;
use super::bucket::{BucketSpec, Change, Enforced};
use super::client::{Purpose, Store, TargetError};
use super::desired::CeilingTooLow;
use super::dialect::{Dialect, may_be_same};
use super::drift::{self, Desired};
use super::error::StoreError;
use super::fitness;
use super::objects;
use super::observe::{Observed, observe};
use super::owner::{self, Claim, Owner};
use super::principal::prove;
use super::probe::{self, Subject, Verdict};
use crate::contract::StorageTarget;

/// What was proved of the store, kept so that it is proved once: in sync means zero writes.
const DIALECT_KEY: &str = "ledger/dialect.json";
/// How often a change is read back before it counts as not made: stores are not at once consistent.
const READ_BACKS: u32 = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Whether the recorders' credentials are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trials {
    /// Try: on adoption, after a change of the policy or the credentials, and daily. Writes canaries.
    Run,
    /// Keep what is known. (A change of the policy is tried all the same.)
    Keep,
}

/// Why a bucket is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnforceError {
    /// Somebody else claimed the bucket first. Nothing was written.
    #[error(
        "the bucket is claimed already: take another one. If this cluster replaces the one that claimed it, \
         give the operator that one's clusterId"
    )]
    Claimed,
    /// The bucket cannot be adopted as it is. Nothing was written.
    #[error("{what}; {remedy}")]
    Refused {
        /// What is in the way.
        what: String,
        /// What a person can do.
        remedy: String,
    },
    /// The store, or this bucket of it, cannot keep the promises.
    #[error("{what}; {remedy}")]
    StoreUnfit {
        /// What it does not do.
        what: String,
        /// What a person can do.
        remedy: String,
    },
    /// A principal is not whose credentials were given. The bucket's policy is as it was.
    #[error(
        "spec.storage.{whose}.principal is not how the store names the identity in spec.storage.{whose}.credentialsRef: \
         correct either"
    )]
    WrongPrincipal {
        /// `operator` or `recorder`.
        whose: &'static str,
    },
    /// The target cannot be used; no connection was made.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A ceiling is too low.
    #[error(transparent)]
    Ceiling(#[from] CeilingTooLow),
    /// The store answered with an error, or not at all.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl EnforceError {
    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Refused { .. } => "refused",
            Self::StoreUnfit { .. } => "store_unfit",
            Self::WrongPrincipal { .. } => "wrong_principal",
            Self::Target(_) => "target",
            Self::Ceiling(_) => "ceiling",
            Self::Storage(error) => error.category(),
        }
    }

    /// For conditions and events. Holds no secret, no other tenant's name, and of the store's words only an
    /// error code.
    pub fn safe_message(&self) -> String {
        self.to_string()
    }

    /// Whether it may pass without a change of the Site: the store recovers, or gives a right.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Storage(_))
    }
}

/// Makes the bucket what it must be, as the operator, and tries the recorders' credentials.
///
/// Idempotent: in sync, it reads and writes nothing (with [`Trials::Keep`]). Dropping the future leaves at
/// worst a proof's statements and canaries, about `probe/` alone; the next run removes them.
pub async fn enforce(
    operator: &StorageTarget,
    recorder: &StorageTarget,
    spec: &BucketSpec,
    claim: &Claim,
    trials: Trials,
) -> Result<Enforced, EnforceError> {
    let anonymous = Store::anonymous(operator)?;
    let operator = Store::new(operator, Purpose::Configure)?;
    let recorder = Store::new(recorder, Purpose::Configure)?;
    super::desired::lifecycle(spec)?;
    two_machines(spec)?;
    no_machine_reads(spec)?;
    let mut changed = Vec::new();
    let mut observed = present(&operator, &mut changed).await?;
    fit(&observed, spec)?;
    claimed(&operator, spec, claim, &observed, &mut changed).await?;
    let is_touched = without_retention(&operator, &mut observed, &mut changed).await?;
    let dialect = proved(&operator, &recorder, spec, &observed).await?;
    let desired = Desired::of(&operator.bucket, spec, &dialect, operator.tls)?;
    let before = changed.len();
    let read_back = in_sync(&operator, &desired, observed, is_touched, &mut changed).await?;
    let conformance = if trials == Trials::Run || changed.len() > before {
        let rules = desired.lifecycle.values().cloned().collect();
        let lifecycle = if read_back.state.lifecycle.as_ref() == Some(&rules) {
            Verdict::Holds
        } else {
            Verdict::Fails
        };
        let subject = Subject {
            operator: &operator,
            recorder: Some(&recorder),
            anonymous: &anonymous,
            policy: Ok((&spec.operator_principal, &read_back.statements)),
            lifecycle: &lifecycle,
        };
        let (conformance, restored) = Box::pin(probe::run(subject)).await;
        restored?;
        fitness::judge(&conformance, spec)?;
        Some(conformance)
    } else {
        None
    };
    Ok(Enforced {
        read_back: read_back.state,
        changed,
        conformance,
        gaps: dialect.gaps(operator.tls),
    })
}

/// What the recorders are denied would stop the operator, were they one identity under two names.
fn two_machines(spec: &BucketSpec) -> Result<(), EnforceError> {
    if !may_be_same(&spec.operator_principal, &spec.recorder_principal) {
        return Ok(());
    }
    Err(EnforceError::Refused {
        what: "the operator's and the recorders' principals name one identity".into(),
        remedy: "article 3.2: they are two: give the recorders a principal of their own".into(),
    })
}

/// What readers are denied would stop a machine: the operator's own principal among them would lock it out.
fn no_machine_reads(spec: &BucketSpec) -> Result<(), EnforceError> {
    let machines = [&spec.operator_principal, &spec.recorder_principal];
    let is_machine = |reader: &&String| machines.iter().any(|machine| may_be_same(reader, machine));
    match spec.readers.iter().find(is_machine) {
        None => Ok(()),
        Some(reader) => Err(EnforceError::Refused {
            what: format!("{reader} is a reader, and the operator or a recorder"),
            remedy: "article 3.2: no machine may watch: give managers and incident officers principals of their own".into(),
        }),
    }
}

/// The bucket as it is, made first where there is none.
async fn present(operator: &Store, changed: &mut Vec<Change>) -> Result<Observed, EnforceError> {
    if let Some(observed) = observe(operator).await? {
        return Ok(observed);
    }
    changed.push(apply::create(operator).await?);
    let lost = StoreError {
        operation: "GetBucketVersioning",
        code: "NoSuchBucket".into(),
        status: Some(404),
    };
    observe(operator).await?.ok_or(EnforceError::Storage(lost))
}

/// What cannot be put right in a bucket that is there.
fn fit(observed: &Observed, spec: &BucketSpec) -> Result<(), EnforceError> {
    if !observed.state.object_lock {
        return Err(EnforceError::StoreUnfit {
            what: "the bucket has no Object Lock, which legal holds need".into(),
            remedy:
                "make a new bucket with Object Lock (without default retention) and name that, or let the \
                     operator make it"
                    .into(),
        });
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
    changed: &mut Vec<Change>,
) -> Result<(), EnforceError> {
    match owner::read(operator, claim).await? {
        Owner::Ours => return Ok(()),
        Owner::Another => return Err(EnforceError::Claimed),
        Owner::Nobody => (),
    }
    let own = drift::own_configuration(
        &operator.bucket,
        spec,
        &observed.state,
        observed.unreadable_policy,
    )?;
    if !own.is_empty() && !spec.take_over {
        return Err(EnforceError::Refused {
            what: format!("the bucket already has {}", own.join(", ")),
            remedy: "remove it, take another bucket, or decide on adoptionPolicy: TakeOver (objects stay)"
                .into(),
        });
    }
    if owner::claim(operator, claim).await? != Owner::Ours {
        return Err(EnforceError::Claimed);
    }
    changed.push(Change {
        what: "claim",
        from: "nobody's".into(),
        to: "this Site's".into(),
    });
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
    changed.push(Change {
        what: "default retention",
        from: retention,
        to: "none".into(),
    });
    Ok(true)
}

/// What is known of the store, proved where it is not known of these principals.
async fn proved(
    operator: &Store,
    recorder: &Store,
    spec: &BucketSpec,
    observed: &Observed,
) -> Result<Dialect, EnforceError> {
    let (us, them) = (spec.operator_principal.as_str(), spec.recorder_principal.as_str());
    let kept = match objects::get(operator, DIALECT_KEY, None).await {
        Ok(bytes) => serde_json::from_slice::<Dialect>(&bytes).ok(),
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(dialect) = kept.filter(|kept| kept.operator == us && kept.recorder == them) {
        return Ok(dialect);
    }
    let dialect = prove(operator, recorder, (us, them), &observed.statements).await?;
    objects::put(
        operator,
        DIALECT_KEY,
        serde_json::to_vec_pretty(&dialect).unwrap_or_default(),
    )
    .await?;
    Ok(dialect)
}

/// Changes what differs, and reads back until nothing does. `is_touched`: something was changed before.
async fn in_sync(
    operator: &Store,
    desired: &Desired,
    observed: Observed,
    is_touched: bool,
    changed: &mut Vec<Change>,
) -> Result<Observed, EnforceError> {
    let operations = drift::plan(desired, &observed.state);
    for operation in &operations {
        changed.push(apply::apply(operator, operation, desired, &observed.state).await?);
    }
    if operations.is_empty() && !is_touched {
        return Ok(observed);
    }
    let mut left = operations;
    for _ in 0..READ_BACKS {
        if let Some(observed) = observe(operator).await? {
            left = drift::plan(desired, &observed.state);
            if left.is_empty() {
                return Ok(observed);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(EnforceError::StoreUnfit {
        what: format!("the store took a change and answers with something else: {left:?}"),
        remedy: "look whether something else configures this bucket, or use another store".into(),
    })
}
