//! Reading a bucket's configuration back: what is there, not what was asked for.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockEnabled, ObjectLockRetentionMode,
};
use serde_json::Value;

use super::bucket::{BucketState, Retention};
use super::client::Store;
use super::error::StoreError;
use super::lifecycle::Rule;
use super::parts::{self, Parts};
use super::policy::{Policy, statements};

/// A bucket as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) state: BucketState,
    /// The policy's statements as they are written there, to be put back unchanged.
    pub(crate) statements: Vec<Value>,
    /// There is a policy that is no policy document.
    pub(crate) unreadable_policy: bool,
}

/// Reads everything. `None`: there is no such bucket.
pub(crate) async fn observe(store: &Store) -> Result<Option<Observed>, StoreError> {
    let Some(versioning) = versioning(store).await? else {
        return Ok(None);
    };
    let (object_lock, default_retention) = lock(store).await?;
    let Parts { foreign, unseen, settings } = Box::pin(parts::read(store)).await?;
    let document = policy(store).await?;
    let parsed = document.as_deref().map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    let statements = parsed.as_ref().map_or(Ok(Vec::new()), statements);
    let policy = statements.as_ref().ok().and_then(|s| Policy::of(s).ok()).filter(|_| document.is_some());
    Ok(Some(Observed {
        unreadable_policy: document.is_some() && policy.is_none(),
        statements: statements.unwrap_or_default(),
        state: BucketState {
            object_lock,
            default_retention,
            versioning,
            lifecycle: lifecycle(store).await?,
            policy,
            foreign,
            unseen,
            settings,
        },
    }))
}

async fn versioning(store: &Store) -> Result<Option<bool>, StoreError> {
    let answer = store.client.get_bucket_versioning().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::of("GetBucketVersioning", &error)) {
        Ok(answer) => Ok(Some(answer.status() == Some(&BucketVersioningStatus::Enabled))),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn lock(store: &Store) -> Result<(bool, Option<Retention>), StoreError> {
    let answer = store.client.get_object_lock_configuration().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::of("GetObjectLockConfiguration", &error)) {
        Ok(answer) => {
            let lock = answer.object_lock_configuration();
            let enabled = lock.and_then(|l| l.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled);
            let retention = lock.and_then(|l| l.rule()).and_then(|rule| rule.default_retention());
            Ok((enabled, retention.and_then(in_words)))
        }
        Err(error) if error.is_absent() || error.is_unsupported() => Ok((false, None)),
        Err(error) => Err(error),
    }
}

fn in_words(retention: &DefaultRetention) -> Option<Retention> {
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
    Some(Retention { words: format!("{mode} {period}"), days })
}

pub(crate) async fn lifecycle(store: &Store) -> Result<Option<BTreeSet<Rule>>, StoreError> {
    let answer = store.client.get_bucket_lifecycle_configuration().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::of("GetBucketLifecycleConfiguration", &error)) {
        Ok(answer) => Ok(Some(answer.rules().iter().map(Rule::read).collect())),
        Err(error) if error.is_unsupported() => Ok(None),
        Err(error) if error.is_absent() => Ok(Some(BTreeSet::new())),
        Err(error) => Err(error),
    }
}

pub(crate) async fn policy(store: &Store) -> Result<Option<String>, StoreError> {
    let answer = store.client.get_bucket_policy().bucket(&store.bucket).send().await;
    match answer.map_err(|error| StoreError::of("GetBucketPolicy", &error)) {
        Ok(answer) => Ok(answer.policy().filter(|text| !text.trim().is_empty()).map(str::to_owned)),
        // A store without bucket policies has none.
        Err(error) if error.is_absent() || error.is_unsupported() => Ok(None),
        Err(error) => Err(error),
    }
}
