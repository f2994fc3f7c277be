//! Reading a bucket's configuration back: what is there, not what was asked for.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockEnabled, ObjectLockRetentionMode,
};
use serde_json::Value;

use super::lifecycle::BucketLifecycleRule;
use super::policy::document::{Policy, parse_statements};
use super::spec::{BucketDefaultRetention, BucketState};
use super::subresources;
use super::subresources::Subresources;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// A bucket as it was found.
#[derive(Clone, Debug)]
pub(crate) struct ObservedBucket {
    pub(crate) state: BucketState,
    /// The policy's statements as they are written there, to be put back unchanged.
    pub(crate) statements: Vec<Value>,
    /// There is a policy that is no policy document.
    pub(crate) is_policy_unreadable: bool,
}

/// Reads everything. `None`: there is no such bucket.
pub(crate) async fn observe(store: &BucketClient) -> Result<Option<ObservedBucket>, StoreError> {
    let Some(versioning) = read_versioning(store).await? else {
        return Ok(None);
    };
    let (object_lock, default_retention) = read_object_lock(store).await?;
    let Subresources { forbidden: foreign, unreadable: unseen, required: settings } =
        Box::pin(subresources::read(store)).await?;
    let document = read_policy(store).await?;
    let parsed = document.as_deref().map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    let statements = parsed.as_ref().map_or(Ok(Vec::new()), parse_statements);
    let policy =
        statements.as_ref().ok().and_then(|s| Policy::from_statements(s).ok()).filter(|_| document.is_some());
    Ok(Some(ObservedBucket {
        is_policy_unreadable: document.is_some() && policy.is_none(),
        statements: statements.unwrap_or_default(),
        state: BucketState {
            object_lock,
            default_retention,
            versioning,
            lifecycle: read_lifecycle(store).await?,
            policy,
            forbidden: foreign,
            unreadable: unseen,
            required: settings,
        },
    }))
}

async fn read_versioning(store: &BucketClient) -> Result<Option<bool>, StoreError> {
    let answer = store.client.get_bucket_versioning().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::from_sdk("GetBucketVersioning", &error)) {
        Ok(answer) => Ok(Some(answer.status() == Some(&BucketVersioningStatus::Enabled))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn read_object_lock(
    store: &BucketClient,
) -> Result<(bool, Option<BucketDefaultRetention>), StoreError> {
    let answer = store.client.get_object_lock_configuration().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::from_sdk("GetObjectLockConfiguration", &error)) {
        Ok(answer) => {
            let lock = answer.object_lock_configuration();
            let enabled = lock.and_then(|l| l.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled);
            let retention = lock.and_then(|l| l.rule()).and_then(|rule| rule.default_retention());
            Ok((enabled, retention.and_then(describe_retention)))
        }
        Err(error) if error.is_not_found() || error.is_unsupported() => Ok((false, None)),
        Err(error) => Err(error),
    }
}

fn describe_retention(retention: &DefaultRetention) -> Option<BucketDefaultRetention> {
    let (days, period) = match (retention.days().filter(|n| *n > 0), retention.years().filter(|n| *n > 0)) {
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
    let answer = store.client.get_bucket_lifecycle_configuration().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::from_sdk("GetBucketLifecycleConfiguration", &error)) {
        Ok(answer) => Ok(Some(answer.rules().iter().map(BucketLifecycleRule::from_sdk).collect())),
        Err(error) if error.is_unsupported() => Ok(None),
        Err(error) if error.is_not_found() => Ok(Some(BTreeSet::new())),
        Err(error) => Err(error),
    }
}

pub(crate) async fn read_policy(store: &BucketClient) -> Result<Option<String>, StoreError> {
    let answer = store.client.get_bucket_policy().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::from_sdk("GetBucketPolicy", &error)) {
        Ok(answer) => Ok(answer.policy().filter(|text| !text.trim().is_empty()).map(str::to_owned)),
        // A store without bucket policies has none.
        Err(error) if error.is_not_found() || error.is_unsupported() => Ok(None),
        Err(error) => Err(error),
    }
}
