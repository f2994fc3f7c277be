//! What is tried, by whomever: each says whether it had an effect, as the operator reads it back. The status
//! of the answer counts for nothing.

use aws_sdk_s3::types::{
    Delete, ObjectIdentifier, ObjectLockRetention, ObjectLockRetentionMode, Tag, Tagging,
};

use super::canary::{Canary, ignore_rejection, retention_end};
use super::table::{NO_CANARY, UnknownReason};
use crate::rules::recording::tag::{RetentionTag, TAG_KEY};
use crate::rules::recording::version::VersionRef;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::objects;
use crate::storage::s3::protection::{has_legal_hold, write_legal_hold};

/// Whether it had an effect. An error: it cannot be told.
type Effect = Result<bool, StoreError>;

pub(crate) struct WrittenCanary {
    pub(crate) canary: Canary,
    pub(crate) version: VersionRef,
}

/// Somebody who tries, and the operator who looks.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    pub(crate) store: &'a BucketClient,
    pub(crate) observer: &'a BucketClient,
}

/// In which way a version is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteMethod {
    Id,
    Batch,
    Bypass,
}

impl Actor<'_> {
    /// Writes a canary to try something on.
    pub(crate) async fn create_canary(&self, canary: Canary) -> Result<WrittenCanary, UnknownReason> {
        canary.write(self.store).await?;
        let version = canary.versions(self.observer).await?.into_iter().next();
        version
            .filter(|version| !version.is_marker)
            .map(|version| WrittenCanary { canary, version })
            .ok_or(UnknownReason::Inconclusive(NO_CANARY))
    }

    pub(crate) async fn can_read(&self, canary: &Canary, id: Option<&str>) -> Effect {
        objects::can_read(self.store, &canary.key, id, &canary.bytes).await
    }

    pub(crate) async fn can_list(&self, prefix: &str) -> Effect {
        let request = self.store.client.list_objects_v2().bucket(&self.store.bucket);
        let answer = request.prefix(prefix).send().await;
        match answer.map_err(|error| StoreError::from_sdk("ListObjectsV2", &error)) {
            Ok(page) => Ok(!page.contents().is_empty() || !page.common_prefixes().is_empty()),
            Err(error) => ignore_rejection::<()>(Err(error)).map(|()| false),
        }
    }

    pub(crate) async fn can_list_versions(&self, prefix: &str) -> Effect {
        match objects::list_versions(self.store, prefix).await {
            Ok(versions) => Ok(!versions.is_empty()),
            Err(error) => ignore_rejection::<()>(Err(error)).map(|()| false),
        }
    }

    /// Changes the tag to `held`, of the object or of its version.
    pub(crate) async fn can_retag(&self, version: &VersionRef, by_version: bool) -> Effect {
        let before = read_tags(self.observer, version).await?;
        let tag = Tag::builder().key(TAG_KEY).value(RetentionTag::Held.as_str()).build();
        let set = Tagging::builder().set_tag_set(tag.ok().map(|tag| vec![tag])).build();
        let request = self.store.client.put_object_tagging().bucket(&self.store.bucket);
        let request = request.key(&version.key).set_version_id(by_version.then(|| version.id.clone()));
        let answer = request.set_tagging(set.ok()).send().await;
        ignore_rejection(answer.map_err(|error| StoreError::from_sdk("PutObjectTagging", &error)))?;
        Ok(read_tags(self.observer, version).await? != before)
    }

    /// Takes the tag off, without and with the version's id: some stores heed only one of them.
    pub(crate) async fn can_untag(&self, version: &VersionRef) -> Effect {
        let before = read_tags(self.observer, version).await?;
        for id in [None, Some(version.id.clone())] {
            let request = self.store.client.delete_object_tagging().bucket(&self.store.bucket);
            let answer = request.key(&version.key).set_version_id(id).send().await;
            ignore_rejection(answer.map_err(|error| StoreError::from_sdk("DeleteObjectTagging", &error)))?;
        }
        Ok(read_tags(self.observer, version).await? != before)
    }

    pub(crate) async fn can_set_hold(&self, version: &VersionRef) -> Effect {
        ignore_rejection(write_legal_hold(self.store, version, true).await)?;
        has_legal_hold(self.observer, version).await
    }

    /// Clears a hold that the operator sets. One that is not there cannot be cleared.
    pub(crate) async fn can_clear_hold(&self, version: &VersionRef) -> Effect {
        ignore_rejection(write_legal_hold(self.observer, version, true).await)?;
        if !has_legal_hold(self.observer, version).await? {
            return Ok(false);
        }
        ignore_rejection(write_legal_hold(self.store, version, false).await)?;
        Ok(!has_legal_hold(self.observer, version).await?)
    }

    pub(crate) async fn can_set_retention(&self, version: &VersionRef) -> Effect {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(retention_end())
            .build();
        let request = self.store.client.put_object_retention().bucket(&self.store.bucket);
        let request = request.key(&version.key).version_id(&version.id);
        let answer = request.retention(retention).send().await;
        ignore_rejection(answer.map_err(|error| StoreError::from_sdk("PutObjectRetention", &error)))?;
        is_retained(self.observer, version).await
    }

    /// Writes one with a legal hold, and the hold is there.
    pub(crate) async fn can_put_held(&self, canary: &Canary) -> Effect {
        canary.write(self.store).await?;
        match canary.versions(self.observer).await?.first() {
            Some(version) => has_legal_hold(self.observer, version).await,
            None => Ok(false),
        }
    }

    /// Writes one with a retention, and the retention is there.
    pub(crate) async fn can_put_retained(&self, canary: &Canary) -> Effect {
        canary.write(self.store).await?;
        match canary.versions(self.observer).await?.first() {
            Some(version) => is_retained(self.observer, version).await,
            None => Ok(false),
        }
    }

    pub(crate) async fn can_put(&self, canary: &Canary) -> Effect {
        canary.write_and_find(self.store, self.observer).await
    }

    /// Writes another version of one that is there.
    pub(crate) async fn can_overwrite(&self, canary: &Canary) -> Effect {
        let before = canary.versions(self.observer).await?.len();
        canary.write(self.store).await?;
        Ok(canary.versions(self.observer).await?.len() > before)
    }

    /// Hides the object behind a delete marker, or loses it altogether.
    pub(crate) async fn can_delete(&self, canary: &Canary) -> Effect {
        let before = canary.versions(self.observer).await?;
        let request = self.store.client.delete_object().bucket(&self.store.bucket);
        let answer = request.key(&canary.key).send().await;
        ignore_rejection(answer.map_err(|error| StoreError::from_sdk("DeleteObject", &error)))?;
        Ok(canary.versions(self.observer).await? != before)
    }

    /// Deletes a version, which is then no longer listed.
    pub(crate) async fn can_delete_version(&self, version: &VersionRef, by: DeleteMethod) -> Effect {
        let (client, bucket) = (&self.store.client, &self.store.bucket);
        match by {
            DeleteMethod::Id => ignore_rejection(objects::delete_version(self.store, version).await)?,
            DeleteMethod::Bypass => {
                let request = client.delete_object().bucket(bucket).key(&version.key);
                let request = request.version_id(&version.id).bypass_governance_retention(true);
                ignore_rejection(
                    request.send().await.map_err(|error| StoreError::from_sdk("DeleteObject", &error)),
                )?;
            }
            DeleteMethod::Batch => ignore_rejection(self.send_batch_delete(version).await)?,
        }
        let left = objects::list_versions(self.observer, &version.key).await?;
        Ok(!left.contains(version))
    }

    /// Whether the store refuses batch deletions as such, whatever they name. The sweep then deletes one by one.
    pub(crate) async fn rejects_batches(&self, version: &VersionRef) -> Effect {
        match self.send_batch_delete(version).await {
            Err(error) if !error.is_rejection() => Err(error),
            Err(error) => Ok(error.rejects_form()),
            Ok(()) => Ok(false),
        }
    }

    /// Asks for a batch deletion of one version.
    async fn send_batch_delete(&self, version: &VersionRef) -> Result<(), StoreError> {
        let one = ObjectIdentifier::builder().key(&version.key).version_id(&version.id);
        let batch = Delete::builder().set_objects(one.build().ok().map(|one| vec![one]));
        let request = self.store.client.delete_objects().bucket(&self.store.bucket);
        let answer = request.set_delete(batch.build().ok()).send().await;
        answer.map_err(|error| StoreError::from_sdk("DeleteObjects", &error))?;
        Ok(())
    }
}

/// A version's tags, sorted.
pub(crate) async fn read_tags(
    operator: &BucketClient,
    version: &VersionRef,
) -> Result<Vec<(String, String)>, StoreError> {
    let request = operator.client.get_object_tagging().bucket(&operator.bucket);
    let answer = request.key(&version.key).version_id(&version.id).send().await;
    let answer = answer.map_err(|error| StoreError::from_sdk("GetObjectTagging", &error))?;
    let pair = |tag: &Tag| (tag.key().to_owned(), tag.value().to_owned());
    let mut tags: Vec<_> = answer.tag_set().iter().map(pair).collect();
    tags.sort();
    Ok(tags)
}

async fn is_retained(operator: &BucketClient, version: &VersionRef) -> Effect {
    let request = operator.client.get_object_retention().bucket(&operator.bucket);
    let answer = request.key(&version.key).version_id(&version.id).send().await;
    match answer.map_err(|error| StoreError::from_sdk("GetObjectRetention", &error)) {
        Ok(answer) => Ok(answer.retention().is_some_and(|retention| retention.retain_until_date().is_some())),
        // "No such lock configuration": it never had one. 400: nor can it have one in this bucket.
        Err(error) if error.is_not_found() || error.is_unsupported() || error.has_status(400) => Ok(false),
        Err(error) => Err(error),
    }
}
