//! Reading a bucket's configuration back.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockEnabled, ObjectLockRetentionMode,
};
use serde_json::Value;

use super::lifecycle::BucketLifecycleRule;
use super::policy::document::{Policy, parse_statements};
use super::state::{BucketDefaultRetention, BucketState};
use super::subresources;
use super::subresources::Subresources;
use crate::storage::s3::send::send;
use crate::storage::s3::{BucketClient, StoreError};

/// A bucket, as read back.
#[derive(Clone, Debug)]
pub(crate) struct ObservedBucket {
    pub(crate) state: BucketState,
    /// The policy's statements as they are written there, to put them back unchanged.
    pub(crate) statements: Vec<Value>,
    /// The bucket has a policy that is not a policy document.
    pub(crate) is_policy_unreadable: bool,
}

/// Reads everything. Returns `None` if there is no such bucket.
pub(crate) async fn observe(store: &BucketClient) -> Result<Option<ObservedBucket>, StoreError> {
    // First: every store supports this request, so 404 means that the bucket is missing.
    let Some(versioning) = read_versioning(store).await? else {
        return Ok(None);
    };
    let (object_lock, default_retention) = read_object_lock(store).await?;
    // On the heap: the futures of ten requests at once are too large for the caller's future.
    let Subresources { forbidden, unreadable, required } = Box::pin(subresources::read(store)).await?;
    let document = read_policy(store).await?;
    let statements = match &document {
        Some(text) => parse_statements(&serde_json::from_str(text).unwrap_or_default()),
        None => Ok(Vec::new()),
    };
    let policy = statements.as_ref().ok().and_then(|all| Policy::from_statements(all).ok());
    let policy = policy.filter(|_| document.is_some());
    Ok(Some(ObservedBucket {
        is_policy_unreadable: document.is_some() && policy.is_none(),
        statements: statements.unwrap_or_default(),
        state: BucketState {
            object_lock,
            default_retention,
            versioning,
            lifecycle: read_lifecycle(store).await?,
            policy,
            forbidden,
            unreadable,
            required,
        },
    }))
}

async fn read_versioning(store: &BucketClient) -> Result<Option<bool>, StoreError> {
    match send!(store, "GetBucketVersioning", get_bucket_versioning()) {
        Ok(answer) => Ok(Some(answer.status() == Some(&BucketVersioningStatus::Enabled))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn read_object_lock(
    store: &BucketClient,
) -> Result<(bool, Option<BucketDefaultRetention>), StoreError> {
    match send!(store, "GetObjectLockConfiguration", get_object_lock_configuration()) {
        Ok(answer) => {
            let lock = answer.object_lock_configuration();
            let enabled = lock.and_then(|it| it.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled);
            let retention = lock.and_then(|it| it.rule()).and_then(|rule| rule.default_retention());
            Ok((enabled, retention.and_then(describe_retention)))
        }
        Err(error) if error.is_not_found() || error.is_unsupported() => Ok((false, None)),
        Err(error) => Err(error),
    }
}

fn describe_retention(retention: &DefaultRetention) -> Option<BucketDefaultRetention> {
    // Some stores answer with 0 for the unit that is not set.
    let (days, years) = (retention.days().filter(|n| *n > 0), retention.years().filter(|n| *n > 0));
    let (days, period) = match (days, years) {
        (Some(days), _) => (i64::from(days), format!("{days} days")),
        (None, Some(years)) => (i64::from(years) * 365, format!("{years} years")),
        (None, None) => return None,
    };
    let mode = match retention.mode() {
        Some(ObjectLockRetentionMode::Compliance) => "COMPLIANCE",
        Some(ObjectLockRetentionMode::Governance) => "GOVERNANCE",
        _ => "unknown",
    };
    Some(BucketDefaultRetention { description: format!("{mode} {period}"), days })
}

pub(crate) async fn read_lifecycle(
    store: &BucketClient,
) -> Result<Option<BTreeSet<BucketLifecycleRule>>, StoreError> {
    match send!(store, "GetBucketLifecycleConfiguration", get_bucket_lifecycle_configuration()) {
        Ok(answer) => Ok(Some(answer.rules().iter().map(BucketLifecycleRule::from_sdk).collect())),
        Err(error) if error.is_unsupported() => Ok(None),
        Err(error) if error.is_not_found() => Ok(Some(BTreeSet::new())),
        Err(error) => Err(error),
    }
}

pub(crate) async fn read_policy(store: &BucketClient) -> Result<Option<String>, StoreError> {
    match send!(store, "GetBucketPolicy", get_bucket_policy()) {
        Ok(answer) => Ok(answer.policy().filter(|text| !text.trim().is_empty()).map(str::to_owned)),
        // Unsupported: a store without bucket policies has none.
        Err(error) if error.is_not_found() || error.is_unsupported() => Ok(None),
        Err(error) => Err(error),
    }
}
