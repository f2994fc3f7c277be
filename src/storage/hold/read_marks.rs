//! The marks that were read of a Site's held versions, as many as there is room for.

use std::collections::HashMap;

use super::room::{Fingerprint, READ, Room};
use crate::storage::tag::RetentionTag;

/// Marks that were found, or read back, as they must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) tag: RetentionTag,
    /// In microseconds: a number takes half the room of a timestamp.
    pub(super) modified: i64,
    /// In seconds, rounded down.
    pub(super) at: i64,
}

/// Those of one Site.
#[derive(Debug, Default)]
pub(super) struct ReadMarks {
    all: HashMap<Fingerprint, Read>,
    room: Room,
}

impl ReadMarks {
    pub(super) fn within(room: Room) -> Self {
        Self { all: HashMap::new(), room }
    }

    pub(super) fn note(&mut self, version: Fingerprint, read: Read) {
        // Without them there is no claim less, so no other part of the Site's waits for this.
        if self.all.contains_key(&version) || self.room.take(READ, 0) {
            self.all.insert(version, read);
        }
    }

    /// None yet, in the same room.
    pub(super) fn beside(&self) -> Self {
        Self::within(self.room.clone())
    }

    pub(super) fn get(&self, version: Fingerprint) -> Option<Read> {
        self.all.get(&version).copied()
    }

    pub(super) fn unlearn(&mut self, version: Fingerprint) {
        if self.all.remove(&version).is_some() {
            self.room.give(READ);
        }
    }

    /// Keeps those that were read at `since` or later.
    pub(super) fn forget(&mut self, since: i64) {
        let before = self.bytes();
        self.all.retain(|_, read| read.at >= since);
        self.all.shrink_to_fit();
        self.room.give(before - self.bytes());
    }

    fn bytes(&self) -> i64 {
        READ * i64::try_from(self.all.len()).unwrap_or(i64::MAX / READ)
    }
}

impl Drop for ReadMarks {
    fn drop(&mut self) {
        self.room.give(self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As large as is said, where there is a little more than a table had room for.
    #[test]
    fn marks_take_no_more_than_is_counted() {
        let slot = 1 + i64::try_from(size_of::<(Fingerprint, Read)>()).unwrap();
        let mut all = HashMap::new();
        for number in 0..30_000 {
            let read = Read { tag: RetentionTag::Held, modified: number, at: number };
            all.insert(number, read);
            let bytes = i64::try_from(all.capacity()).unwrap() * 8 / 7 * slot;
            assert!(bytes <= READ * (number + 1) + 4 * slot, "{number}: {bytes}");
        }
    }
}
