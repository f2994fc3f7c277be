//! The holds that a bucket knows of: `ledger/holds/{uid}.json`, written before anything is placed, and moved to
//! `ledger/closed/` when the incident is resolved and nothing is held for it any more. A cluster that was restored from an old backup, or a
//! resource that was deleted, thus releases nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::client::{BucketClient, Purpose};
use super::error::StoreError;
use super::hold::HoldError;
use super::key::Class;
use super::objects::{self, MAX_OBJECT_BYTES};
use super::sources;
use crate::api::{IncidentHoldSpec, reject_future};
use crate::contract::{HoldScopeConfig, StorageTarget};
use crate::protocol::Window;
use crate::protocol::cover::HoldScope;

const OPEN_PREFIX: &str = "ledger/holds/";
/// Where closed entries are: they are read one by one, when somebody asks for one.
const CLOSED_PREFIX: &str = "ledger/closed/";
/// Entries read at once.
const AT_ONCE: usize = 16;
/// Bytes that the names of an entry's cameras may take: it stays well below what a ledger object may have.
const MAX_NAME_BYTES: usize = MAX_OBJECT_BYTES / 2;
/// What stands around a name.
const NAME_OVERHEAD: usize = 8;
/// The form of the entries; one of another form is not understood, and nothing is released by it.
const FORMAT_VERSION: u32 = 1;

/// A hold as the bucket knows it: enough to go on without the cluster, and to make the resource anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// See [`FORMAT`].
    format: u32,
    /// UID of the IncidentHold that it was first written for.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The organisation's case number.
    pub reference: String,
    /// One of the policy's purposes (article 1).
    pub purpose: String,
    /// The Site's name.
    pub site: String,
    /// Names of cameras; empty: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cameras: BTreeSet<String>,
    /// Whether recorded calls are kept too.
    #[serde(default)]
    pub calls: bool,
    /// When it happened.
    pub window: Window,
    /// Since when it counts.
    pub accepted_at: Timestamp,
    /// When the operator first saw that its incident is resolved; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Since when nothing is held for it any more; absent: it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl LedgerEntry {
    /// An open entry for a hold as it is declared now.
    pub fn new(
        uid: String,
        namespace: String,
        name: String,
        spec: &IncidentHoldSpec,
        accepted_at: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT_VERSION,
            uid,
            namespace,
            name,
            reference: spec.reference.clone(),
            purpose: spec.purpose.clone(),
            site: spec.site_ref.name.clone(),
            cameras: spec.cameras.iter().cloned().collect(),
            calls: spec.include_calls,
            window: Window::new(spec.window.from.0, spec.window.until.as_ref().map(|until| until.0)),
            accepted_at,
            resolved_at: None,
            closed_at: None,
        }
    }

    /// Whether it still holds something.
    pub const fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// What it covers, as recorders are told.
    pub fn scope_config(&self) -> HoldScopeConfig {
        HoldScopeConfig { cameras: self.cameras.clone(), calls: self.calls, window: self.window }
    }

    /// What it covers.
    pub fn scope(&self) -> HoldScope {
        self.scope_config().scope()
    }

    /// What it covers, as a short text that changes when that changes.
    pub fn scope_hash(&self) -> String {
        let bytes = serde_json::to_vec(&self.scope_config()).unwrap_or_default();
        let hash = Sha256::digest(bytes);
        hex::encode(hash.get(..8).unwrap_or_default())
    }

    /// The entry with what the hold now covers too. It never covers less: ending the window of what was going on releases
    /// nothing that was covered when the end was seen.
    #[must_use]
    pub fn extended(&self, spec: &IncidentHoldSpec, now: Timestamp) -> Self {
        let cameras = union_of_cameras(&self.cameras, &spec.cameras.iter().cloned().collect());
        let until = match (self.window.until, spec.window.until.as_ref().map(|until| until.0)) {
            (None, Some(until)) => Some(until.max(now)),
            (Some(before), Some(until)) => Some(until.max(before)),
            (_, None) => None,
        };
        Self {
            cameras,
            calls: self.calls || spec.include_calls,
            window: Window::new(self.window.from.min(spec.window.from.0), until),
            ..self.with_clamped_accepted_at(now)
        }
    }

    /// The entry as it counts now: one that was accepted by a clock that was ahead counts from now.
    #[must_use]
    pub fn with_clamped_accepted_at(&self, now: Timestamp) -> Self {
        Self { accepted_at: reject_future(self.accepted_at, now).unwrap_or(now), ..self.clone() }
    }

    /// The entry as that of a resource that was made anew.
    #[must_use]
    pub fn with_uid(self, uid: String) -> Self {
        Self { uid, ..self }
    }

    /// The entry of a hold that is open. Where it was being released, or was released, it counts anew: recorders may have let
    /// go of it.
    #[must_use]
    pub fn reopened(self, now: Timestamp) -> Self {
        let is_anew = self.resolved_at.is_some() || !self.is_open();
        Self {
            accepted_at: if is_anew { now } else { self.accepted_at },
            resolved_at: None,
            closed_at: None,
            ..self
        }
    }

    /// The entry when its incident is seen to be resolved.
    #[must_use]
    pub fn resolved(&self, now: Timestamp) -> Self {
        Self {
            resolved_at: self.resolved_at.and_then(|at| reject_future(at, now)).or(Some(now)),
            ..self.clone()
        }
    }

    /// The entry with what another one of the same hold covers.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let cameras = union_of_cameras(&self.cameras, &other.cameras);
        let until = self.window.until.zip(other.window.until);
        Self {
            cameras,
            calls: self.calls || other.calls,
            window: Window::new(
                self.window.from.min(other.window.from),
                until.map(|(one, other)| one.max(other)),
            ),
            accepted_at: self.accepted_at.min(other.accepted_at),
            ..self.clone()
        }
    }

    /// The entry when nothing is held for it any more.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Self {
        Self { closed_at: Some(now), ..self.clone() }
    }

    const fn is_supported(&self) -> bool {
        self.format == FORMAT_VERSION
    }

    fn open_key(uid: &str) -> String {
        format!("{OPEN_PREFIX}{uid}.json")
    }

    fn closed_key(uid: &str) -> String {
        format!("{CLOSED_PREFIX}{uid}.json")
    }
}

/// The cameras of either; empty: all. So many that an entry has no room for them are all.
fn union_of_cameras(one: &BTreeSet<String>, other: &BTreeSet<String>) -> BTreeSet<String> {
    if one.is_empty() || other.is_empty() {
        return BTreeSet::new();
    }
    let both: BTreeSet<String> = one.union(other).cloned().collect();
    let bytes: usize = both.iter().map(|name| name.len() + NAME_OVERHEAD).sum();
    if bytes > MAX_NAME_BYTES { BTreeSet::new() } else { both }
}

/// [`entries`], as the operator, and those of `asked` that are closed.
pub async fn read_all(
    operator: &StorageTarget,
    asked: &BTreeSet<String>,
) -> Result<BTreeMap<String, LedgerEntry>, HoldError> {
    let store = BucketClient::new(operator, Purpose::Configure)?;
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
pub async fn register(operator: &StorageTarget, cameras: &BTreeSet<String>) -> Result<(), HoldError> {
    let store = BucketClient::new(operator, Purpose::Configure)?;
    sources::register(&store, Class::Video, cameras).await?;
    Ok(())
}

/// Writes entries, in this order. A closed one moves out of the way of those that are read all the time.
pub async fn write_all(operator: &StorageTarget, all: &[LedgerEntry]) -> Result<(), HoldError> {
    let store = BucketClient::new(operator, Purpose::Configure)?;
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

/// Entries that were read, by key and version. The most recent of each key.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryCache {
    read: Arc<Mutex<BTreeMap<String, (String, LedgerEntry)>>>,
}

impl EntryCache {
    fn get(&self, key: &str, id: &str) -> Option<LedgerEntry> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // An object without versions changes under its one name.
        let (known, entry) = read.get(key).filter(|_| id != "null")?;
        (known == id).then(|| entry.clone())
    }

    fn insert(&self, key: String, id: String, entry: LedgerEntry) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(key, (id, entry));
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
