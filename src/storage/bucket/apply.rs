//! Writing to the bucket.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketLocationConstraint, BucketVersioningStatus,
    CreateBucketConfiguration, ObjectLockConfiguration, ObjectLockEnabled, VersioningConfiguration,
};
use serde_json::Value;

use super::drift::{BucketOperation, DesiredBucket};
use super::policy::document::document;
use super::spec::StoreChange;
use super::state::BucketState;
use super::subresources::Subresource;
use crate::storage::s3::send::{invalid_request, send};
use crate::storage::s3::{BucketClient, StoreError};

/// AWS's first region: the one that a location constraint may not name.
const REGION_WITHOUT_CONSTRAINT: &str = "us-east-1";

/// Creates the bucket with Object Lock, which some stores cannot add later.
pub(crate) async fn create_bucket(store: &BucketClient) -> Result<StoreChange, StoreError> {
    // Other stores name their regions in their own way, and derive the location from the endpoint.
    let configuration = (store.is_aws && store.region != REGION_WITHOUT_CONSTRAINT).then(|| {
        let constraint = BucketLocationConstraint::from(store.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(constraint).build()
    });
    send!(
        store,
        "CreateBucket",
        create_bucket().object_lock_enabled_for_bucket(true).set_create_bucket_configuration(configuration)
    )?;
    Ok(StoreChange::new(Subresource::Bucket, "none", "created, with Object Lock"))
}

/// Makes one write, and returns the change.
pub(crate) async fn apply(
    store: &BucketClient,
    operation: BucketOperation,
    desired: &DesiredBucket,
    state: &BucketState,
) -> Result<StoreChange, StoreError> {
    match operation {
        BucketOperation::EnableVersioning => enable_versioning(store).await?,
        BucketOperation::ClearDefaultRetention => clear_default_retention(store).await?,
        BucketOperation::PutLifecycle => put_lifecycle(store, desired).await?,
        BucketOperation::Remove(forbidden) => forbidden.remove(store).await?,
        BucketOperation::Set(required) => required.set(store).await?,
        BucketOperation::PutPolicy => put_policy(store, &desired.statements).await?,
    }
    Ok(operation.change(desired, state))
}

async fn enable_versioning(store: &BucketClient) -> Result<(), StoreError> {
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    send!(store, "PutBucketVersioning", put_bucket_versioning().versioning_configuration(on))?;
    Ok(())
}

/// Removes the default retention. Object Lock stays.
pub(crate) async fn clear_default_retention(store: &BucketClient) -> Result<(), StoreError> {
    let operation = "PutObjectLockConfiguration";
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).build();
    send!(store, operation, put_object_lock_configuration().object_lock_configuration(lock))?;
    Ok(())
}

async fn put_lifecycle(store: &BucketClient, desired: &DesiredBucket) -> Result<(), StoreError> {
    let operation = "PutBucketLifecycleConfiguration";
    let rules: Option<Vec<_>> = desired.lifecycle.iter().map(|(id, rule)| rule.to_sdk(id)).collect();
    let rules = BucketLifecycleConfiguration::builder().set_rules(rules).build();
    let rules = rules.map_err(|_| invalid_request(operation))?;
    send!(store, operation, put_bucket_lifecycle_configuration().lifecycle_configuration(rules))?;
    Ok(())
}

/// Puts a policy of these statements; without statements, deletes the policy.
pub(crate) async fn put_policy(store: &BucketClient, statements: &[Value]) -> Result<(), StoreError> {
    if statements.is_empty() {
        send!(store, "DeleteBucketPolicy", delete_bucket_policy())?;
    } else {
        let text = document(statements).to_string();
        send!(store, "PutBucketPolicy", put_bucket_policy().policy(text))?;
    }
    Ok(())
}

/// Puts back a policy after others were tried. Stores answer 404 to the deletion of a policy that is already absent.
pub(crate) async fn restore_policy(store: &BucketClient, statements: &[Value]) -> Result<(), StoreError> {
    match put_policy(store, statements).await {
        Err(error) if statements.is_empty() && error.is_not_found() => Ok(()),
        restored => restored,
    }
}
