//! Cache of ledger entries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::rules::hold::entry::LedgerEntry;

/// Last read version of each ledger entry, by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryCache {
    read: Arc<Mutex<BTreeMap<String, (String, LedgerEntry)>>>,
}

impl EntryCache {
    pub(crate) fn get(&self, key: &str, id: &str) -> Option<LedgerEntry> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // An object without versioning changes under the same id.
        let (known, entry) = read.get(key).filter(|_| id != "null")?;
        (known == id).then(|| entry.clone())
    }

    pub(crate) fn insert(&self, key: String, id: String, entry: LedgerEntry) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(key, (id, entry));
    }
}
