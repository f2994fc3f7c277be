//! Cached protections of a Site's held versions, within the memory budget.

use std::collections::HashMap;

use super::memory_budget::{Fingerprint, Reservation, VERIFIED_ENTRY_BYTES};
use crate::rules::RetentionTag;

/// Protection that was read or read back as compliant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifiedProtection {
    pub(crate) tag: RetentionTag,
    /// Microseconds: half the size of a timestamp.
    pub(crate) modified: i64,
    /// Seconds, rounded down.
    pub(crate) at: i64,
}

#[derive(Debug, Default)]
pub(crate) struct VerifiedProtections {
    entries: HashMap<Fingerprint, VerifiedProtection>,
    reservation: Reservation,
}

impl VerifiedProtections {
    pub(crate) fn with_reservation(room: Reservation) -> Self {
        Self { entries: HashMap::new(), reservation: room }
    }

    pub(crate) fn insert(&mut self, version: Fingerprint, read: VerifiedProtection) {
        // Losing an entry costs a request and no claim, so it need not leave room for the Site's other parts.
        if self.entries.contains_key(&version) || self.reservation.try_reserve(VERIFIED_ENTRY_BYTES, 0) {
            self.entries.insert(version, read);
        }
    }

    /// Returns an empty cache with the same reservation.
    pub(crate) fn empty_sibling(&self) -> Self {
        Self::with_reservation(self.reservation.clone())
    }

    pub(crate) fn get(&self, version: Fingerprint) -> Option<VerifiedProtection> {
        self.entries.get(&version).copied()
    }

    pub(crate) fn invalidate(&mut self, version: Fingerprint) {
        if self.entries.remove(&version).is_some() {
            self.reservation.release(VERIFIED_ENTRY_BYTES);
        }
    }

    /// Keeps entries read at `since` or later.
    pub(crate) fn evict_before(&mut self, since: i64) {
        let before = self.bytes();
        self.entries.retain(|_, read| read.at >= since);
        self.entries.shrink_to_fit();
        self.reservation.release(before - self.bytes());
    }

    fn bytes(&self) -> i64 {
        VERIFIED_ENTRY_BYTES * i64::try_from(self.entries.len()).unwrap_or(i64::MAX / VERIFIED_ENTRY_BYTES)
    }
}

impl Drop for VerifiedProtections {
    fn drop(&mut self) {
        self.reservation.release(self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The measured size of a table that has just grown.
    #[test]
    fn verified_protection_fits_its_entry_size() {
        let slot = 1 + i64::try_from(size_of::<(Fingerprint, VerifiedProtection)>()).unwrap();
        let mut all = HashMap::new();
        for number in 0..30_000 {
            let read = VerifiedProtection { tag: RetentionTag::Held, modified: number, at: number };
            all.insert(number, read);
            let bytes = i64::try_from(all.capacity()).unwrap() * 8 / 7 * slot;
            assert!(bytes <= VERIFIED_ENTRY_BYTES * (number + 1) + 4 * slot, "{number}: {bytes}");
        }
    }
}
