//! Canaries: small objects that something is tried on. Whoever is tried writes them; what became of them is
//! read by the operator; the operator removes them, with whatever was put on them.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectLockMode};
use futures::StreamExt;
use tracing::warn;

use crate::rules::recording::tag::{RetentionTag, TAG_KEY};
use crate::rules::recording::version::{ListedVersion, VersionRef};
use crate::storage::bucket::foreign_objects::scan;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::objects;
use crate::storage::s3::protection::write_legal_hold;

/// How long a canary's retention would last: long enough to be seen, short enough to be swept next time.
const RETENTION: Duration = Duration::from_secs(90);
/// How many canaries are removed at once.
const MAX_CONCURRENT_DELETES: usize = 8;
/// The folders under `probe/` that canaries are in.
const FOLDERS: [&str; 5] = ["proof", "recorder", "elsewhere", "operator", "tagged"];

/// A name that nobody can foresee.
pub(crate) fn random_name() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}

#[derive(Clone, Debug)]
pub(crate) struct Canary {
    pub(crate) key: String,
    pub(crate) bytes: Vec<u8>,
    tag: Option<RetentionTag>,
    lock: Option<CanaryLock>,
    condition: PutCondition,
}

/// Whether a canary is written with `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PutCondition {
    /// As a recorder does: with the condition, or without it where the store refuses it.
    IfSupported,
    Always,
    Never,
}

/// What an object may be protected with from its first moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CanaryLock {
    LegalHold,
    Retention,
}

/// When a retention of a canary ends.
pub(crate) fn retention_end() -> DateTime {
    DateTime::from(SystemTime::now() + RETENTION)
}

impl Canary {
    /// One with bytes that nobody can foresee.
    pub(crate) fn new(key: String, tag: Option<RetentionTag>) -> Self {
        Self { key, bytes: random_name().into_bytes(), tag, lock: None, condition: PutCondition::IfSupported }
    }

    pub(crate) fn with_lock(self, lock: CanaryLock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Written even where it is already.
    pub(crate) fn unconditional(self) -> Self {
        Self { condition: PutCondition::Never, ..self }
    }

    /// Written with the condition, or not at all.
    pub(crate) fn conditional(self) -> Self {
        Self { condition: PutCondition::Always, ..self }
    }

    /// The request that writes it as `writer`.
    pub(crate) fn request(&self, writer: &BucketClient) -> PutObjectFluentBuilder {
        let request = writer.client.put_object().bucket(&writer.bucket).key(&self.key);
        let request = match self.lock {
            None => request,
            Some(CanaryLock::LegalHold) => {
                request.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On)
            }
            Some(CanaryLock::Retention) => request
                .object_lock_mode(ObjectLockMode::Governance)
                .object_lock_retain_until_date(retention_end()),
        };
        request
            .set_tagging(self.tag.map(|tag| format!("{TAG_KEY}={tag}")))
            .set_if_none_match((self.condition != PutCondition::Never).then(|| "*".to_owned()))
            .body(ByteStream::from(self.bytes.clone()))
    }

    /// Writes it as `writer`, whatever the answer is. An error: it cannot be told whether it was tried.
    pub(crate) async fn write(&self, writer: &BucketClient) -> Result<(), StoreError> {
        let send = async |request: PutObjectFluentBuilder| {
            let answer = request.send().await;
            answer.map_err(|error| StoreError::from_sdk("PutObject", &error))
        };
        let mut answer = send(self.request(writer)).await;
        if self.condition == PutCondition::IfSupported && answer.as_ref().is_err_and(StoreError::rejects_form)
        {
            answer = send(self.clone().unconditional().request(writer)).await;
        }
        ignore_rejection(answer)
    }

    /// Writes it as `writer`, and says whether `reader` finds it.
    pub(crate) async fn write_and_find(
        &self,
        writer: &BucketClient,
        reader: &BucketClient,
    ) -> Result<bool, StoreError> {
        self.write(writer).await?;
        Ok(!self.versions(reader).await?.is_empty())
    }

    /// Its versions, newest first.
    pub(crate) async fn versions(&self, reader: &BucketClient) -> Result<Vec<VersionRef>, StoreError> {
        let mut versions = objects::list_versions(reader, &self.key).await?;
        versions.retain(|version| version.key == self.key);
        Ok(versions)
    }
}

/// Whether the store takes an object with a tag. One that refuses such a put and takes the same without a tag has none.
pub(crate) async fn supports_tags(operator: &BucketClient) -> Result<bool, StoreError> {
    let folder = format!("probe/proof/{}/", random_name());
    let put = async |tag| {
        let canary = Canary::new(format!("{folder}tagged"), tag).unconditional();
        let answer = canary.request(operator).send().await;
        answer.map_err(|error| StoreError::from_sdk("PutObject", &error))
    };
    let takes = match put(Some(RetentionTag::Video)).await {
        Err(error) if error.rejects_form() => put(None).await.is_err(),
        _ => true,
    };
    remove_canaries(operator, &folder).await;
    Ok(takes)
}

/// The answer to something that was tried: any answer is fine, since the effect is what counts; none, or one
/// that says "later", is not. Nor is what an STS says: then nothing was tried.
pub(crate) fn ignore_rejection<T>(answer: Result<T, StoreError>) -> Result<(), StoreError> {
    match answer {
        Err(error) if !error.is_rejection() => Err(error),
        _ => Ok(()),
    }
}

/// Whether a key is one of ours. What somebody else keeps under `probe/` is none of our business.
pub(crate) fn is_canary(key: &str) -> bool {
    let mut parts = key.splitn(4, '/');
    let name = |part: &str| part.len() == 16 && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    parts.next() == Some("probe")
        && parts.next().is_some_and(|folder| FOLDERS.contains(&folder))
        && parts.next().is_some_and(name)
}

/// Removes the canaries under a prefix, where a recorder's credentials may have put other things. What resists is left for the
/// next time, and logged.
pub(crate) async fn remove_canaries(operator: &BucketClient, prefix: &str) {
    let mut canaries = Vec::new();
    let seen = scan(operator, prefix, false, |page| {
        let found = page.versions.iter().filter(|listed| is_canary(&listed.key));
        canaries.extend(found.map(ListedVersion::version_ref));
    });
    match seen.await {
        Ok(true) => (),
        Ok(false) => {
            warn!(bucket = operator.bucket, prefix, "there is so much that not all canaries were looked for");
        }
        Err(error) => warn!(bucket = operator.bucket, error = error.to_string(), "canaries not listed"),
    }
    let removed =
        futures::stream::iter(&canaries).for_each_concurrent(MAX_CONCURRENT_DELETES, async |version| {
            if let Err(error) = remove_canary(operator, version).await {
                warn!(bucket = operator.bucket, error = error.to_string(), "a canary stays");
            }
        });
    removed.await;
}

async fn remove_canary(operator: &BucketClient, version: &VersionRef) -> Result<(), StoreError> {
    if objects::delete_version(operator, version).await.is_ok() {
        return Ok(());
    }
    if !version.is_marker {
        write_legal_hold(operator, version, false).await?;
    }
    let request = operator.client.delete_object().bucket(&operator.bucket).key(&version.key);
    let answer = request.version_id(&version.id).bypass_governance_retention(true).send().await;
    answer.map_err(|error| StoreError::from_sdk("DeleteObject", &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_are_not_canaries() {
        for kind in FOLDERS {
            assert!(is_canary(&format!("probe/{kind}/{}", random_name())));
            assert!(is_canary(&format!("probe/{kind}/{}/held", random_name())));
        }
        for key in [
            "probe/",
            "probe/notes.txt",
            "probe/recorder/readings/today",
            "probe/theirs/0123456789abcdef",
            "video/recorder/0123456789abcdef",
        ] {
            assert!(!is_canary(key), "{key}");
        }
    }
}
