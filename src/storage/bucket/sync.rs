//! Making a bucket what it must be, once it is known to be ours: changing what differs, and reading that back.

use super::drift::{BucketOperation, DesiredBucket};
use super::error::EnforceError;
use super::observe::{ObservedBucket, observe};
use super::policy::dialect::UnsupportedItem;
use super::spec::StoreChange;
use super::{apply, drift, lifecycle_write};
use crate::storage::s3::client::BucketClient;

/// How often a change is read back before it counts as not made: stores are not at once consistent.
const MAX_READ_BACKS: u32 = 10;
const READ_BACK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);
const CHANGE_NOT_KEPT: &str = "the store took a change and answers with something else";

/// Whether an error may be about somebody whom the policy names: the store refused it, or shows another.
pub(crate) fn is_policy_rejection(error: &EnforceError) -> bool {
    match error {
        EnforceError::Storage(error) => error.operation == "PutBucketPolicy" && error.has_status(400),
        EnforceError::StoreUnsupported { reason: what, .. } => what.contains(CHANGE_NOT_KEPT),
        _ => false,
    }
}

/// Changes what differs, and reads back until nothing does. `is_touched`: something was changed before. Settings that
/// the store refuses, or takes and does not keep, are given up: the bucket's policy says the same.
pub(crate) async fn sync_bucket(
    operator: &BucketClient,
    desired: &mut DesiredBucket,
    observed: ObservedBucket,
    is_touched: bool,
    changed: &mut Vec<StoreChange>,
) -> Result<ObservedBucket, EnforceError> {
    let operations = drift::plan(desired, &observed.state);
    if operations.is_empty() && !is_touched {
        return Ok(observed);
    }
    let mut made = Vec::new();
    let outcome = match apply_operations(operator, desired, &observed, &operations, &mut made).await {
        Ok(()) => verify_changes(operator, desired, observed, &operations).await,
        Err(error) => Err(error),
    };
    let was_made = |operation: &BucketOperation| !matches!(operation, BucketOperation::Set(setting) if desired.unsupported.contains(&UnsupportedItem::Subresource(*setting)));
    changed.extend(made.into_iter().filter(|(operation, _)| was_made(operation)).map(|(_, change)| change));
    outcome
}

/// Makes the changes, and notes those that were made.
async fn apply_operations<'a>(
    operator: &BucketClient,
    desired: &mut DesiredBucket,
    observed: &ObservedBucket,
    operations: &'a [BucketOperation],
    made: &mut Vec<(&'a BucketOperation, StoreChange)>,
) -> Result<(), EnforceError> {
    let mut refused = None;
    for operation in operations {
        if *operation == BucketOperation::PutLifecycle {
            let change = lifecycle_write::write_supported(operator, desired, &observed.state).await;
            made.extend(
                change.map_err(lifecycle_write::required_rules_error)?.map(|change| (operation, change)),
            );
            continue;
        }
        match (operation, apply::apply(operator, operation, desired, &observed.state).await) {
            (_, Ok(change)) => made.push((operation, change)),
            (_, Err(error)) if !error.is_rejection() => return Err(error.into()),
            (BucketOperation::Set(setting), Err(_)) => {
                desired.unsupported.insert(UnsupportedItem::Subresource(*setting));
            }
            // What stays does not keep the policy open that comes after it.
            (BucketOperation::Remove(extra), Err(error)) => {
                refused.get_or_insert(EnforceError::Rejected {
                    reason: format!("the bucket has {extra}, and the operator cannot remove that: {error}"),
                    remedy: "remove it as the bucket's owner or the store's administrator".into(),
                });
            }
            (_, Err(error)) => return Err(error.into()),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The bucket as it is after that.
async fn verify_changes(
    operator: &BucketClient,
    desired: &mut DesiredBucket,
    before: ObservedBucket,
    operations: &[BucketOperation],
) -> Result<ObservedBucket, EnforceError> {
    let (mut left, mut last) = (operations.to_vec(), before);
    for _ in 0..MAX_READ_BACKS {
        if let Some(observed) = observe(operator).await? {
            left = drift::plan(desired, &observed.state);
            last = observed;
            if left.is_empty() {
                break;
            }
        }
        tokio::time::sleep(READ_BACK_INTERVAL).await;
    }
    for operation in &left {
        if let BucketOperation::Set(setting) = operation {
            desired.unsupported.insert(UnsupportedItem::Subresource(*setting));
        } else {
            return Err(EnforceError::StoreUnsupported {
                reason: format!("{CHANGE_NOT_KEPT}: {left:?}"),
                remedy: "look whether something else configures this bucket, or use another store".into(),
            });
        }
    }
    Ok(last)
}
