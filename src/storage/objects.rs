//! Single objects of the ledger and of the probe.

use aws_sdk_s3::primitives::ByteStream;

use super::client::Store;
use super::error::StoreError;

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
    let operation = "ListObjectVersions";
    let mut all = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    for _ in 0..MAX_PAGES {
        let request = store
            .client
            .list_object_versions()
            .bucket(&store.bucket)
            .prefix(prefix);
        let page = request
            .set_key_marker(key_marker)
            .set_version_id_marker(id_marker)
            .send()
            .await;
        let page = page.map_err(|error| StoreError::of(operation, &error))?;
        let of = |key: Option<&str>, id: Option<&str>, is_marker| {
            Some(Version {
                key: key?.to_owned(),
                id: id.unwrap_or("null").to_owned(),
                is_marker,
            })
        };
        all.extend(
            page.versions()
                .iter()
                .filter_map(|v| of(v.key(), v.version_id(), false)),
        );
        all.extend(
            page.delete_markers()
                .iter()
                .filter_map(|m| of(m.key(), m.version_id(), true)),
        );
        if page.is_truncated() != Some(true) {
            return Ok(all);
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_version_id_marker().map(str::to_owned);
    }
    Err(StoreError {
        operation,
        code: "EndlessListing".into(),
        status: None,
    })
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
