//! Reading a bucket's configuration back: what is there, not what was asked for.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{BucketVersioningStatus, DefaultRetention, ObjectLockEnabled};
use serde_json::Value;

use super::bucket::{BucketState, Extra};
use super::client::Store;
use super::error::StoreError;
use super::lifecycle::Rule;
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
    let document = policy(store).await?;
    let parsed = document
        .as_deref()
        .map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    let statements = parsed.as_ref().map_or(Ok(Vec::new()), statements);
    let policy = statements
        .as_ref()
        .ok()
        .and_then(|s| Policy::of(s).ok())
        .filter(|_| document.is_some());
    Ok(Some(Observed {
        unreadable_policy: document.is_some() && policy.is_none(),
        statements: statements.unwrap_or_default(),
        state: BucketState {
            object_lock,
            default_retention,
            versioning,
            lifecycle: lifecycle(store).await?,
            policy,
            foreign: foreign(store).await?,
            public_access_blocked: public_access_blocked(store).await?,
        },
    }))
}

async fn versioning(store: &Store) -> Result<Option<bool>, StoreError> {
    let answer = store
        .client
        .get_bucket_versioning()
        .bucket(&store.bucket)
        .send()
        .await;
    match answer.map_err(|error| StoreError::of("GetBucketVersioning", &error)) {
        Ok(answer) => Ok(Some(answer.status() == Some(&BucketVersioningStatus::Enabled))),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn lock(store: &Store) -> Result<(bool, Option<String>), StoreError> {
    let answer = store
        .client
        .get_object_lock_configuration()
        .bucket(&store.bucket)
        .send()
        .await;
    match answer.map_err(|error| StoreError::of("GetObjectLockConfiguration", &error)) {
        Ok(answer) => {
            let lock = answer.object_lock_configuration();
            let enabled = lock.and_then(|l| l.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled);
            let retention = lock
                .and_then(|l| l.rule())
                .and_then(|rule| rule.default_retention());
            Ok((enabled, retention.and_then(in_words)))
        }
        Err(error) if error.is_absent() || error.is_unsupported() => Ok((false, None)),
        Err(error) => Err(error),
    }
}

fn in_words(retention: &DefaultRetention) -> Option<String> {
    let period = match (
        retention.days().filter(|n| *n > 0),
        retention.years().filter(|n| *n > 0),
    ) {
        (Some(days), _) => format!("{days} days"),
        (None, Some(years)) => format!("{years} years"),
        (None, None) => return None,
    };
    Some(format!(
        "{} {period}",
        retention.mode().map_or("unknown", |mode| mode.as_str())
    ))
}

pub(crate) async fn lifecycle(store: &Store) -> Result<Option<BTreeSet<Rule>>, StoreError> {
    let answer = store
        .client
        .get_bucket_lifecycle_configuration()
        .bucket(&store.bucket)
        .send()
        .await;
    match answer.map_err(|error| StoreError::of("GetBucketLifecycleConfiguration", &error)) {
        Ok(answer) => Ok(Some(answer.rules().iter().map(Rule::read).collect())),
        Err(error) if error.is_unsupported() => Ok(None),
        Err(error) if error.is_absent() => Ok(Some(BTreeSet::new())),
        Err(error) => Err(error),
    }
}

pub(crate) async fn policy(store: &Store) -> Result<Option<String>, StoreError> {
    let answer = store
        .client
        .get_bucket_policy()
        .bucket(&store.bucket)
        .send()
        .await;
    match answer.map_err(|error| StoreError::of("GetBucketPolicy", &error)) {
        Ok(answer) => Ok(answer
            .policy()
            .filter(|text| !text.trim().is_empty())
            .map(str::to_owned)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn foreign(store: &Store) -> Result<BTreeSet<Extra>, StoreError> {
    let mut found = BTreeSet::new();
    let (client, bucket) = (&store.client, &store.bucket);
    let cors = client.get_bucket_cors().bucket(bucket).send().await;
    if known("GetBucketCors", cors)?.is_some_and(|answer| !answer.cors_rules().is_empty()) {
        found.insert(Extra::Cors);
    }
    let replication = client.get_bucket_replication().bucket(bucket).send().await;
    let replication = known("GetBucketReplication", replication)?;
    if replication.is_some_and(|a| {
        a.replication_configuration()
            .is_some_and(|c| !c.rules().is_empty())
    }) {
        found.insert(Extra::Replication);
    }
    let website = client.get_bucket_website().bucket(bucket).send().await;
    let shows = known("GetBucketWebsite", website)?;
    if shows.is_some_and(|a| a.index_document().is_some() || a.redirect_all_requests_to().is_some()) {
        found.insert(Extra::Website);
    }
    let acl = client.get_bucket_acl().bucket(bucket).send().await;
    if let Some(acl) = known("GetBucketAcl", acl)? {
        let owner = acl.owner().and_then(|owner| owner.id());
        let own = |grant: &aws_sdk_s3::types::Grant| grant.grantee().and_then(|g| g.id()) == owner;
        if !acl.grants().iter().all(own) {
            found.insert(Extra::Acl);
        }
    }
    Ok(found)
}

async fn public_access_blocked(store: &Store) -> Result<Option<bool>, StoreError> {
    let answer = store
        .client
        .get_public_access_block()
        .bucket(&store.bucket)
        .send()
        .await;
    match answer.map_err(|error| StoreError::of("GetPublicAccessBlock", &error)) {
        Ok(answer) => Ok(Some(answer.public_access_block_configuration().is_some_and(
            |block| {
                let all = [
                    block.block_public_acls(),
                    block.ignore_public_acls(),
                    block.block_public_policy(),
                    block.restrict_public_buckets(),
                ];
                all.into_iter().all(|part| part == Some(true))
            },
        ))),
        // Ceph 16 answers with a root element of its own naming, which no client reads.
        Err(error) if error.is_unsupported() || error.is_denied() || error.is_unreadable() => Ok(None),
        Err(error) if error.is_absent() => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// What a store that does not have something, or does not show it to us, answers in its many ways: nothing.
fn known<T, E>(
    operation: &'static str,
    answer: Result<T, aws_sdk_s3::error::SdkError<E>>,
) -> Result<Option<T>, StoreError>
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer.map_err(|error| StoreError::of(operation, &error)) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_absent() || error.is_unsupported() || error.is_denied() => Ok(None),
        Err(error) => Err(error),
    }
}
