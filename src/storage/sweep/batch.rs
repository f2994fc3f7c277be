//! Deletion of many versions at once.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures::StreamExt;

use crate::storage::client::Store;
use crate::storage::error::StoreError;
use crate::storage::listing::Listed;
use crate::storage::objects;

/// Deletions under way at once where a store takes no batches.
const SINGLES: usize = 4;

/// Deletes a batch by version id. Returns the ids of versions to try again. A later listing shows any others that the
/// store refused.
pub(super) async fn delete<'b, 'l>(
    store: &Store,
    batch: &'b [&'l Listed],
) -> (&'b [&'l Listed], Result<BTreeSet<String>, StoreError>) {
    let deleted = match delete_all(store, batch).await {
        // The store does not know the operation, or refuses its form. A single deletion needs no body.
        Err(error) if error.refuses_form() => one_by_one(store, batch).await,
        deleted => deleted,
    };
    (batch, deleted)
}

async fn delete_all(store: &Store, batch: &[&Listed]) -> Result<BTreeSet<String>, StoreError> {
    let objects: Option<Vec<_>> = batch
        .iter()
        .map(|listed| ObjectIdentifier::builder().key(&listed.key).version_id(&listed.id).build().ok())
        .collect();
    let delete = Delete::builder().set_objects(objects).quiet(true).build().ok();
    let request = store.client.delete_objects().bucket(&store.bucket);
    let answer = request.set_delete(delete).send().await;
    let answer = answer.map_err(|error| StoreError::of("DeleteObjects", &error))?;
    let later =
        |code: &str| matches!(code, "SlowDown" | "InternalError" | "ServiceUnavailable" | "OperationAborted");
    let failed = answer.errors().iter().filter(|error| error.code().is_some_and(later));
    // Some stores name the key only: then every version of it in the batch is tried again.
    Ok(failed
        .flat_map(|error| {
            let is_it = |listed: &&&Listed| {
                error.key().is_none_or(|key| key == listed.key)
                    && error.version_id().is_none_or(|id| id.is_empty() || id == listed.id)
            };
            batch.iter().filter(is_it).map(|listed| listed.id.clone())
        })
        .collect())
}

/// Deletes a batch by a request for each version.
async fn one_by_one(store: &Store, batch: &[&Listed]) -> Result<BTreeSet<String>, StoreError> {
    let deletions: Vec<_> = batch.iter().map(|listed| delete_one(store, listed)).collect();
    let answers: Vec<_> = futures::stream::iter(deletions).buffer_unordered(SINGLES).collect().await;
    let again =
        answers.into_iter().filter(|(_, answer)| answer.as_ref().is_err_and(StoreError::is_retryable));
    Ok(again.map(|(id, _)| id).collect())
}

async fn delete_one(store: &Store, listed: &Listed) -> (String, Result<(), StoreError>) {
    let deleted = objects::delete(store, &listed.version()).await;
    (listed.id.clone(), deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::stub::{Asked, Stub, error};

    fn listed(key: &str, id: &str) -> Listed {
        Listed {
            key: key.into(),
            id: id.into(),
            is_marker: false,
            is_latest: true,
            modified: jiff::Timestamp::UNIX_EPOCH,
            size: 1,
            etag: String::new(),
        }
    }

    /// The versions that were deleted one by one, by key and id.
    fn singles(asked: &[Asked]) -> BTreeSet<String> {
        let deletes = asked.iter().filter(|asked| asked.method == "DELETE");
        deletes
            .map(|asked| {
                let id = asked.query.split_once("versionId=").unwrap().1;
                format!("{} {id}", asked.path)
            })
            .collect()
    }

    #[tokio::test]
    async fn batches_that_a_store_refuses_are_deleted_one_by_one() {
        for (status, code) in [(400, "MissingContentMD5"), (501, "NotImplemented"), (405, "MethodNotAllowed")]
        {
            let stub = Stub::start(move |asked| match asked.method.as_str() {
                "POST" => error(status, code),
                _ if asked.query.contains("versionId=late") => error(503, "SlowDown"),
                _ if asked.query.contains("versionId=kept") => error(403, "AccessDenied"),
                _ => (204, String::new()),
            })
            .await;
            let batch = [listed("video/b/9", "one"), listed("video/b/9", "late"), listed("video/a", "kept")];
            let batch: Vec<&Listed> = batch.iter().collect();
            let (_, again) = delete(&stub.store(), &batch).await;
            assert_eq!(again.unwrap(), BTreeSet::from(["late".to_owned()]), "{code}");
            let asked = singles(&stub.take());
            let expected = ["/tz-stub/video/a kept", "/tz-stub/video/b/9 late", "/tz-stub/video/b/9 one"];
            assert_eq!(asked, expected.map(str::to_owned).into());
        }
    }

    #[tokio::test]
    async fn a_denied_batch_is_an_error() {
        let stub = Stub::start(|_| error(403, "AccessDenied")).await;
        let one = listed("video/a", "x");
        let (_, again) = delete(&stub.store(), &[&one]).await;
        assert_eq!(again.unwrap_err().code, "AccessDenied");
        assert!(singles(&stub.take()).is_empty());
    }

    #[tokio::test]
    async fn errors_that_name_no_version_are_tried_again_by_key() {
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
            let batch: Vec<&Listed> = batch.iter().collect();
            let (_, again) = delete(&stub.store(), &batch).await;
            let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(again.unwrap(), expected, "{named}");
        }
    }
}
