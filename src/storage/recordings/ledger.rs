//! The holds that a bucket knows of: `ledger/holds/{uid}.json`, written before anything is placed, and moved to
//! `ledger/closed/` when the incident is resolved and nothing is held for it any more. A cluster that was restored from an old backup, or a
//! resource that was deleted, thus releases nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::error::HoldError;
use super::sources;
use crate::rules::hold::entry::{LedgerEntry, OPEN_PREFIX};
use crate::rules::hold::scope::HoldScope;
use crate::rules::recording::key::Class;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::objects;

const AT_ONCE: usize = 16;

/// [`entries`], as the operator, and those of `asked` that are closed.
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

/// Enters cameras that the registry does not have yet: their recordings are found whatever the store lists, and after the
/// Camera is gone.
pub async fn register(operator: &BucketConnection, cameras: &BTreeSet<String>) -> Result<(), HoldError> {
    let store = operator.client();
    sources::register(&store, Class::Video, cameras).await?;
    Ok(())
}

/// Writes entries, in this order. A closed one moves out of the way of those that are read all the time.
pub async fn write_all(operator: &BucketConnection, all: &[LedgerEntry]) -> Result<(), HoldError> {
    let store = operator.client();
    for entry in all {
        write_entry(&store, entry).await?;
    }
    Ok(())
}

/// All entries of open holds, by UID. An entry that cannot be read is an error: it may be of an open hold, so whoever wants
/// to delete must not go on. A delete marker closes nothing: the newest version behind it counts.
///
/// An entry is read once as long as `store` lives, since a version never changes.
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

/// The entry of a hold that was closed; `None`: there is none.
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
    StoreError { operation: "GetObject", code: "UnreadableLedger".into(), status: None }
}

/// What the open ones among `entries` cover, those of `closing` left out.
pub fn open_scopes_except(
    entries: &BTreeMap<String, LedgerEntry>,
    closing: &BTreeSet<&str>,
) -> Vec<HoldScope> {
    entries
        .values()
        .filter(|entry| entry.is_open() && !closing.contains(entry.uid.as_str()))
        .map(LedgerEntry::scope)
        .collect()
}

/// An open entry is one object. A closed one is written elsewhere first and read back; then every version of the open one
/// goes. Stopped between the two, the hold counts as open, and is closed again.
async fn write_entry(store: &BucketClient, entry: &LedgerEntry) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(entry).unwrap_or_default();
    if entry.is_open() {
        return objects::put(store, &LedgerEntry::open_key(&entry.uid), bytes).await;
    }
    objects::put(store, &LedgerEntry::closed_key(&entry.uid), bytes).await?;
    if read_closed(store, &entry.uid).await?.as_ref() != Some(entry) {
        return Err(unreadable_entry());
    }
    let key = LedgerEntry::open_key(&entry.uid);
    let versions = objects::list_versions(store, &key).await?;
    // Newest last: until then the newest counts.
    for version in versions.iter().rev().filter(|version| version.key == key) {
        objects::delete_version(store, version).await?;
    }
    Ok(())
}
