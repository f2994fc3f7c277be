//! The holds that a bucket knows of: `ledger/holds/{uid}.json`, written before anything is placed, closed when the
//! incident is resolved and nothing is held for it any more. A cluster that was restored from an old backup, or a
//! resource that was deleted, thus releases nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{Purpose, Store};
use super::error::StoreError;
use super::hold::HoldError;
use super::objects;
use crate::api::IncidentHoldSpec;
use crate::contract::{Covering, StorageTarget};
use crate::protocol::Window;
use crate::protocol::cover::Cover;

const FOLDER: &str = "ledger/holds/";
/// The form of the entries; one of another form is not understood, and nothing is released by it.
const FORMAT: u32 = 1;

/// A hold as the bucket knows it: enough to go on without the cluster, and to make the resource anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
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
    /// Since when nothing is held for it any more; absent: it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl Entry {
    /// An open entry for a hold as it is declared now.
    pub fn of(
        uid: String,
        namespace: String,
        name: String,
        spec: &IncidentHoldSpec,
        accepted_at: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT,
            uid,
            namespace,
            name,
            reference: spec.reference.clone(),
            purpose: spec.purpose.clone(),
            site: spec.site_ref.name.clone(),
            cameras: spec.cameras.iter().cloned().collect(),
            calls: spec.calls,
            window: Window::new(
                spec.window.from.0,
                spec.window.until.as_ref().map(|until| until.0),
            ),
            accepted_at,
            closed_at: None,
        }
    }

    /// Whether it still holds something.
    pub const fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// What it covers, as recorders are told.
    pub fn covering(&self) -> Covering {
        Covering {
            cameras: self.cameras.clone(),
            calls: self.calls,
            window: self.window,
        }
    }

    /// What it covers.
    pub fn cover(&self) -> Cover {
        self.covering().cover()
    }

    /// The entry with what the hold now covers too. It never covers less: ending the window of what was going on releases
    /// nothing that was covered when the end was seen.
    #[must_use]
    pub fn grown(&self, spec: &IncidentHoldSpec, now: Timestamp) -> Self {
        let cameras = if self.cameras.is_empty() || spec.cameras.is_empty() {
            BTreeSet::new()
        } else {
            self.cameras.iter().chain(&spec.cameras).cloned().collect()
        };
        let until = match (self.window.until, spec.window.until.as_ref().map(|until| until.0)) {
            (None, Some(until)) => Some(until.max(now)),
            (Some(before), Some(until)) => Some(until.max(before)),
            (_, None) => None,
        };
        Self {
            cameras,
            calls: self.calls || spec.calls,
            window: Window::new(self.window.from.min(spec.window.from.0), until),
            ..self.clone()
        }
    }

    /// The entry as that of a resource that was made anew.
    #[must_use]
    pub fn of_successor(self, uid: String) -> Self {
        Self { uid, ..self }
    }

    /// The entry of a hold that is open.
    #[must_use]
    pub fn reopened(self) -> Self {
        Self {
            closed_at: None,
            ..self
        }
    }

    /// The entry when nothing is held for it any more.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Self {
        Self {
            closed_at: Some(now),
            ..self.clone()
        }
    }

    fn key(uid: &str) -> String {
        format!("{FOLDER}{uid}.json")
    }
}

/// [`entries`], as the operator.
pub async fn read_all(operator: &StorageTarget) -> Result<BTreeMap<String, Entry>, HoldError> {
    Ok(entries(&Store::new(operator, Purpose::Configure)?).await?)
}

/// Writes entries, in this order.
pub async fn write_all(operator: &StorageTarget, all: &[Entry]) -> Result<(), HoldError> {
    let store = Store::new(operator, Purpose::Configure)?;
    for entry in all {
        write(&store, entry).await?;
    }
    Ok(())
}

/// All entries, by UID. An entry that cannot be read is an error: it may be of an open hold, so whoever wants to
/// delete must not go on. A delete marker closes nothing: the newest version behind it counts.
pub(crate) async fn entries(store: &Store) -> Result<BTreeMap<String, Entry>, StoreError> {
    let mut newest = BTreeMap::new();
    for version in objects::versions(store, FOLDER).await? {
        if !version.is_marker {
            // Newest first within a key.
            newest.entry(version.key).or_insert(version.id);
        }
    }
    let mut entries = BTreeMap::new();
    for (key, id) in newest {
        let bytes = objects::get(store, &key, Some(&id)).await?;
        let entry = serde_json::from_slice::<Entry>(&bytes).ok();
        let entry = entry.filter(|entry| entry.format == FORMAT && Entry::key(&entry.uid) == key);
        let entry = entry.ok_or_else(|| StoreError {
            operation: "GetObject",
            code: "UnreadableLedger".into(),
            status: None,
        })?;
        entries.insert(entry.uid.clone(), entry);
    }
    Ok(entries)
}

/// What the open ones among `entries` cover, those of `closing` left out.
pub fn covers(entries: &BTreeMap<String, Entry>, closing: &BTreeSet<&str>) -> Vec<Cover> {
    entries
        .values()
        .filter(|entry| entry.is_open() && !closing.contains(entry.uid.as_str()))
        .map(Entry::cover)
        .collect()
}

async fn write(store: &Store, entry: &Entry) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(entry).unwrap_or_default();
    objects::put(store, &Entry::key(&entry.uid), bytes).await
}
