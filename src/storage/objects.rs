//! Single objects of the ledger and of the probe.

use aws_sdk_s3::primitives::ByteStream;
use serde::de::DeserializeOwned;

use super::client::Store;
use super::error::StoreError;
use super::listing;

/// Ledger objects are small; what is larger is none. A hold may name 256 cameras with names of 253 letters.
pub(crate) const MOST: usize = 256 * 1024;
/// A part of a manifest has two hundred segments.
const MOST_OF_PART: usize = 512 * 1024;
/// Its index has 67 bytes for a part.
const MOST_OF_INDEX: usize = 8 * 1024 * 1024;
/// How the key of an index ends.
pub(crate) const INDEX: &str = "/index.json";
/// Where the manifests of holds are.
pub(crate) const MANIFESTS: &str = "ledger/manifests/";
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

/// The bytes that an object may have, read or written: what was written can be read.
fn most(key: &str) -> usize {
    match key.strip_prefix(MANIFESTS) {
        Some(of) if of.ends_with(INDEX) => MOST_OF_INDEX,
        Some(_) => MOST_OF_PART,
        None => MOST,
    }
}

fn too_large(operation: &'static str) -> StoreError {
    StoreError { operation, code: "TooLarge".into(), status: Some(200) }
}

fn unreadable() -> StoreError {
    StoreError { operation: "GetObject", code: "UnreadableAnswer".into(), status: None }
}

/// The bytes of an object, and its `ETag` where the answer says how long it is and is that long.
async fn whole(store: &Store, key: &str, id: Option<&str>) -> Result<(Vec<u8>, Option<String>), StoreError> {
    let operation = "GetObject";
    let request = store.client.get_object().bucket(&store.bucket).key(key);
    let answer = request.set_version_id(id.map(str::to_owned)).send().await;
    let mut answer = answer.map_err(|error| StoreError::of(operation, &error))?;
    let length = answer.content_length().and_then(|length| usize::try_from(length).ok());
    let most = most(key);
    if length.is_some_and(|length| length > most) && answer.e_tag.is_some() {
        return Err(too_large(operation));
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.body.next().await {
        bytes.extend_from_slice(&part.map_err(|_| unreadable())?);
        if bytes.len() > most {
            return Err(unreadable());
        }
    }
    let is_whole = length == Some(bytes.len());
    Ok((bytes, answer.e_tag.filter(|_| is_whole)))
}

/// The bytes of an object.
pub(crate) async fn get(store: &Store, key: &str, id: Option<&str>) -> Result<Vec<u8>, StoreError> {
    Ok(whole(store, key, id).await?.0)
}

/// What an object says that only the operator writes. `None`: it has another form, so somebody else wrote it. Half an answer,
/// or a page of some proxy's, is no answer: only what comes twice, and whole, is believed to have another form.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &Store,
    key: &str,
    id: Option<&str>,
) -> Result<Option<T>, StoreError> {
    let mut before = None;
    for _ in 0..2 {
        let answer = match whole(store, key, id).await {
            Err(error) if error == too_large("GetObject") => return Ok(None),
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
    Err(unreadable())
}

/// Writes an object of the ledger or the probe.
pub(crate) async fn put(store: &Store, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    if bytes.len() > most(key) {
        return Err(too_large("PutObject"));
    }
    let request = store.client.put_object().bucket(&store.bucket).key(key).body(ByteStream::from(bytes));
    request.send().await.map_err(|error| StoreError::of("PutObject", &error))?;
    Ok(())
}

/// Deletes one version for good.
pub(crate) async fn delete(store: &Store, version: &Version) -> Result<(), StoreError> {
    let request = store.client.delete_object().bucket(&store.bucket).key(&version.key);
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
        Err(error) if !error.is_refusal() => Err(error),
        Err(_) => Ok(false),
    }
}
