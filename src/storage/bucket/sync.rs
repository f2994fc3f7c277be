//! Making the Site's bucket compliant: writing the differences, and reading them back.

use super::drift::{BucketOperation, DesiredBucket};
use super::error::EnforceError;
use super::observe::{ObservedBucket, observe};
use super::policy::dialect::UnsupportedItem;
use super::spec::StoreChange;
use super::{apply, drift, lifecycle_write};
use crate::storage::s3::{BucketClient, StoreError};

/// Reads of a change before it counts as not kept: stores are eventually consistent.
const MAX_READ_BACKS: u32 = 10;
const READ_BACK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);

/// Reason that the bucket is not compliant after the writes.
pub(crate) enum SyncError {
    /// The store accepted these writes and did not keep them.
    NotKept(Vec<BucketOperation>),
    Other(EnforceError),
}

impl SyncError {
    /// Returns whether the cause may be a person in the policy: the store rejected the policy, or shows another.
    pub(crate) fn may_be_about_people(&self) -> bool {
        match self {
            Self::NotKept(_) => true,
            Self::Other(EnforceError::Storage(error)) => {
                error.operation == "PutBucketPolicy" && error.has_status(400)
            }
            Self::Other(_) => false,
        }
    }
}

impl From<StoreError> for SyncError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

impl From<SyncError> for EnforceError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::NotKept(operations) => {
                let parts: Vec<String> = operations.iter().map(ToString::to_string).collect();
                Self::StoreUnsupported {
                    reason: format!("the store accepted changes and did not keep them: {}", parts.join(", ")),
                    remedy: "check whether another program configures this bucket, or use another store"
                        .into(),
                }
            }
            SyncError::Other(error) => error,
        }
    }
}

/// Writes the differences, and reads back until there is none. `is_touched`: something was written before.
///
/// If the store rejects or does not keep a required subresource, the bucket goes without it: the policy protects the same.
pub(crate) async fn sync_bucket(
    operator: &BucketClient,
    desired: &mut DesiredBucket,
    observed: ObservedBucket,
    is_touched: bool,
    changes: &mut Vec<StoreChange>,
) -> Result<ObservedBucket, SyncError> {
    let operations = drift::plan(desired, &observed.state);
    // An untouched bucket was read a moment ago, so it needs no second read.
    if operations.is_empty() && !is_touched {
        return Ok(observed);
    }
    let mut written = Vec::new();
    let outcome = match apply_operations(operator, desired, &observed, &operations, &mut written).await {
        Ok(()) => verify_changes(operator, desired, observed, operations).await,
        Err(error) => Err(error),
    };
    // Written and not kept is no change: reported, it would come back as a change of every reconcile.
    written.retain(|(operation, _)| {
        !unsupported_item(*operation).is_some_and(|item| desired.unsupported.contains(&item))
    });
    changes.extend(written.into_iter().map(|(_, change)| change));
    outcome
}

/// Returns the entry for a write whose failure is only a limitation of the store.
fn unsupported_item(operation: BucketOperation) -> Option<UnsupportedItem> {
    match operation {
        BucketOperation::Set(required) => Some(UnsupportedItem::Subresource(required)),
        _ => None,
    }
}

/// Makes the writes in order, and adds each that succeeds to `written`.
async fn apply_operations(
    operator: &BucketClient,
    desired: &mut DesiredBucket,
    observed: &ObservedBucket,
    operations: &[BucketOperation],
    written: &mut Vec<(BucketOperation, StoreChange)>,
) -> Result<(), SyncError> {
    let mut not_removed = None;
    for operation in operations.iter().copied() {
        if operation == BucketOperation::PutLifecycle {
            // The only write with alternatives: a store may reject the rules because of an optional one.
            let change = lifecycle_write::write_supported(operator, desired, &observed.state).await;
            let change = change.map_err(|it| SyncError::Other(lifecycle_write::required_rules_error(it)))?;
            written.extend(change.map(|change| (operation, change)));
            continue;
        }
        match apply::apply(operator, operation, desired, &observed.state).await {
            Ok(change) => written.push((operation, change)),
            Err(error) if error.is_rejection() => {
                not_removed = not_removed.or(accept_rejection(desired, operation, error)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    not_removed.map_or(Ok(()), |error| Err(SyncError::Other(error)))
}

/// Decides about a rejected write. The inner error is reported after the other writes: a subresource that cannot be removed
/// must not delay the policy, which comes last.
fn accept_rejection(
    desired: &mut DesiredBucket,
    operation: BucketOperation,
    error: StoreError,
) -> Result<Option<EnforceError>, SyncError> {
    match operation {
        BucketOperation::Set(required) => {
            desired.unsupported.insert(UnsupportedItem::Subresource(required));
            Ok(None)
        }
        BucketOperation::Remove(forbidden) => Ok(Some(EnforceError::Rejected {
            reason: format!("the bucket has {forbidden}, and the operator cannot remove that: {error}"),
            remedy: "remove it as the bucket's owner or the store's administrator".into(),
        })),
        _ => Err(error.into()),
    }
}

/// Reads the bucket until nothing differs, at most [`MAX_READ_BACKS`] times.
async fn verify_changes(
    operator: &BucketClient,
    desired: &mut DesiredBucket,
    before: ObservedBucket,
    operations: Vec<BucketOperation>,
) -> Result<ObservedBucket, SyncError> {
    let (mut remaining, mut last) = (operations, before);
    for _ in 0..MAX_READ_BACKS {
        if let Some(observed) = observe(operator).await? {
            remaining = drift::plan(desired, &observed.state);
            last = observed;
            if remaining.is_empty() {
                break;
            }
        }
        tokio::time::sleep(READ_BACK_INTERVAL).await;
    }
    // The dialect remembers these, so that the next reconcile does not write them again.
    desired.unsupported.extend(remaining.iter().copied().filter_map(unsupported_item));
    remaining.retain(|operation| unsupported_item(*operation).is_none());
    if remaining.is_empty() { Ok(last) } else { Err(SyncError::NotKept(remaining)) }
}
