//! Canaries: small objects for attempts. The identity under test writes them, and the operator reads the effect back. The operator
//! removes them, with every lock that an attempt left on them.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectLockMode};
use futures::StreamExt;
use tracing::warn;

use crate::rules::{ListedVersion, RetentionTag, TAG_KEY, VersionRef};
use crate::storage::bucket::foreign_objects::scan;
use crate::storage::s3::protection::write_legal_hold;
use crate::storage::s3::send::{send, store_error};
use crate::storage::s3::{BucketClient, StoreError, objects};

/// Retention of a canary: long enough to read it back, short enough that the next run can delete the canary.
const RETENTION: Duration = Duration::from_secs(90);
/// Maximum number of concurrent deletions.
const MAX_CONCURRENT_DELETES: usize = 8;
/// Folders of canaries under `probe/`.
const FOLDERS: [&str; 5] = ["proof", "recorder", "elsewhere", "operator", "tagged"];

/// Returns a name that nobody can predict.
pub(crate) fn random_name() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}

#[derive(Clone, Debug)]
pub(crate) struct Canary {
    pub(crate) key: String,
    pub(crate) bytes: Vec<u8>,
    tag: Option<RetentionTag>,
    pub(crate) lock: Option<CanaryLock>,
    condition: PutCondition,
}

/// Use of `If-None-Match: *` in the put of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PutCondition {
    /// As a recorder puts: with the condition, or without it if the store rejects the condition.
    IfSupported,
    Always,
    Never,
}

/// Protection that a put can give an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CanaryLock {
    LegalHold,
    Retention,
}

/// Returns the end of a canary's retention.
pub(crate) fn retention_end() -> DateTime {
    DateTime::from(SystemTime::now() + RETENTION)
}

impl Canary {
    /// Returns a canary with bytes that nobody can predict, so that no canned answer passes for a read.
    pub(crate) fn new(key: String, tag: Option<RetentionTag>) -> Self {
        Self { key, bytes: random_name().into_bytes(), tag, lock: None, condition: PutCondition::IfSupported }
    }

    pub(crate) fn with_lock(self, lock: CanaryLock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Puts it even if it exists.
    pub(crate) fn unconditional(self) -> Self {
        Self { condition: PutCondition::Never, ..self }
    }

    /// Puts it with the condition, or not at all.
    pub(crate) fn conditional(self) -> Self {
        Self { condition: PutCondition::Always, ..self }
    }

    /// Returns the request that writes it as `writer`.
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

    /// Writes it as `writer`. A rejection is no error: only the effect counts.
    pub(crate) async fn write(&self, writer: &BucketClient) -> Result<(), StoreError> {
        let send =
            async |request: PutObjectFluentBuilder| request.send().await.map_err(store_error("PutObject"));
        let mut answer = send(self.request(writer)).await;
        if self.condition == PutCondition::IfSupported && answer.as_ref().is_err_and(StoreError::rejects_form)
        {
            answer = send(self.clone().unconditional().request(writer)).await;
        }
        ignore_rejection(answer)
    }

    /// Returns its versions, newest first.
    pub(crate) async fn versions(&self, reader: &BucketClient) -> Result<Vec<VersionRef>, StoreError> {
        let mut versions = objects::list_versions(reader, &self.key).await?;
        versions.retain(|version| version.key == self.key);
        Ok(versions)
    }
}

/// Returns whether the store accepts an object with a tag. A store that accepts the same put only without a tag does not.
pub(crate) async fn supports_tags(operator: &BucketClient) -> Result<bool, StoreError> {
    let folder = format!("probe/proof/{}/", random_name());
    let put = async |tag| {
        let canary = Canary::new(format!("{folder}tagged"), tag).unconditional();
        canary.request(operator).send().await.map_err(store_error("PutObject"))
    };
    let is_supported = match put(Some(RetentionTag::Video)).await {
        Err(error) if error.rejects_form() => put(None).await.is_err(),
        _ => true,
    };
    remove_canaries(operator, &folder).await;
    Ok(is_supported)
}

/// Accepts every answer to an attempt, because only the effect counts. No answer, one that asks to retry, or one of the STS is an
/// error: the store made no attempt.
pub(crate) fn ignore_rejection<T>(answer: Result<T, StoreError>) -> Result<(), StoreError> {
    match answer {
        Err(error) if !error.is_rejection() => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether a key is a canary's. Others may have objects under `probe/`, which the operator must not delete.
pub(crate) fn is_canary(key: &str) -> bool {
    let mut parts = key.splitn(4, '/');
    let name = |part: &str| part.len() == 16 && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    parts.next() == Some("probe")
        && parts.next().is_some_and(|folder| FOLDERS.contains(&folder))
        && parts.next().is_some_and(name)
}

/// Removes the canaries under a prefix, where a recorder's credentials may have put other objects. Logs the canaries that it
/// cannot remove; the next run tries again.
pub(crate) async fn remove_canaries(operator: &BucketClient, prefix: &str) {
    let mut canaries = Vec::new();
    let scanned = scan(operator, prefix, false, |page| {
        let found = page.versions.iter().filter(|listed| is_canary(&listed.key));
        canaries.extend(found.map(ListedVersion::version_ref));
    });
    match scanned.await {
        Ok(true) => (),
        Ok(false) => {
            warn!(
                bucket = operator.bucket,
                prefix, "too many objects under the prefix: some canaries may remain"
            );
        }
        Err(error) => {
            warn!(bucket = operator.bucket, %error, "the canaries cannot be listed");
        }
    }
    let removed =
        futures::stream::iter(&canaries).for_each_concurrent(MAX_CONCURRENT_DELETES, async |version| {
            if let Err(error) = remove_canary(operator, version).await {
                warn!(bucket = operator.bucket, %error, "a canary cannot be removed");
            }
        });
    removed.await;
}

async fn remove_canary(operator: &BucketClient, version: &VersionRef) -> Result<(), StoreError> {
    // Most canaries have no lock, so the plain deletion comes first.
    if objects::delete_version(operator, version).await.is_ok() {
        return Ok(());
    }
    // A recorder may have put a legal hold or a retention on it. Delete markers have neither.
    if !version.is_marker {
        write_legal_hold(operator, version, false).await?;
    }
    delete_with_bypass(operator, version).await
}

/// Deletes a version, and bypasses its governance retention.
pub(crate) async fn delete_with_bypass(store: &BucketClient, version: &VersionRef) -> Result<(), StoreError> {
    let VersionRef { key, id, .. } = version;
    let operation = "DeleteObject";
    send!(store, operation, delete_object().key(key).version_id(id).bypass_governance_retention(true))?;
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
