//! Cache of ledger entries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::rules::LedgerEntry;
use crate::sync::lock;

/// Last read version of each ledger entry, by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryCache {
    read: Arc<Mutex<BTreeMap<String, (String, LedgerEntry)>>>,
}

impl EntryCache {
    pub(crate) fn get(&self, key: &str, id: &str) -> Option<LedgerEntry> {
        let read = lock(&self.read);
        // An object without versioning changes under the same id.
        let (known, entry) = read.get(key).filter(|_| id != "null")?;
        (known == id).then(|| entry.clone())
    }

    pub(crate) fn insert(&self, key: String, id: String, entry: LedgerEntry) {
        let mut read = lock(&self.read);
        read.insert(key, (id, entry));
    }
}
