//! Trying what must be refused, on canaries, with the identities that must be refused it. Judged by the
//! effect that the operator reads back, never by the status of the answer.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode, Tag, Tagging};

use super::canary::{Canary, hold, is_held, random_name, sweep, tried};
use super::client::Store;
use super::error::StoreError;
use super::objects::{self, Version};
use super::statements::CANARIES;
use super::tag::{RetentionTag, TAG_KEY};

/// The recorder could not even write, so nothing could be tried.
pub(crate) const CANNOT_WRITE: &str = "RecorderCannotWrite";
/// How long a canary's retention would last: long enough to be seen, short enough to be swept next time.
const RETENTION: Duration = Duration::from_secs(90);

/// Something that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What.
    pub operation: Attempt,
    /// Whether the store refused it: what was tried had no effect.
    pub refused: bool,
}

/// What is tried: as the recorder, but for the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum Attempt {
    /// Read an object that it wrote itself.
    Get,
    /// Read it by its version.
    GetVersion,
    /// List keys.
    List,
    /// List versions.
    ListVersions,
    /// Hide an object behind a delete marker.
    Delete,
    /// Delete a version for good.
    DeleteVersion,
    /// Change the tag of an object that is there.
    Retag,
    /// Change the tag of a version.
    RetagVersion,
    /// Turn a legal hold on.
    LegalHold,
    /// Turn a legal hold off that the operator turned on.
    LegalHoldOff,
    /// Set a retention.
    Retention,
    /// Write an object with a legal hold.
    PutWithLegalHold,
    /// Write an object that is tagged `held`.
    PutHeld,
    /// Write an object without a tag.
    PutUntagged,
    /// Write an object again under the condition that it is not there.
    PutAgain,
    /// Write a second version of an object, without that condition.
    Overwrite,
    /// Write where it has nothing to write.
    PutElsewhere,
    /// As the operator: read what stands for a recording.
    OperatorGet,
    /// As the operator: delete a version that has a legal hold.
    DeleteHeld,
}

impl Attempt {
    /// Its name, as it stands in the Site's status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Tries everything, and removes what that left.
pub(crate) async fn run(operator: &Store, recorder: &Store) -> Result<Vec<Trial>, StoreError> {
    // What another run was stopped before it could remove goes too.
    sweep(operator, "probe/").await;
    let base = format!("{CANARIES}{}/", random_name());
    let elsewhere = format!("probe/elsewhere/{}", random_name());
    let stage = Stage {
        operator,
        recorder,
        base,
        elsewhere,
    };
    let trials = stage.all().await;
    sweep(operator, "probe/").await;
    trials
}

struct Stage<'a> {
    operator: &'a Store,
    recorder: &'a Store,
    base: String,
    elsewhere: String,
}

impl Stage<'_> {
    async fn all(&self) -> Result<Vec<Trial>, StoreError> {
        let (canary, version) = self.recorded("recording").await?;
        let mut trials = Vec::new();
        for (operation, had_effect) in [
            (
                Attempt::Get,
                objects::reads(self.recorder, &canary.key, None, &canary.bytes).await?,
            ),
            (
                Attempt::GetVersion,
                objects::reads(self.recorder, &canary.key, Some(&version.id), &canary.bytes).await?,
            ),
            (Attempt::List, self.lists().await?),
            (Attempt::ListVersions, self.lists_versions().await?),
            (Attempt::Retag, self.retags(&version, false).await?),
            (Attempt::RetagVersion, self.retags(&version, true).await?),
            (Attempt::LegalHold, self.holds().await?),
            (Attempt::LegalHoldOff, self.unholds().await?),
            (Attempt::Retention, self.retains().await?),
            (Attempt::PutWithLegalHold, self.puts_held().await?),
            (
                Attempt::PutHeld,
                self.puts("tagged-held", Some(RetentionTag::Held)).await?,
            ),
            (Attempt::PutUntagged, self.puts("untagged", None).await?),
            (Attempt::PutAgain, self.overwrites(&canary).await?),
            (
                Attempt::Overwrite,
                self.overwrites(&canary.clone().unconditional()).await?,
            ),
            (Attempt::PutElsewhere, self.puts_elsewhere().await?),
            (
                Attempt::OperatorGet,
                objects::reads(self.operator, &canary.key, Some(&version.id), &canary.bytes).await?,
            ),
            (Attempt::DeleteHeld, self.deletes_held().await?),
            (Attempt::Delete, self.deletes(&canary).await?),
            (
                Attempt::DeleteVersion,
                self.deletes_version(&canary, &version).await?,
            ),
        ] {
            trials.push(Trial {
                operation,
                refused: !had_effect,
            });
        }
        Ok(trials)
    }

    /// A canary that the recorder wrote as it writes segments.
    async fn recorded(&self, name: &str) -> Result<(Canary, Version), StoreError> {
        let canary = Canary::new(format!("{}{name}", self.base), Some(RetentionTag::Video));
        canary.write(self.recorder).await?;
        let version = canary.versions(self.operator).await?.into_iter().next();
        let missing = StoreError {
            operation: "PutObject",
            code: CANNOT_WRITE.into(),
            status: None,
        };
        version.map(|version| (canary, version)).ok_or(missing)
    }

    async fn lists(&self) -> Result<bool, StoreError> {
        let client = &self.recorder.client;
        let request = client
            .list_objects_v2()
            .bucket(&self.recorder.bucket)
            .prefix(&self.base);
        match request
            .send()
            .await
            .map_err(|error| StoreError::of("ListObjectsV2", &error))
        {
            Ok(page) => Ok(!page.contents().is_empty()),
            Err(error) => tried::<()>(Err(error)).map(|()| false),
        }
    }

    async fn lists_versions(&self) -> Result<bool, StoreError> {
        match objects::versions(self.recorder, &self.base).await {
            Ok(versions) => Ok(!versions.is_empty()),
            Err(error) => tried::<()>(Err(error)).map(|()| false),
        }
    }

    async fn retags(&self, version: &Version, by_version: bool) -> Result<bool, StoreError> {
        let of = |value| Tag::builder().key(TAG_KEY).value(value).build().ok();
        let tags = Tagging::builder()
            .set_tag_set(Some(of("held").into_iter().collect()))
            .build()
            .ok();
        let id = by_version.then(|| version.id.clone());
        let request = self
            .recorder
            .client
            .put_object_tagging()
            .bucket(&self.recorder.bucket)
            .key(&version.key);
        let answer = request.set_version_id(id).set_tagging(tags).send().await;
        tried(answer.map_err(|error| StoreError::of("PutObjectTagging", &error)))?;
        let request = self
            .operator
            .client
            .get_object_tagging()
            .bucket(&self.operator.bucket)
            .key(&version.key);
        let tags = request.version_id(&version.id).send().await;
        let tags = tags.map_err(|error| StoreError::of("GetObjectTagging", &error))?;
        Ok(!tags
            .tag_set()
            .iter()
            .any(|tag| tag.key() == TAG_KEY && tag.value() == "video"))
    }

    async fn holds(&self) -> Result<bool, StoreError> {
        let (_, version) = self.recorded("hold").await?;
        tried(hold(self.recorder, &version, true).await)?;
        is_held(self.operator, &version).await
    }

    async fn unholds(&self) -> Result<bool, StoreError> {
        let (_, version) = self.recorded("unhold").await?;
        hold(self.operator, &version, true).await?;
        tried(hold(self.recorder, &version, false).await)?;
        Ok(!is_held(self.operator, &version).await?)
    }

    async fn retains(&self) -> Result<bool, StoreError> {
        let (_, version) = self.recorded("retain").await?;
        let until = DateTime::from(SystemTime::now() + RETENTION);
        let mode = ObjectLockRetentionMode::Governance;
        let retention = ObjectLockRetention::builder()
            .mode(mode)
            .retain_until_date(until)
            .build();
        let client = &self.recorder.client;
        let request = client
            .put_object_retention()
            .bucket(&self.recorder.bucket)
            .key(&version.key);
        let answer = request.version_id(&version.id).retention(retention).send().await;
        tried(answer.map_err(|error| StoreError::of("PutObjectRetention", &error)))?;
        let client = &self.operator.client;
        let request = client
            .get_object_retention()
            .bucket(&self.operator.bucket)
            .key(&version.key);
        match request.version_id(&version.id).send().await {
            Ok(answer) => Ok(answer
                .retention()
                .is_some_and(|r| r.retain_until_date().is_some())),
            Err(error) => {
                let error = StoreError::of("GetObjectRetention", &error);
                if error.is_absent() || error.is_unsupported() {
                    Ok(false)
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn puts_held(&self) -> Result<bool, StoreError> {
        let canary =
            Canary::new(format!("{}put-held", self.base), Some(RetentionTag::Video)).with_legal_hold();
        canary.write(self.recorder).await?;
        match canary.versions(self.operator).await?.first() {
            Some(version) => is_held(self.operator, version).await,
            None => Ok(false),
        }
    }

    async fn puts(&self, name: &str, tag: Option<RetentionTag>) -> Result<bool, StoreError> {
        Canary::new(format!("{}{name}", self.base), tag)
            .arrives(self.recorder, self.operator)
            .await
    }

    async fn puts_elsewhere(&self) -> Result<bool, StoreError> {
        Canary::new(self.elsewhere.clone(), Some(RetentionTag::Video))
            .arrives(self.recorder, self.operator)
            .await
    }

    async fn overwrites(&self, canary: &Canary) -> Result<bool, StoreError> {
        let before = canary.versions(self.operator).await?.len();
        canary.write(self.recorder).await?;
        Ok(canary.versions(self.operator).await?.len() > before)
    }

    async fn deletes_held(&self) -> Result<bool, StoreError> {
        let (canary, version) = self.recorded("held").await?;
        hold(self.operator, &version, true).await?;
        tried(objects::delete(self.operator, &version).await)?;
        Ok(!canary.versions(self.operator).await?.contains(&version))
    }

    async fn deletes(&self, canary: &Canary) -> Result<bool, StoreError> {
        let client = &self.recorder.client;
        let answer = client
            .delete_object()
            .bucket(&self.recorder.bucket)
            .key(&canary.key)
            .send()
            .await;
        tried(answer.map_err(|error| StoreError::of("DeleteObject", &error)))?;
        Ok(canary
            .versions(self.operator)
            .await?
            .iter()
            .any(|version| version.is_marker))
    }

    async fn deletes_version(&self, canary: &Canary, version: &Version) -> Result<bool, StoreError> {
        tried(objects::delete(self.recorder, version).await)?;
        Ok(!canary.versions(self.operator).await?.contains(version))
    }
}
