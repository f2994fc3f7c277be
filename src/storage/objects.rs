//! Single objects of the ledger and of the probe.

use aws_sdk_s3::primitives::ByteStream;

use super::client::Store;
use super::error::StoreError;
use super::listing;

/// Ledger objects are small; what is larger is none.
const MAX_BYTES: usize = 64 * 1024;
/// A listing that goes on beyond this is not of a ledger or a probe.
const MAX_PAGES: usize = 100;

/// One version of an object, or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) is_marker: bool,
}

/// All versions under a prefix, newest first within a key.
pub(crate) async fn versions(store: &Store, prefix: &str) -> Result<Vec<Version>, StoreError> {
    let all = listing::all(store, prefix, MAX_PAGES).await?;
    Ok(all.iter().map(listing::Listed::version).collect())
}

/// The bytes of an object.
pub(crate) async fn get(store: &Store, key: &str, id: Option<&str>) -> Result<Vec<u8>, StoreError> {
    let operation = "GetObject";
    let unreadable = |code: &str| StoreError {
        operation,
        code: code.into(),
        status: None,
    };
    let request = store.client.get_object().bucket(&store.bucket).key(key);
    let answer = request.set_version_id(id.map(str::to_owned)).send().await;
    let mut body = answer.map_err(|error| StoreError::of(operation, &error))?.body;
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.map_err(|_| unreadable("UnreadableAnswer"))?);
        if bytes.len() > MAX_BYTES {
            return Err(unreadable("TooLarge"));
        }
    }
    Ok(bytes)
}

/// Writes an object of the ledger or the probe.
pub(crate) async fn put(store: &Store, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    let request = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(key)
        .body(ByteStream::from(bytes));
    request
        .send()
        .await
        .map_err(|error| StoreError::of("PutObject", &error))?;
    Ok(())
}

/// Deletes one version for good.
pub(crate) async fn delete(store: &Store, version: &Version) -> Result<(), StoreError> {
    let request = store
        .client
        .delete_object()
        .bucket(&store.bucket)
        .key(&version.key);
    let answer = request.version_id(&version.id).send().await;
    answer.map_err(|error| StoreError::of("DeleteObject", &error))?;
    Ok(())
}

/// Whether the identity can read an object: the bytes count, not the status. An error: it cannot be told.
pub(crate) async fn reads(
    store: &Store,
    key: &str,
    id: Option<&str>,
    bytes: &[u8],
) -> Result<bool, StoreError> {
    match get(store, key, id).await {
        Ok(read) => Ok(read == bytes),
        Err(error) if error.is_retryable() => Err(error),
        Err(_) => Ok(false),
    }
}
