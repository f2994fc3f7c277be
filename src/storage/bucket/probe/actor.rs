//! Attempts of an identity, judged by their effect as the operator reads it back. The status of the answer does not count.

use aws_sdk_s3::types::{
    Delete, ObjectIdentifier, ObjectLockRetention, ObjectLockRetentionMode, Tag, Tagging,
};

use super::canary::{Canary, CanaryLock, delete_with_bypass, ignore_rejection, retention_end};
use super::table::{NO_CANARY, UnknownReason};
use crate::rules::{RetentionTag, TAG_KEY, VersionRef};
use crate::storage::s3::protection::{has_legal_hold, write_legal_hold};
use crate::storage::s3::send::send;
use crate::storage::s3::{BucketClient, StoreError, objects};

/// Whether an attempt had an effect. An error: unknown.
type Effect = Result<bool, StoreError>;

pub(crate) struct WrittenCanary {
    pub(crate) canary: Canary,
    pub(crate) version: VersionRef,
}

/// An identity that makes attempts, and the operator who reads their effects back.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    pub(crate) store: &'a BucketClient,
    pub(crate) observer: &'a BucketClient,
}

/// An attempt on a canary that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Read,
    ReadVersion,
    List,
    ListVersions,
    /// Changes the tag to `held`.
    Retag,
    RetagVersion,
    Untag,
    SetHold,
    ClearHold,
    SetRetention,
    /// Puts a second version.
    Overwrite,
    /// Hides the object behind a delete marker, or deletes it altogether.
    Delete,
    DeleteVersion(DeleteMethod),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteMethod {
    Id,
    Batch,
    /// By its id, with the header that bypasses governance retention.
    Bypass,
}

impl Actor<'_> {
    /// Makes an attempt on a canary. Returns whether it had an effect.
    pub(crate) async fn attempt(&self, attempt: Attempt, on: &WrittenCanary) -> Effect {
        let WrittenCanary { canary, version } = on;
        match attempt {
            Attempt::Read => self.can_read(canary, None).await,
            Attempt::ReadVersion => self.can_read(canary, Some(&version.id)).await,
            Attempt::List => self.can_list(&canary.key).await,
            Attempt::ListVersions => self.can_list_versions(&canary.key).await,
            Attempt::Retag => self.can_retag(version, false).await,
            Attempt::RetagVersion => self.can_retag(version, true).await,
            Attempt::Untag => self.can_untag(version).await,
            Attempt::SetHold => self.can_set_hold(version).await,
            Attempt::ClearHold => self.can_clear_hold(version).await,
            Attempt::SetRetention => self.can_set_retention(version).await,
            // With the condition, the put would fail because of the first version.
            Attempt::Overwrite => self.can_overwrite(&canary.clone().unconditional()).await,
            Attempt::Delete => self.can_delete(canary).await,
            Attempt::DeleteVersion(by) => self.can_delete_version(version, by).await,
        }
    }

    /// Writes a canary for an attempt.
    pub(crate) async fn create_canary(&self, canary: Canary) -> Result<WrittenCanary, UnknownReason> {
        canary.write(self.store).await?;
        let version = canary.versions(self.observer).await?.into_iter().next();
        version
            .filter(|version| !version.is_marker)
            .map(|version| WrittenCanary { canary, version })
            .ok_or(UnknownReason::Inconclusive(NO_CANARY))
    }

    /// Writes a canary, which must then be there with its lock.
    pub(crate) async fn can_put(&self, canary: &Canary) -> Effect {
        canary.write(self.store).await?;
        let versions = canary.versions(self.observer).await?;
        match (versions.first(), canary.lock) {
            (None, _) => Ok(false),
            (Some(_), None) => Ok(true),
            (Some(version), Some(CanaryLock::LegalHold)) => has_legal_hold(self.observer, version).await,
            (Some(version), Some(CanaryLock::Retention)) => is_retained(self.observer, version).await,
        }
    }

    pub(crate) async fn can_read(&self, canary: &Canary, id: Option<&str>) -> Effect {
        objects::can_read(self.store, &canary.key, id, &canary.bytes).await
    }

    async fn can_list(&self, prefix: &str) -> Effect {
        match send!(self.store, "ListObjectsV2", list_objects_v2().prefix(prefix)) {
            Ok(page) => Ok(!page.contents().is_empty() || !page.common_prefixes().is_empty()),
            Err(error) => ignore_rejection::<()>(Err(error)).map(|()| false),
        }
    }

    async fn can_list_versions(&self, prefix: &str) -> Effect {
        match objects::list_versions(self.store, prefix).await {
            Ok(versions) => Ok(!versions.is_empty()),
            Err(error) => ignore_rejection::<()>(Err(error)).map(|()| false),
        }
    }

    pub(crate) async fn can_retag(&self, version: &VersionRef, by_version: bool) -> Effect {
        let before = read_tags(self.observer, version).await?;
        let tag = Tag::builder().key(TAG_KEY).value(RetentionTag::Held.as_str()).build();
        let set = Tagging::builder().set_tag_set(tag.ok().map(|tag| vec![tag])).build();
        let (key, id) = (&version.key, by_version.then(|| version.id.clone()));
        ignore_rejection(send!(
            self.store,
            "PutObjectTagging",
            put_object_tagging().key(key).set_version_id(id).set_tagging(set.ok())
        ))?;
        Ok(read_tags(self.observer, version).await? != before)
    }

    /// Removes the tag without and with the version's id: some stores honour only one of them.
    async fn can_untag(&self, version: &VersionRef) -> Effect {
        let before = read_tags(self.observer, version).await?;
        for id in [None, Some(version.id.clone())] {
            let key = &version.key;
            ignore_rejection(send!(
                self.store,
                "DeleteObjectTagging",
                delete_object_tagging().key(key).set_version_id(id)
            ))?;
        }
        Ok(read_tags(self.observer, version).await? != before)
    }

    pub(crate) async fn can_set_hold(&self, version: &VersionRef) -> Effect {
        ignore_rejection(write_legal_hold(self.store, version, true).await)?;
        has_legal_hold(self.observer, version).await
    }

    /// Clears a hold that the operator sets first: without it, clearing could have no effect.
    pub(crate) async fn can_clear_hold(&self, version: &VersionRef) -> Effect {
        ignore_rejection(write_legal_hold(self.observer, version, true).await)?;
        if !has_legal_hold(self.observer, version).await? {
            return Ok(false);
        }
        ignore_rejection(write_legal_hold(self.store, version, false).await)?;
        Ok(!has_legal_hold(self.observer, version).await?)
    }

    async fn can_set_retention(&self, version: &VersionRef) -> Effect {
        let retention = ObjectLockRetention::builder()
            // Not compliance, which nobody can bypass: the operator removes the canary at the end of the run.
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(retention_end())
            .build();
        ignore_rejection(send!(
            self.store,
            "PutObjectRetention",
            put_object_retention().key(&version.key).version_id(&version.id).retention(retention)
        ))?;
        is_retained(self.observer, version).await
    }

    pub(crate) async fn can_overwrite(&self, canary: &Canary) -> Effect {
        let before = canary.versions(self.observer).await?.len();
        canary.write(self.store).await?;
        Ok(canary.versions(self.observer).await?.len() > before)
    }

    async fn can_delete(&self, canary: &Canary) -> Effect {
        let before = canary.versions(self.observer).await?;
        ignore_rejection(send!(self.store, "DeleteObject", delete_object().key(&canary.key)))?;
        Ok(canary.versions(self.observer).await? != before)
    }

    pub(crate) async fn can_delete_version(&self, version: &VersionRef, by: DeleteMethod) -> Effect {
        let answer = match by {
            DeleteMethod::Id => objects::delete_version(self.store, version).await,
            DeleteMethod::Bypass => delete_with_bypass(self.store, version).await,
            DeleteMethod::Batch => self.send_batch_delete(version).await,
        };
        ignore_rejection(answer)?;
        let remaining = objects::list_versions(self.observer, &version.key).await?;
        Ok(!remaining.contains(version))
    }

    /// Returns whether the store rejects every batch deletion. The sweep then deletes one by one.
    pub(crate) async fn rejects_batches(&self, version: &VersionRef) -> Effect {
        match self.send_batch_delete(version).await {
            Err(error) if !error.is_rejection() => Err(error),
            Err(error) => Ok(error.rejects_form()),
            Ok(()) => Ok(false),
        }
    }

    async fn send_batch_delete(&self, version: &VersionRef) -> Result<(), StoreError> {
        let one = ObjectIdentifier::builder().key(&version.key).version_id(&version.id);
        let batch = Delete::builder().set_objects(one.build().ok().map(|one| vec![one]));
        send!(self.store, "DeleteObjects", delete_objects().set_delete(batch.build().ok()))?;
        Ok(())
    }
}

/// Returns a version's tags, sorted.
pub(crate) async fn read_tags(
    operator: &BucketClient,
    version: &VersionRef,
) -> Result<Vec<(String, String)>, StoreError> {
    let VersionRef { key, id, .. } = version;
    let answer = send!(operator, "GetObjectTagging", get_object_tagging().key(key).version_id(id))?;
    let pair = |tag: &Tag| (tag.key().to_owned(), tag.value().to_owned());
    let mut tags: Vec<_> = answer.tag_set().iter().map(pair).collect();
    tags.sort();
    Ok(tags)
}

async fn is_retained(operator: &BucketClient, version: &VersionRef) -> Effect {
    let VersionRef { key, id, .. } = version;
    match send!(operator, "GetObjectRetention", get_object_retention().key(key).version_id(id)) {
        Ok(answer) => Ok(answer.retention().is_some_and(|retention| retention.retain_until_date().is_some())),
        // "No such lock configuration": it never had a retention. 400: nothing in this bucket can have one.
        Err(error) if error.is_not_found() || error.is_unsupported() || error.has_status(400) => Ok(false),
        Err(error) => Err(error),
    }
}
