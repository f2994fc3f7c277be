//! Writing what differs.

use aws_sdk_s3::types::{
    BucketCannedAcl, BucketLifecycleConfiguration, BucketLocationConstraint, BucketLoggingStatus,
    BucketVersioningStatus, CreateBucketConfiguration, NotificationConfiguration, ObjectLockConfiguration,
    ObjectLockEnabled, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};
use serde_json::Value;

use super::bucket::{Aspect, BucketState, Change, Extra, Kept, Setting};
use super::client::Store;
use super::drift::{Desired, Operation};
use super::error::StoreError;
use super::policy::document;

/// AWS's first region: the one that a bucket may not name as its place.
const UNNAMED_REGION: &str = "us-east-1";

/// Makes the bucket, with Object Lock: it cannot be added everywhere later.
pub(crate) async fn create(store: &Store) -> Result<Change, StoreError> {
    // Other stores have regions of their own naming, and take a bucket's place from the endpoint.
    let place = (store.aws && store.region != UNNAMED_REGION).then(|| {
        let constraint = BucketLocationConstraint::from(store.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(constraint).build()
    });
    let request = store.client.create_bucket().bucket(&store.bucket).object_lock_enabled_for_bucket(true);
    let answer = request.set_create_bucket_configuration(place).send().await;
    answer.map_err(|error| StoreError::of("CreateBucket", &error))?;
    Ok(Change { what: Aspect::Bucket, from: "none".into(), to: "made, with Object Lock".into() })
}

/// Carries out one operation, and says what it changed.
pub(crate) async fn apply(
    store: &Store,
    operation: &Operation,
    desired: &Desired,
    state: &BucketState,
) -> Result<Change, StoreError> {
    let change = |what, from: String, to: String| Change { what, from, to };
    Ok(match operation {
        Operation::Versioning => {
            versioning(store).await?;
            change(Aspect::Versioning, "off".into(), "on".into())
        }
        Operation::ClearRetention => {
            clear_retention(store).await?;
            change(
                Aspect::DefaultRetention,
                state.default_retention.as_ref().map(ToString::to_string).unwrap_or_default(),
                "none".into(),
            )
        }
        Operation::Lifecycle => {
            lifecycle(store, desired).await?;
            let words = |rules: Vec<String>| {
                if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
            };
            let from = state.lifecycle.iter().flatten().map(ToString::to_string).collect();
            change(
                Aspect::Lifecycle,
                words(from),
                words(desired.lifecycle.values().map(ToString::to_string).collect()),
            )
        }
        Operation::Remove(extra) => {
            remove(store, *extra).await?;
            change(Aspect::ForeignConfiguration, extra.to_string(), "removed".into())
        }
        Operation::Set(setting) => {
            set(store, *setting).await?;
            let from = match state.settings.get(setting) {
                Some(Kept::Otherwise(how)) => how.clone(),
                _ => "unknown".to_owned(),
            };
            change((*setting).into(), from, setting.required().to_owned())
        }
        Operation::Policy => {
            put_policy(store, &desired.statements).await?;
            let from = match &state.policy {
                Some(policy) if desired.policy.as_ref().is_some_and(|ours| policy.is_within(ours)) => {
                    format!("{} of its statements", policy.len())
                }
                Some(policy) => format!("another, of {} statements", policy.len()),
                None => "none".to_owned(),
            };
            let to = desired.policy.as_ref();
            let to = to.map_or("none".to_owned(), |policy| format!("{} statements", policy.len()));
            change(Aspect::Policy, from, to)
        }
    })
}

async fn versioning(store: &Store) -> Result<(), StoreError> {
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let request = store.client.put_bucket_versioning().bucket(&store.bucket).versioning_configuration(on);
    request.send().await.map_err(|error| StoreError::of("PutBucketVersioning", &error))?;
    Ok(())
}

/// Takes the default retention away; Object Lock stays.
pub(crate) async fn clear_retention(store: &Store) -> Result<(), StoreError> {
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).build();
    let request = store.client.put_object_lock_configuration().bucket(&store.bucket);
    let answer = request.object_lock_configuration(lock).send().await;
    answer.map_err(|error| StoreError::of("PutObjectLockConfiguration", &error))?;
    Ok(())
}

async fn lifecycle(store: &Store, desired: &Desired) -> Result<(), StoreError> {
    let operation = "PutBucketLifecycleConfiguration";
    let rules: Option<Vec<_>> = desired.lifecycle.iter().map(|(id, rule)| rule.write(id)).collect();
    let rules =
        BucketLifecycleConfiguration::builder().set_rules(rules).build().map_err(|_| invalid(operation))?;
    let request = store.client.put_bucket_lifecycle_configuration().bucket(&store.bucket);
    let answer = request.lifecycle_configuration(rules).send().await;
    answer.map_err(|error| StoreError::of(operation, &error))?;
    Ok(())
}

async fn remove(store: &Store, extra: Extra) -> Result<(), StoreError> {
    let (client, bucket) = (&store.client, &store.bucket);
    match extra {
        Extra::Cors => {
            let answer = client.delete_bucket_cors().bucket(bucket).send().await;
            answer.map_err(|error| StoreError::of("DeleteBucketCors", &error))?;
        }
        Extra::Replication => {
            let answer = client.delete_bucket_replication().bucket(bucket).send().await;
            answer.map_err(|error| StoreError::of("DeleteBucketReplication", &error))?;
        }
        Extra::Website => {
            let answer = client.delete_bucket_website().bucket(bucket).send().await;
            answer.map_err(|error| StoreError::of("DeleteBucketWebsite", &error))?;
        }
        Extra::Acl => {
            let answer = client.put_bucket_acl().bucket(bucket).acl(BucketCannedAcl::Private).send().await;
            answer.map_err(|error| StoreError::of("PutBucketAcl", &error))?;
        }
        Extra::Notifications => {
            let request = client.put_bucket_notification_configuration().bucket(bucket);
            let none = NotificationConfiguration::builder().build();
            let answer = request.notification_configuration(none).send().await;
            answer.map_err(|error| StoreError::of("PutBucketNotificationConfiguration", &error))?;
        }
        Extra::Inventory => remove_inventories(store).await?,
        Extra::Logging => {
            let request = client.put_bucket_logging().bucket(bucket);
            let answer = request.bucket_logging_status(BucketLoggingStatus::builder().build()).send().await;
            answer.map_err(|error| StoreError::of("PutBucketLogging", &error))?;
        }
    }
    Ok(())
}

/// An inventory goes by its name, and only as the store itself told it: some take the deletion of what they do not
/// know for that of the bucket.
async fn remove_inventories(store: &Store) -> Result<(), StoreError> {
    let operation = "ListBucketInventoryConfigurations";
    let request = store.client.list_bucket_inventory_configurations();
    let answer = request.bucket(&store.bucket).send().await;
    let answer = answer.map_err(|error| StoreError::of(operation, &error))?;
    for inventory in answer.inventory_configuration_list() {
        let request = store.client.delete_bucket_inventory_configuration();
        let answer = request.bucket(&store.bucket).id(inventory.id()).send().await;
        answer.map_err(|error| StoreError::of("DeleteBucketInventoryConfiguration", &error))?;
    }
    Ok(())
}

async fn set(store: &Store, setting: Setting) -> Result<(), StoreError> {
    match setting {
        Setting::PublicAccessBlock => block_public_access(store).await,
        Setting::Encryption => encrypt(store).await,
        Setting::Ownership => own(store).await,
    }
}

async fn encrypt(store: &Store) -> Result<(), StoreError> {
    let operation = "PutBucketEncryption";
    let default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
    let default = default.build().map_err(|_| invalid(operation))?;
    let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(default).build();
    let rules = ServerSideEncryptionConfiguration::builder().rules(rule);
    let rules = rules.build().map_err(|_| invalid(operation))?;
    let request = store.client.put_bucket_encryption().bucket(&store.bucket);
    let answer = request.server_side_encryption_configuration(rules).send().await;
    answer.map_err(|error| StoreError::of(operation, &error))?;
    Ok(())
}

async fn own(store: &Store) -> Result<(), StoreError> {
    let operation = "PutBucketOwnershipControls";
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced);
    let rule = rule.build().map_err(|_| invalid(operation))?;
    let controls = OwnershipControls::builder().rules(rule).build().map_err(|_| invalid(operation))?;
    let request = store.client.put_bucket_ownership_controls().bucket(&store.bucket);
    let answer = request.ownership_controls(controls).send().await;
    answer.map_err(|error| StoreError::of(operation, &error))?;
    Ok(())
}

/// A request that the SDK does not make.
fn invalid(operation: &'static str) -> StoreError {
    StoreError { operation, code: "InvalidRequest".into(), status: None }
}

async fn block_public_access(store: &Store) -> Result<(), StoreError> {
    let all = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let request = store.client.put_public_access_block().bucket(&store.bucket);
    let answer = request.public_access_block_configuration(all).send().await;
    answer.map_err(|error| StoreError::of("PutPublicAccessBlock", &error))?;
    Ok(())
}

/// Puts a whole policy; none of its statements: removes it.
pub(crate) async fn put_policy(store: &Store, statements: &[Value]) -> Result<(), StoreError> {
    if statements.is_empty() {
        let answer = store.client.delete_bucket_policy().bucket(&store.bucket).send().await;
        answer.map_err(|error| StoreError::of("DeleteBucketPolicy", &error))?;
        return Ok(());
    }
    let text = document(statements).to_string();
    let answer = store.client.put_bucket_policy().bucket(&store.bucket).policy(text).send().await;
    answer.map_err(|error| StoreError::of("PutBucketPolicy", &error))?;
    Ok(())
}
