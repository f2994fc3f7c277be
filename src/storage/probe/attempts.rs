//! What is tried, by whomever: each says whether it had an effect, as the operator reads it back. The status
//! of the answer counts for nothing.

use aws_sdk_s3::types::{
    Delete, ObjectIdentifier, ObjectLockRetention, ObjectLockRetentionMode, Tag, Tagging,
};

use super::canary::{Canary, retention_end, tried};
use super::table::{NO_CANARY, Why};
use crate::storage::client::Store;
use crate::storage::error::StoreError;
use crate::storage::marks::{is_held, write_hold};
use crate::storage::objects::{self, Version};
use crate::storage::tag::{RetentionTag, TAG_KEY};

/// Whether it had an effect. An error: it cannot be told.
type Effect = Result<bool, StoreError>;

/// A canary that is there.
pub(super) struct There {
    pub(super) canary: Canary,
    pub(super) version: Version,
}

/// Somebody who tries, and the operator who looks.
#[derive(Clone, Copy)]
pub(super) struct Tries<'a> {
    pub(super) actor: &'a Store,
    pub(super) operator: &'a Store,
}

/// In which way a version is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Id,
    Batch,
    Bypass,
}

impl Tries<'_> {
    /// Writes a canary to try something on.
    pub(super) async fn leaves(&self, canary: Canary) -> Result<There, Why> {
        canary.write(self.actor).await?;
        let version = canary.versions(self.operator).await?.into_iter().next();
        version
            .filter(|version| !version.is_marker)
            .map(|version| There { canary, version })
            .ok_or(Why::Untold(NO_CANARY))
    }

    pub(super) async fn reads(&self, canary: &Canary, id: Option<&str>) -> Effect {
        objects::reads(self.actor, &canary.key, id, &canary.bytes).await
    }

    pub(super) async fn lists(&self, prefix: &str) -> Effect {
        let request = self.actor.client.list_objects_v2().bucket(&self.actor.bucket);
        let answer = request.prefix(prefix).send().await;
        match answer.map_err(|error| StoreError::of("ListObjectsV2", &error)) {
            Ok(page) => Ok(!page.contents().is_empty() || !page.common_prefixes().is_empty()),
            Err(error) => tried::<()>(Err(error)).map(|()| false),
        }
    }

    pub(super) async fn lists_versions(&self, prefix: &str) -> Effect {
        match objects::versions(self.actor, prefix).await {
            Ok(versions) => Ok(!versions.is_empty()),
            Err(error) => tried::<()>(Err(error)).map(|()| false),
        }
    }

    /// Changes the tag to `held`, of the object or of its version.
    pub(super) async fn retags(&self, version: &Version, by_version: bool) -> Effect {
        let before = tags(self.operator, version).await?;
        let tag = Tag::builder().key(TAG_KEY).value(RetentionTag::Held.as_str()).build();
        let set = Tagging::builder().set_tag_set(tag.ok().map(|tag| vec![tag])).build();
        let request = self.actor.client.put_object_tagging().bucket(&self.actor.bucket);
        let request = request.key(&version.key).set_version_id(by_version.then(|| version.id.clone()));
        let answer = request.set_tagging(set.ok()).send().await;
        tried(answer.map_err(|error| StoreError::of("PutObjectTagging", &error)))?;
        Ok(tags(self.operator, version).await? != before)
    }

    /// Takes the tag off, without and with the version's id: some stores heed only one of them.
    pub(super) async fn untags(&self, version: &Version) -> Effect {
        let before = tags(self.operator, version).await?;
        for id in [None, Some(version.id.clone())] {
            let request = self.actor.client.delete_object_tagging().bucket(&self.actor.bucket);
            let answer = request.key(&version.key).set_version_id(id).send().await;
            tried(answer.map_err(|error| StoreError::of("DeleteObjectTagging", &error)))?;
        }
        Ok(tags(self.operator, version).await? != before)
    }

    pub(super) async fn holds(&self, version: &Version) -> Effect {
        tried(write_hold(self.actor, version, true).await)?;
        is_held(self.operator, version).await
    }

    /// Clears a hold that the operator sets. One that is not there cannot be cleared.
    pub(super) async fn unholds(&self, version: &Version) -> Effect {
        tried(write_hold(self.operator, version, true).await)?;
        if !is_held(self.operator, version).await? {
            return Ok(false);
        }
        tried(write_hold(self.actor, version, false).await)?;
        Ok(!is_held(self.operator, version).await?)
    }

    pub(super) async fn retains(&self, version: &Version) -> Effect {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(retention_end())
            .build();
        let request = self.actor.client.put_object_retention().bucket(&self.actor.bucket);
        let request = request.key(&version.key).version_id(&version.id);
        let answer = request.retention(retention).send().await;
        tried(answer.map_err(|error| StoreError::of("PutObjectRetention", &error)))?;
        is_retained(self.operator, version).await
    }

    /// Writes one with a legal hold, and the hold is there.
    pub(super) async fn puts_held(&self, canary: &Canary) -> Effect {
        canary.write(self.actor).await?;
        match canary.versions(self.operator).await?.first() {
            Some(version) => is_held(self.operator, version).await,
            None => Ok(false),
        }
    }

    /// Writes one with a retention, and the retention is there.
    pub(super) async fn puts_retained(&self, canary: &Canary) -> Effect {
        canary.write(self.actor).await?;
        match canary.versions(self.operator).await?.first() {
            Some(version) => is_retained(self.operator, version).await,
            None => Ok(false),
        }
    }

    pub(super) async fn puts(&self, canary: &Canary) -> Effect {
        canary.arrives(self.actor, self.operator).await
    }

    /// Writes another version of one that is there.
    pub(super) async fn puts_again(&self, canary: &Canary) -> Effect {
        let before = canary.versions(self.operator).await?.len();
        canary.write(self.actor).await?;
        Ok(canary.versions(self.operator).await?.len() > before)
    }

    /// Hides the object behind a delete marker, or loses it altogether.
    pub(super) async fn deletes(&self, canary: &Canary) -> Effect {
        let before = canary.versions(self.operator).await?;
        let request = self.actor.client.delete_object().bucket(&self.actor.bucket);
        let answer = request.key(&canary.key).send().await;
        tried(answer.map_err(|error| StoreError::of("DeleteObject", &error)))?;
        Ok(canary.versions(self.operator).await? != before)
    }

    /// Deletes a version, which is then no longer listed.
    pub(super) async fn deletes_version(&self, version: &Version, by: By) -> Effect {
        let (client, bucket) = (&self.actor.client, &self.actor.bucket);
        match by {
            By::Id => tried(objects::delete(self.actor, version).await)?,
            By::Bypass => {
                let request = client.delete_object().bucket(bucket).key(&version.key);
                let request = request.version_id(&version.id).bypass_governance_retention(true);
                tried(request.send().await.map_err(|error| StoreError::of("DeleteObject", &error)))?;
            }
            By::Batch => tried(self.sends_batch(version).await)?,
        }
        let left = objects::versions(self.operator, &version.key).await?;
        Ok(!left.contains(version))
    }

    /// Whether the store refuses batch deletions as such, whatever they name. The sweep then deletes one by one.
    pub(super) async fn refuses_batches(&self, version: &Version) -> Effect {
        match self.sends_batch(version).await {
            Err(error) if !error.is_refusal() => Err(error),
            Err(error) => Ok(error.refuses_form()),
            Ok(()) => Ok(false),
        }
    }

    /// Asks for a batch deletion of one version.
    async fn sends_batch(&self, version: &Version) -> Result<(), StoreError> {
        let one = ObjectIdentifier::builder().key(&version.key).version_id(&version.id);
        let batch = Delete::builder().set_objects(one.build().ok().map(|one| vec![one]));
        let request = self.actor.client.delete_objects().bucket(&self.actor.bucket);
        let answer = request.set_delete(batch.build().ok()).send().await;
        answer.map_err(|error| StoreError::of("DeleteObjects", &error))?;
        Ok(())
    }
}

/// A version's tags, sorted.
pub(super) async fn tags(operator: &Store, version: &Version) -> Result<Vec<(String, String)>, StoreError> {
    let request = operator.client.get_object_tagging().bucket(&operator.bucket);
    let answer = request.key(&version.key).version_id(&version.id).send().await;
    let answer = answer.map_err(|error| StoreError::of("GetObjectTagging", &error))?;
    let pair = |tag: &Tag| (tag.key().to_owned(), tag.value().to_owned());
    let mut tags: Vec<_> = answer.tag_set().iter().map(pair).collect();
    tags.sort();
    Ok(tags)
}

async fn is_retained(operator: &Store, version: &Version) -> Effect {
    let request = operator.client.get_object_retention().bucket(&operator.bucket);
    let answer = request.key(&version.key).version_id(&version.id).send().await;
    match answer.map_err(|error| StoreError::of("GetObjectRetention", &error)) {
        Ok(answer) => Ok(answer.retention().is_some_and(|retention| retention.retain_until_date().is_some())),
        // "No such lock configuration": it never had one. 400: nor can it have one in this bucket.
        Err(error) if error.is_absent() || error.is_unsupported() || error.has_status(400) => Ok(false),
        Err(error) => Err(error),
    }
}
