//! Making a bucket what it must be, once it is known to be ours: changing what differs, and reading that back.

use super::apply;
use super::bucket::Change;
use super::client::Store;
use super::dialect::GivenUp;
use super::drift::{self, Desired, Operation};
use super::observe::{Observed, observe};
use super::refusal::EnforceError;
use super::rules;

/// How often a change is read back before it counts as not made: stores are not at once consistent.
const READ_BACKS: u32 = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
const TOOK_ANOTHER: &str = "the store took a change and answers with something else";

/// Whether an error may be about somebody whom the policy names: the store refused it, or shows another.
pub(super) fn is_about_policy(error: &EnforceError) -> bool {
    match error {
        EnforceError::Storage(error) => error.operation == "PutBucketPolicy" && error.has_status(400),
        EnforceError::StoreUnfit { what, .. } => what.contains(TOOK_ANOTHER),
        _ => false,
    }
}

/// Changes what differs, and reads back until nothing does. `is_touched`: something was changed before. Settings that
/// the store refuses, or takes and does not keep, are given up: the bucket's policy says the same.
pub(super) async fn in_sync(
    operator: &Store,
    desired: &mut Desired,
    observed: Observed,
    is_touched: bool,
    changed: &mut Vec<Change>,
) -> Result<Observed, EnforceError> {
    let operations = drift::plan(desired, &observed.state);
    if operations.is_empty() && !is_touched {
        return Ok(observed);
    }
    let mut made = Vec::new();
    let outcome = match write(operator, desired, &observed, &operations, &mut made).await {
        Ok(()) => read_back(operator, desired, observed, &operations).await,
        Err(error) => Err(error),
    };
    let was_made = |operation: &Operation| !matches!(operation, Operation::Set(setting) if desired.given_up.contains(&GivenUp::Setting(*setting)));
    changed.extend(made.into_iter().filter(|(operation, _)| was_made(operation)).map(|(_, change)| change));
    outcome
}

/// Makes the changes, and notes those that were made.
async fn write<'a>(
    operator: &Store,
    desired: &mut Desired,
    observed: &Observed,
    operations: &'a [Operation],
    made: &mut Vec<(&'a Operation, Change)>,
) -> Result<(), EnforceError> {
    let mut refused = None;
    for operation in operations {
        if *operation == Operation::Lifecycle {
            let change = rules::write(operator, desired, &observed.state).await;
            made.extend(change.map_err(rules::needed)?.map(|change| (operation, change)));
            continue;
        }
        match (operation, apply::apply(operator, operation, desired, &observed.state).await) {
            (_, Ok(change)) => made.push((operation, change)),
            (_, Err(error)) if !error.is_refusal() => return Err(error.into()),
            (Operation::Set(setting), Err(_)) => {
                desired.given_up.insert(GivenUp::Setting(*setting));
            }
            // What stays does not keep the policy open that comes after it.
            (Operation::Remove(extra), Err(error)) => {
                refused.get_or_insert(EnforceError::Refused {
                    what: format!(
                        "the bucket has {extra}, and the operator cannot remove that: {}",
                        error.safe_message()
                    ),
                    remedy: "remove it as the bucket's owner or the store's administrator".into(),
                });
            }
            (_, Err(error)) => return Err(error.into()),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The bucket as it is after that.
async fn read_back(
    operator: &Store,
    desired: &mut Desired,
    before: Observed,
    operations: &[Operation],
) -> Result<Observed, EnforceError> {
    let (mut left, mut last) = (operations.to_vec(), before);
    for _ in 0..READ_BACKS {
        if let Some(observed) = observe(operator).await? {
            left = drift::plan(desired, &observed.state);
            last = observed;
            if left.is_empty() {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    for operation in &left {
        if let Operation::Set(setting) = operation {
            desired.given_up.insert(GivenUp::Setting(*setting));
        } else {
            return Err(EnforceError::StoreUnfit {
                what: format!("{TOOK_ANOTHER}: {left:?}"),
                remedy: "look whether something else configures this bucket, or use another store".into(),
            });
        }
    }
    Ok(last)
}
