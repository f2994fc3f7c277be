//! Requests for single objects: those of the ledger and the probe, and the deletion of one version of any object.

use aws_sdk_s3::primitives::ByteStream;
use serde::de::DeserializeOwned;

use super::client::BucketClient;
use super::error::StoreError;
use super::listing;
use super::send::send;
use crate::rules::VersionRef;

/// Largest ledger object. A hold may name 256 cameras with names of 253 letters.
pub(crate) const MAX_OBJECT_BYTES: usize = 256 * 1024;
const _: () = assert!(crate::rules::hold::entry::MAX_NAME_BYTES * 2 <= MAX_OBJECT_BYTES);
/// Largest part of a manifest, with two hundred segments.
const MAX_MANIFEST_PART_BYTES: usize = 512 * 1024;
/// Largest index, with 67 bytes a part.
const MAX_MANIFEST_INDEX_BYTES: usize = 8 * 1024 * 1024;
/// End of an index key.
pub(crate) const INDEX_SUFFIX: &str = "/index.json";
/// Prefix of manifests.
pub(crate) const MANIFEST_PREFIX: &str = "ledger/manifests/";
/// Pages of a ledger or probe listing.
const MAX_PAGES: usize = 100;

/// Returns all versions under a prefix, newest first within a key.
pub(crate) async fn list_versions(store: &BucketClient, prefix: &str) -> Result<Vec<VersionRef>, StoreError> {
    let all = listing::list_all(store, prefix, MAX_PAGES).await?;
    Ok(all.iter().map(crate::rules::recording::version::ListedVersion::version_ref).collect())
}

/// Returns the largest size of an object in bytes. Also limits writes, so that each written object can be read.
fn max_bytes(key: &str) -> usize {
    match key.strip_prefix(MANIFEST_PREFIX) {
        Some(of) if of.ends_with(INDEX_SUFFIX) => MAX_MANIFEST_INDEX_BYTES,
        Some(_) => MAX_MANIFEST_PART_BYTES,
        None => MAX_OBJECT_BYTES,
    }
}

fn too_large_error(operation: &'static str) -> StoreError {
    StoreError { operation, code: "TooLarge".into(), status: Some(200) }
}

fn unreadable_error() -> StoreError {
    StoreError::without_status("GetObject", "UnreadableAnswer")
}

/// Returns the content of an object, and its `ETag` if the length is as announced.
async fn get_with_etag(
    store: &BucketClient,
    key: &str,
    id: Option<&str>,
) -> Result<(Vec<u8>, Option<String>), StoreError> {
    let operation = "GetObject";
    let id = id.map(str::to_owned);
    let mut answer = send!(store, operation, get_object().key(key).set_version_id(id))?;
    let length = answer.content_length().and_then(|length| usize::try_from(length).ok());
    let most = max_bytes(key);
    // Only an object has an `ETag`. A proxy's long page must not pass for an entry that somebody overwrote.
    if length.is_some_and(|length| length > most) && answer.e_tag.is_some() {
        return Err(too_large_error(operation));
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.body.next().await {
        bytes.extend_from_slice(&part.map_err(|_| unreadable_error())?);
        // An answer without a length, or with a wrong one, must not fill the memory either.
        if bytes.len() > most {
            return Err(unreadable_error());
        }
    }
    let is_whole = length == Some(bytes.len());
    Ok((bytes, answer.e_tag.filter(|_| is_whole)))
}

/// Returns the content of an object.
pub(crate) async fn get(store: &BucketClient, key: &str, id: Option<&str>) -> Result<Vec<u8>, StoreError> {
    Ok(get_with_etag(store, key, id).await?.0)
}

/// Reads an object that only the operator writes. `None`: it has another form, so somebody else wrote it.
///
/// A truncated answer or a proxy's page proves nothing. Only the same complete answer twice proves another form.
pub(crate) async fn read_json<T: DeserializeOwned>(
    store: &BucketClient,
    key: &str,
    id: Option<&str>,
) -> Result<Option<T>, StoreError> {
    let mut before = None;
    for _ in 0..2 {
        let answer = match get_with_etag(store, key, id).await {
            // `put` writes nothing so large, so somebody else did.
            Err(error) if error == too_large_error("GetObject") => return Ok(None),
            answer => answer?,
        };
        if let Ok(said) = serde_json::from_slice(&answer.0) {
            return Ok(Some(said));
        }
        if answer.1.is_some() && before.as_ref() == Some(&answer) {
            return Ok(None);
        }
        before = Some(answer);
    }
    Err(unreadable_error())
}

/// Writes an object of the ledger or the probe.
pub(crate) async fn put(store: &BucketClient, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    // Before it is written: the next pass could not read the object and would stop.
    if bytes.len() > max_bytes(key) {
        return Err(too_large_error("PutObject"));
    }
    send!(store, "PutObject", put_object().key(key).body(ByteStream::from(bytes))).map(|_| ())
}

/// Deletes one version permanently.
///
/// Recordings are deleted only by the sweep (`recordings/sweep`) and by the release of a hold (`recordings/hold/release`), both
/// after `rules/hold/expiry` has decided. `tests/architecture` lists all callers, and what they delete. Two more parties delete
/// recordings: the sweep in batches (`recordings/sweep/batch`), and the store by the rules of `bucket/lifecycle`.
pub(crate) async fn delete_version(store: &BucketClient, version: &VersionRef) -> Result<(), StoreError> {
    send!(store, "DeleteObject", delete_object().key(&version.key).version_id(&version.id)).map(|_| ())
}

/// Returns whether the identity can read an object, by its content rather than the status. An error means unknown.
pub(crate) async fn can_read(
    store: &BucketClient,
    key: &str,
    id: Option<&str>,
    bytes: &[u8],
) -> Result<bool, StoreError> {
    match get(store, key, id).await {
        Ok(read) => Ok(read == bytes),
        Err(error) if !error.is_rejection() => Err(error),
        Err(_) => Ok(false),
    }
}
