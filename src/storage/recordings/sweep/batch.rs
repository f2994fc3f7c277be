//! Deletes many versions with one request.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures::StreamExt;

use crate::rules::ListedVersion;
use crate::storage::s3::send::send;
use crate::storage::s3::{BucketClient, StoreError, objects};

/// Concurrent deletions on a store without batches.
const MAX_CONCURRENT_DELETES: usize = 4;

/// Deletes a batch by version id. Returns the ids of versions to try again. A later listing shows any others that the
/// store refused.
pub(crate) async fn delete_batch<'b, 'l>(
    store: &BucketClient,
    batch: &'b [&'l ListedVersion],
) -> (&'b [&'l ListedVersion], Result<BTreeSet<String>, StoreError>) {
    let deleted = match delete_objects(store, batch).await {
        // The store does not support the operation, or rejects its form. A single deletion has no body to reject.
        Err(error) if error.rejects_form() => delete_individually(store, batch).await,
        deleted => deleted,
    };
    (batch, deleted)
}

async fn delete_objects(
    store: &BucketClient,
    batch: &[&ListedVersion],
) -> Result<BTreeSet<String>, StoreError> {
    let objects: Option<Vec<_>> = batch
        .iter()
        .map(|listed| ObjectIdentifier::builder().key(&listed.key).version_id(&listed.id).build().ok())
        .collect();
    let delete = Delete::builder().set_objects(objects).quiet(true).build().ok();
    let answer = send!(store, "DeleteObjects", delete_objects().set_delete(delete))?;
    let later =
        |code: &str| matches!(code, "SlowDown" | "InternalError" | "ServiceUnavailable" | "OperationAborted");
    let failed = answer.errors().iter().filter(|error| error.code().is_some_and(later));
    // Some stores return only the key. Then every version of it in the batch is retried.
    Ok(failed
        .flat_map(|error| {
            let is_it = |listed: &&&ListedVersion| {
                error.key().is_none_or(|key| key == listed.key)
                    && error.version_id().is_none_or(|id| id.is_empty() || id == listed.id)
            };
            batch.iter().filter(is_it).map(|listed| listed.id.clone())
        })
        .collect())
}

/// Deletes a batch with one request a version.
async fn delete_individually(
    store: &BucketClient,
    batch: &[&ListedVersion],
) -> Result<BTreeSet<String>, StoreError> {
    // A rejection is no error here: the read-back counts the version as undeletable, and the sweep continues.
    let deletions: Vec<_> = batch.iter().map(|listed| delete_listed(store, listed)).collect();
    let answers: Vec<_> =
        futures::stream::iter(deletions).buffer_unordered(MAX_CONCURRENT_DELETES).collect().await;
    let again =
        answers.into_iter().filter(|(_, answer)| answer.as_ref().is_err_and(StoreError::is_retryable));
    Ok(again.map(|(id, _)| id).collect())
}

async fn delete_listed(store: &BucketClient, listed: &ListedVersion) -> (String, Result<(), StoreError>) {
    let deleted = objects::delete_version(store, &listed.version_ref()).await;
    (listed.id.clone(), deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::stub::{self, ReceivedRequest, Stub, error_answer};

    fn listed(key: &str, id: &str) -> ListedVersion {
        stub::listed(key, id, jiff::Timestamp::UNIX_EPOCH)
    }

    /// Returns the individually deleted versions by key and id.
    fn individually_deleted(asked: &[ReceivedRequest]) -> BTreeSet<String> {
        let deletes = asked.iter().filter(|asked| asked.method == "DELETE");
        deletes
            .map(|asked| {
                let id = asked.query.split_once("versionId=").unwrap().1;
                format!("{} {id}", asked.path)
            })
            .collect()
    }

    #[tokio::test]
    async fn rejected_batch_is_deleted_individually() {
        for (status, code) in [(400, "MissingContentMD5"), (501, "NotImplemented"), (405, "MethodNotAllowed")]
        {
            let stub = Stub::start(move |asked| match asked.method.as_str() {
                "POST" => error_answer(status, code),
                _ if asked.query.contains("versionId=late") => error_answer(503, "SlowDown"),
                _ if asked.query.contains("versionId=kept") => error_answer(403, "AccessDenied"),
                _ => (204, String::new()),
            })
            .await;
            let batch = [listed("video/b/9", "one"), listed("video/b/9", "late"), listed("video/a", "kept")];
            let batch: Vec<&ListedVersion> = batch.iter().collect();
            let (_, again) = delete_batch(&stub.store(), &batch).await;
            assert_eq!(again.unwrap(), BTreeSet::from(["late".to_owned()]), "{code}");
            let asked = individually_deleted(&stub.take_requests());
            let expected = ["/tz-stub/video/a kept", "/tz-stub/video/b/9 late", "/tz-stub/video/b/9 one"];
            assert_eq!(asked, expected.map(str::to_owned).into());
        }
    }

    #[tokio::test]
    async fn denied_batch_is_an_error() {
        let stub = Stub::start(|_| error_answer(403, "AccessDenied")).await;
        let one = listed("video/a", "x");
        let (_, again) = delete_batch(&stub.store(), &[&one]).await;
        assert_eq!(again.unwrap_err().code, "AccessDenied");
        assert!(individually_deleted(&stub.take_requests()).is_empty());
    }

    #[tokio::test]
    async fn errors_without_version_retry_every_version_of_the_key() {
        for (named, expected) in [
            ("<Key>video/b</Key>", vec!["b1", "b2"]),
            ("<Key>video/b</Key><VersionId></VersionId>", vec!["b1", "b2"]),
            ("<Key>video/b</Key><VersionId>b2</VersionId>", vec!["b2"]),
            ("", vec!["a1", "b1", "b2"]),
        ] {
            let stub = Stub::start(move |_| {
                let entry = format!("<Error>{named}<Code>SlowDown</Code></Error>");
                (200, format!("<DeleteResult>{entry}</DeleteResult>"))
            })
            .await;
            let batch = [listed("video/a", "a1"), listed("video/b", "b1"), listed("video/b", "b2")];
            let batch: Vec<&ListedVersion> = batch.iter().collect();
            let (_, again) = delete_batch(&stub.store(), &batch).await;
            let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(again.unwrap(), expected, "{named}");
        }
    }
}
