//! Writing what differs.

use aws_sdk_s3::types::{
    BucketCannedAcl, BucketLifecycleConfiguration, BucketLocationConstraint, BucketLoggingStatus,
    BucketVersioningStatus, CreateBucketConfiguration, NotificationConfiguration, ObjectLockConfiguration,
    ObjectLockEnabled, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};
use serde_json::Value;

use super::drift::{BucketOperation, DesiredBucket};
use super::policy::document::document;
use super::spec::{
    BucketState, ForbiddenSubresource, RequiredSubresource, StoreChange, Subresource, SubresourceState,
};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// AWS's first region: the one that a bucket may not name as its place.
const REGION_WITHOUT_CONSTRAINT: &str = "us-east-1";

/// Makes the bucket, with Object Lock: it cannot be added everywhere later.
pub(crate) async fn create_bucket(store: &BucketClient) -> Result<StoreChange, StoreError> {
    // Other stores have regions of their own naming, and take a bucket's place from the endpoint.
    let configuration = (store.is_aws && store.region != REGION_WITHOUT_CONSTRAINT).then(|| {
        let constraint = BucketLocationConstraint::from(store.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(constraint).build()
    });
    let request = store.client.create_bucket().bucket(&store.bucket).object_lock_enabled_for_bucket(true);
    let answer = request.set_create_bucket_configuration(configuration).send().await;
    answer.map_err(|error| StoreError::from_sdk("CreateBucket", &error))?;
    Ok(StoreChange {
        subresource: Subresource::Bucket,
        from: "none".into(),
        to: "made, with Object Lock".into(),
    })
}

/// Carries out one operation, and says what it changed.
pub(crate) async fn apply(
    store: &BucketClient,
    operation: &BucketOperation,
    desired: &DesiredBucket,
    state: &BucketState,
) -> Result<StoreChange, StoreError> {
    let change = |what, from: String, to: String| StoreChange { subresource: what, from, to };
    Ok(match operation {
        BucketOperation::EnableVersioning => {
            enable_versioning(store).await?;
            change(Subresource::Versioning, "off".into(), "on".into())
        }
        BucketOperation::ClearDefaultRetention => {
            clear_default_retention(store).await?;
            change(
                Subresource::DefaultRetention,
                state.default_retention.as_ref().map(ToString::to_string).unwrap_or_default(),
                "none".into(),
            )
        }
        BucketOperation::PutLifecycle => {
            put_lifecycle(store, desired).await?;
            let words = |rules: Vec<String>| {
                if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
            };
            let from = state.lifecycle.iter().flatten().map(ToString::to_string).collect();
            change(
                Subresource::Lifecycle,
                words(from),
                words(desired.lifecycle.values().map(ToString::to_string).collect()),
            )
        }
        BucketOperation::Remove(extra) => {
            remove_subresource(store, *extra).await?;
            change(Subresource::ForeignConfiguration, extra.to_string(), "removed".into())
        }
        BucketOperation::Set(setting) => {
            put_required(store, *setting).await?;
            let from = match state.required.get(setting) {
                Some(SubresourceState::Differs(how)) => how.clone(),
                _ => "unknown".to_owned(),
            };
            change((*setting).into(), from, setting.required_value().to_owned())
        }
        BucketOperation::PutPolicy => {
            put_policy(store, &desired.statements).await?;
            let from = match &state.policy {
                Some(policy) if desired.policy.as_ref().is_some_and(|ours| policy.is_subset_of(ours)) => {
                    format!("{} of its statements", policy.len())
                }
                Some(policy) => format!("another, of {} statements", policy.len()),
                None => "none".to_owned(),
            };
            let to = desired.policy.as_ref();
            let to = to.map_or("none".to_owned(), |policy| format!("{} statements", policy.len()));
            change(Subresource::Policy, from, to)
        }
    })
}

async fn enable_versioning(store: &BucketClient) -> Result<(), StoreError> {
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let request = store.client.put_bucket_versioning().bucket(&store.bucket).versioning_configuration(on);
    request.send().await.map_err(|error| StoreError::from_sdk("PutBucketVersioning", &error))?;
    Ok(())
}

/// Takes the default retention away; Object Lock stays.
pub(crate) async fn clear_default_retention(store: &BucketClient) -> Result<(), StoreError> {
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).build();
    let request = store.client.put_object_lock_configuration().bucket(&store.bucket);
    let answer = request.object_lock_configuration(lock).send().await;
    answer.map_err(|error| StoreError::from_sdk("PutObjectLockConfiguration", &error))?;
    Ok(())
}

async fn put_lifecycle(store: &BucketClient, desired: &DesiredBucket) -> Result<(), StoreError> {
    let operation = "PutBucketLifecycleConfiguration";
    let rules: Option<Vec<_>> = desired.lifecycle.iter().map(|(id, rule)| rule.to_sdk(id)).collect();
    let rules = BucketLifecycleConfiguration::builder()
        .set_rules(rules)
        .build()
        .map_err(|_| invalid_request(operation))?;
    let request = store.client.put_bucket_lifecycle_configuration().bucket(&store.bucket);
    let answer = request.lifecycle_configuration(rules).send().await;
    answer.map_err(|error| StoreError::from_sdk(operation, &error))?;
    Ok(())
}

async fn remove_subresource(store: &BucketClient, extra: ForbiddenSubresource) -> Result<(), StoreError> {
    let (client, bucket) = (&store.client, &store.bucket);
    match extra {
        ForbiddenSubresource::Cors => {
            let answer = client.delete_bucket_cors().bucket(bucket).send().await;
            answer.map_err(|error| StoreError::from_sdk("DeleteBucketCors", &error))?;
        }
        ForbiddenSubresource::Replication => {
            let answer = client.delete_bucket_replication().bucket(bucket).send().await;
            answer.map_err(|error| StoreError::from_sdk("DeleteBucketReplication", &error))?;
        }
        ForbiddenSubresource::Website => {
            let answer = client.delete_bucket_website().bucket(bucket).send().await;
            answer.map_err(|error| StoreError::from_sdk("DeleteBucketWebsite", &error))?;
        }
        ForbiddenSubresource::Acl => {
            let answer = client.put_bucket_acl().bucket(bucket).acl(BucketCannedAcl::Private).send().await;
            answer.map_err(|error| StoreError::from_sdk("PutBucketAcl", &error))?;
        }
        ForbiddenSubresource::Notifications => {
            let request = client.put_bucket_notification_configuration().bucket(bucket);
            let none = NotificationConfiguration::builder().build();
            let answer = request.notification_configuration(none).send().await;
            answer.map_err(|error| StoreError::from_sdk("PutBucketNotificationConfiguration", &error))?;
        }
        ForbiddenSubresource::Inventory => remove_inventories(store).await?,
        ForbiddenSubresource::Logging => {
            let request = client.put_bucket_logging().bucket(bucket);
            let answer = request.bucket_logging_status(BucketLoggingStatus::builder().build()).send().await;
            answer.map_err(|error| StoreError::from_sdk("PutBucketLogging", &error))?;
        }
    }
    Ok(())
}

/// An inventory goes by its name, and only as the store itself told it: some take the deletion of what they do not
/// know for that of the bucket.
async fn remove_inventories(store: &BucketClient) -> Result<(), StoreError> {
    let operation = "ListBucketInventoryConfigurations";
    let request = store.client.list_bucket_inventory_configurations();
    let answer = request.bucket(&store.bucket).send().await;
    let answer = answer.map_err(|error| StoreError::from_sdk(operation, &error))?;
    for inventory in answer.inventory_configuration_list() {
        let request = store.client.delete_bucket_inventory_configuration();
        let answer = request.bucket(&store.bucket).id(inventory.id()).send().await;
        answer.map_err(|error| StoreError::from_sdk("DeleteBucketInventoryConfiguration", &error))?;
    }
    Ok(())
}

async fn put_required(store: &BucketClient, setting: RequiredSubresource) -> Result<(), StoreError> {
    match setting {
        RequiredSubresource::PublicAccessBlock => put_public_access_block(store).await,
        RequiredSubresource::Encryption => put_default_encryption(store).await,
        RequiredSubresource::Ownership => put_ownership_controls(store).await,
    }
}

async fn put_default_encryption(store: &BucketClient) -> Result<(), StoreError> {
    let operation = "PutBucketEncryption";
    let default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
    let default = default.build().map_err(|_| invalid_request(operation))?;
    let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(default).build();
    let rules = ServerSideEncryptionConfiguration::builder().rules(rule);
    let rules = rules.build().map_err(|_| invalid_request(operation))?;
    let request = store.client.put_bucket_encryption().bucket(&store.bucket);
    let answer = request.server_side_encryption_configuration(rules).send().await;
    answer.map_err(|error| StoreError::from_sdk(operation, &error))?;
    Ok(())
}

async fn put_ownership_controls(store: &BucketClient) -> Result<(), StoreError> {
    let operation = "PutBucketOwnershipControls";
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced);
    let rule = rule.build().map_err(|_| invalid_request(operation))?;
    let controls =
        OwnershipControls::builder().rules(rule).build().map_err(|_| invalid_request(operation))?;
    let request = store.client.put_bucket_ownership_controls().bucket(&store.bucket);
    let answer = request.ownership_controls(controls).send().await;
    answer.map_err(|error| StoreError::from_sdk(operation, &error))?;
    Ok(())
}

/// A request that the SDK does not make.
fn invalid_request(operation: &'static str) -> StoreError {
    StoreError { operation, code: "InvalidRequest".into(), status: None }
}

async fn put_public_access_block(store: &BucketClient) -> Result<(), StoreError> {
    let all = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let request = store.client.put_public_access_block().bucket(&store.bucket);
    let answer = request.public_access_block_configuration(all).send().await;
    answer.map_err(|error| StoreError::from_sdk("PutPublicAccessBlock", &error))?;
    Ok(())
}

/// Puts a whole policy; none of its statements: removes it.
pub(crate) async fn put_policy(store: &BucketClient, statements: &[Value]) -> Result<(), StoreError> {
    if statements.is_empty() {
        let answer = store.client.delete_bucket_policy().bucket(&store.bucket).send().await;
        answer.map_err(|error| StoreError::from_sdk("DeleteBucketPolicy", &error))?;
        return Ok(());
    }
    let text = document(statements).to_string();
    let answer = store.client.put_bucket_policy().bucket(&store.bucket).policy(text).send().await;
    answer.map_err(|error| StoreError::from_sdk("PutBucketPolicy", &error))?;
    Ok(())
}
