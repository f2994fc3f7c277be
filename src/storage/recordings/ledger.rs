//! Ledger of the holds in the bucket: `ledger/holds/{uid}.json`. Beside it are the losses that people decided: `ledger/discards/`.
//!
//! An entry is written before anything is held. It moves to `ledger/closed/` when the hold is released. So neither the
//! restore of an old cluster backup nor the deletion of a resource releases anything.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::error::HoldError;
use super::sources;
use crate::rules::hold::entry::OPEN_PREFIX;
use crate::rules::{Class, HoldScope, LedgerEntry};
use crate::storage::s3::{BucketClient, BucketConnection, StoreError, objects};

const AT_ONCE: usize = 16;

/// Content of recorders' spools that a person gave up, or that went with its StatefulSet. For people and auditors: the operator never reads it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolDiscard {
    pub namespace: String,
    pub site: String,
    /// UID of the Site.
    pub uid: String,
    pub time: Timestamp,
    /// Reason that the person gave, or the deletion of the StatefulSet.
    pub reason: String,
    /// The spools with their content, as far as it is known.
    pub spools: String,
}

/// Writes `ledger/discards/{time}-{uid}.json`. The time is in the key, so no entry replaces another.
pub async fn record_discard(operator: &BucketConnection, discard: &SpoolDiscard) -> Result<(), StoreError> {
    let key = format!("ledger/discards/{}-{}.json", discard.time, discard.uid);
    let bytes = serde_json::to_vec_pretty(discard).unwrap_or_default();
    objects::put(&operator.client(), &key, bytes).await
}

/// Returns all [`entries`], and the closed ones among `asked`.
pub async fn read_all(
    operator: &BucketConnection,
    asked: &BTreeSet<String>,
) -> Result<BTreeMap<String, LedgerEntry>, HoldError> {
    let store = operator.client();
    let mut all = entries(&store).await?;
    let left = asked.iter().filter(|uid| !all.contains_key(*uid));
    let reads: Vec<_> = left.map(|uid| read_closed(&store, uid)).collect();
    let mut closed = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some(entry) = closed.try_next().await? {
        all.extend(entry.map(|entry| (entry.uid.clone(), entry)));
    }
    Ok(all)
}

/// Registers cameras, so that their recordings are found even if the store does not list them or the Camera is deleted.
pub async fn register(operator: &BucketConnection, cameras: &BTreeSet<String>) -> Result<(), HoldError> {
    Ok(sources::register(&operator.client(), Class::Video, cameras).await?)
}

/// Writes entries in this order. A closed entry moves away from the open ones, which every pass reads.
pub async fn write_all(operator: &BucketConnection, all: &[LedgerEntry]) -> Result<(), HoldError> {
    let store = operator.client();
    for entry in all {
        write_entry(&store, entry).await?;
    }
    Ok(())
}

/// Returns the entries of open holds by UID.
///
/// An unreadable entry is an error: it may be open, so nothing may be deleted. A delete marker closes nothing: the
/// newest version behind it counts. A version never changes, so each is read once in the lifetime of `store`.
pub(crate) async fn entries(store: &BucketClient) -> Result<BTreeMap<String, LedgerEntry>, StoreError> {
    let mut newest = BTreeMap::new();
    for version in objects::list_versions(store, OPEN_PREFIX).await? {
        if !version.is_marker {
            // Newest first within a key.
            newest.entry(version.key).or_insert(version.id);
        }
    }
    let read = |(key, id): (String, String)| async move {
        if let Some(entry) = store.ledger_cache.get(&key, &id) {
            return Ok(entry);
        }
        let entry = objects::read_json(store, &key, Some(&id)).await?;
        let is_it = |entry: &LedgerEntry| entry.is_supported() && LedgerEntry::open_key(&entry.uid) == key;
        let entry = entry.filter(is_it).ok_or_else(unreadable_entry)?;
        store.ledger_cache.insert(key, id, entry.clone());
        Ok(entry)
    };
    let reads: Vec<_> = newest.into_iter().map(read).collect();
    let entries = stream::iter(reads).buffer_unordered(AT_ONCE);
    entries.map_ok(|entry: LedgerEntry| (entry.uid.clone(), entry)).try_collect().await
}

/// Returns the entry of a closed hold, if there is one.
async fn read_closed(store: &BucketClient, uid: &str) -> Result<Option<LedgerEntry>, StoreError> {
    match objects::read_json(store, &LedgerEntry::closed_key(uid), None).await {
        Ok(entry) => {
            let is_it = |entry: &LedgerEntry| entry.is_supported() && entry.uid == *uid && !entry.is_open();
            entry.filter(is_it).map(Some).ok_or_else(unreadable_entry)
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable_entry() -> StoreError {
    StoreError::without_status("GetObject", "UnreadableLedger")
}

/// Returns the scopes of the open `entries` except those of `closing`.
pub fn open_scopes_except(
    entries: &BTreeMap<String, LedgerEntry>,
    closing: &BTreeSet<&str>,
) -> Vec<HoldScope> {
    entries
        .values()
        .filter(|entry| entry.is_open() && !closing.contains(entry.uid.as_str()))
        .map(|entry| entry.scope.clone())
        .collect()
}

/// Writes an entry. A closed one is written and read back first. Then every version of the open one is deleted. After
/// an interruption in between, the hold is still open, and is closed again.
async fn write_entry(store: &BucketClient, entry: &LedgerEntry) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(entry).unwrap_or_default();
    if entry.is_open() {
        return objects::put(store, &LedgerEntry::open_key(&entry.uid), bytes).await;
    }
    objects::put(store, &LedgerEntry::closed_key(&entry.uid), bytes).await?;
    // If the store did not persist the closed entry, deleting the open one would lose the hold without a trace.
    if read_closed(store, &entry.uid).await?.as_ref() != Some(entry) {
        return Err(unreadable_entry());
    }
    let key = LedgerEntry::open_key(&entry.uid);
    let versions = objects::list_versions(store, &key).await?;
    // Newest last: an older version must not become current.
    for version in versions.iter().rev().filter(|version| version.key == key) {
        objects::delete_version(store, version).await?;
    }
    Ok(())
}
