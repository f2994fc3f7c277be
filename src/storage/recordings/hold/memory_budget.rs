//! Memory budget of the process for held versions.
//!
//! Anyone with put access can create versions, so they are counted in bytes. One Site never has more than all others
//! have left, nor one hold more than the Site's other holds. This is the dynamic threshold by which switches share a
//! buffer (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). A flooded hold has at most half, and
//! leaves half of the rest to the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::storage::recordings::HoldError;

/// Bytes of a version in a set that has just grown.
pub(crate) const SET_ENTRY_BYTES: i64 = 24;
/// Bytes of a version together with its source day.
pub(crate) const MANIFEST_ENTRY_BYTES: i64 = 40;
/// Bytes of a version that a pass found, with its place in the manifest to be written.
pub(crate) const COVERAGE_ENTRY_BYTES: i64 = SET_ENTRY_BYTES + MANIFEST_ENTRY_BYTES;
/// Bytes of a version's cached protection.
pub(crate) const VERIFIED_ENTRY_BYTES: i64 = 80;

/// Hash of a version that nobody outside this process can predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) u64);

/// Bytes that all Sites of a process share. Clones share the counters.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    manifests: Arc<AtomicI64>,
    verified: Arc<AtomicI64>,
}

impl MemoryBudget {
    /// Returns a budget of half of `limit` bytes. A third of that is for cached protections: without them the operator
    /// needs more requests, but claims no less.
    pub fn of_process(limit: u64) -> Self {
        let half = i64::try_from(limit / 2).unwrap_or(i64::MAX);
        Self {
            manifests: Arc::new(AtomicI64::new(half - half / 3)),
            verified: Arc::new(AtomicI64::new(half / 3)),
        }
    }

    /// Returns a Site's reservation for listed versions.
    pub(crate) fn manifest_reservation(&self) -> Reservation {
        Reservation::from_pool(&self.manifests)
    }

    /// Returns a Site's reservation for cached protections.
    pub(crate) fn verified_reservation(&self) -> Reservation {
        Reservation::from_pool(&self.verified)
    }
}

/// Reservation of one Site; unlimited by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservation {
    available: Option<Arc<AtomicI64>>,
    used: Arc<AtomicI64>,
}

impl Reservation {
    fn from_pool(left: &Arc<AtomicI64>) -> Self {
        Self { available: Some(left.clone()), used: Arc::default() }
    }

    /// Reserves `bytes` if the pool has at least as much left for others. `before` is the present size of this part,
    /// which must leave as much for the Site's other parts.
    pub(crate) fn try_reserve(&self, bytes: i64, before: i64) -> bool {
        let Some(left) = &self.available else {
            return true;
        };
        let used = self.used.load(Ordering::Relaxed) + bytes;
        let is_there = before + bytes <= left.load(Ordering::Relaxed) - bytes - used;
        if is_there {
            self.release(-bytes);
        }
        is_there
    }

    /// Returns bytes to the pool. A negative number takes them unconditionally.
    pub(crate) fn release(&self, bytes: i64) {
        if let Some(left) = &self.available {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Set of versions that is either complete or empty: an incomplete set proves nothing, and others need the memory.
#[derive(Debug, Default)]
pub struct VersionSet {
    versions: HashSet<Fingerprint>,
    /// Number of inserted versions if the budget was exceeded. Repeated versions count again.
    over_budget_count: u64,
    reservation: Reservation,
    entry_bytes: i64,
}

impl VersionSet {
    /// Returns an empty set that reserves `each` bytes for a version.
    pub(crate) fn with_reservation(room: &Reservation, each: i64) -> Self {
        Self { versions: HashSet::new(), over_budget_count: 0, reservation: room.clone(), entry_bytes: each }
    }

    /// Inserts a version if the budget allows. Returns whether it is new.
    pub fn insert(&mut self, version: Fingerprint) -> bool {
        if self.versions.contains(&version) {
            return false;
        }
        if self.is_over_budget() || !self.reservation.try_reserve(self.entry_bytes, self.bytes()) {
            self.reservation.release(self.bytes());
            self.over_budget_count += 1 + self.count();
            self.versions = HashSet::new();
            return false;
        }
        self.versions.insert(version)
    }

    /// Inserts a version beyond the budget, for memory that is already counted elsewhere.
    pub(crate) fn force_insert(&mut self, version: Fingerprint) {
        if !self.is_over_budget() && self.versions.insert(version) {
            self.reservation.release(-self.entry_bytes);
        }
    }

    pub fn contains(&self, version: Fingerprint) -> bool {
        self.versions.contains(&version)
    }

    /// Returns whether the set has a version, or may have dropped it.
    pub fn may_contain(&self, version: Fingerprint) -> bool {
        self.is_over_budget() || self.contains(version)
    }

    pub fn count(&self) -> u64 {
        self.versions.len() as u64
    }

    /// Returns whether versions were dropped for lack of memory.
    pub const fn is_over_budget(&self) -> bool {
        self.over_budget_count > 0
    }

    /// Returns the error to report if versions were dropped.
    pub fn budget_error(&self) -> Option<HoldError> {
        self.is_over_budget().then_some(HoldError::TooManyVersions { count: self.over_budget_count })
    }

    /// Keeps the versions that satisfy `stays`.
    pub(crate) fn retain(&mut self, stays: impl Fn(Fingerprint) -> bool) {
        let before = self.bytes();
        self.versions.retain(|version| stays(*version));
        self.versions.shrink_to_fit();
        self.reservation.release(before - self.bytes());
    }

    pub fn iter(&self) -> impl Iterator<Item = Fingerprint> {
        self.versions.iter().copied()
    }

    fn bytes(&self) -> i64 {
        // A default set has no size for an entry, and the fallback is computed in any case: `max` prevents a division
        // by zero.
        self.entry_bytes * i64::try_from(self.versions.len()).unwrap_or(i64::MAX / self.entry_bytes.max(1))
    }
}

impl Clone for VersionSet {
    fn clone(&self) -> Self {
        // A copy takes its memory in any case, so its bytes count even beyond the budget.
        self.reservation.release(-self.bytes());
        Self {
            versions: self.versions.clone(),
            reservation: self.reservation.clone(),
            over_budget_count: self.over_budget_count,
            entry_bytes: self.entry_bytes,
        }
    }
}

impl Drop for VersionSet {
    fn drop(&mut self) {
        self.reservation.release(self.bytes());
    }
}

/// Compares the dropped versions by number only.
impl PartialEq for VersionSet {
    fn eq(&self, other: &Self) -> bool {
        self.versions == other.versions && self.over_budget_count == other.over_budget_count
    }
}

impl Eq for VersionSet {}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(room: &Reservation, numbers: std::ops::Range<u64>) -> VersionSet {
        let mut all = VersionSet::with_reservation(room, SET_ENTRY_BYTES);
        numbers.for_each(|number| _ = all.insert(Fingerprint(number)));
        all
    }

    /// The budget has room for a thousand versions: one set takes a third, and the Site's other sets have as much.
    #[test]
    fn flooded_hold_leaves_memory_for_others() {
        let budget = MemoryBudget::of_process(3 * 1000 * SET_ENTRY_BYTES.unsigned_abs());
        let (flooded, other) = (budget.manifest_reservation(), budget.manifest_reservation());
        let many = filled(&flooded, 0..333);
        assert_eq!((many.count(), many.over_budget_count), (333, 0));
        assert!(!filled(&flooded, 0..100).is_over_budget(), "another hold of the Site");
        assert!(filled(&flooded, 0..112).is_over_budget());
        assert!(!filled(&other, 0..180).is_over_budget(), "another Site");
        drop(many);
        assert!(!filled(&other, 0..220).is_over_budget());
    }

    /// An incomplete set proves nothing and would take memory from others.
    #[test]
    fn set_over_budget_is_emptied() {
        let budget = MemoryBudget::of_process(3 * 1000 * SET_ENTRY_BYTES.unsigned_abs());
        let (flooded, other) = (budget.manifest_reservation(), budget.manifest_reservation());
        let all = filled(&flooded, 0..100_000);
        assert_eq!((all.count(), all.over_budget_count), (0, 100_000));
        assert!(!all.contains(Fingerprint(3)) && all.may_contain(Fingerprint(3)));
        assert_eq!(all.budget_error(), Some(HoldError::TooManyVersions { count: 100_000 }));
        for room in [&flooded, &other] {
            assert_eq!(filled(room, 0..333).count(), 333);
        }
        let none = VersionSet::default();
        assert!(!none.may_contain(Fingerprint(3)) && none.budget_error().is_none());
    }

    #[test]
    fn dropped_set_frees_memory() {
        let budget = MemoryBudget::of_process(3 * 1000 * SET_ENTRY_BYTES.unsigned_abs());
        let room = budget.manifest_reservation();
        for _ in 0..10 {
            let mut all = filled(&room, 0..300);
            let copy = all.clone();
            assert_eq!((copy.count(), &copy), (300, &all));
            all.retain(|version| version.0 < 100);
            all.force_insert(Fingerprint(7));
            all.force_insert(Fingerprint(1000));
            assert_eq!(all.count(), 101);
            assert!(!all.insert(Fingerprint(7)), "it has that");
        }
        assert!(!filled(&room, 0..333).is_over_budget() && filled(&room, 0..334).is_over_budget());
        assert_eq!(
            budget.manifest_reservation().available.unwrap().load(Ordering::Relaxed),
            1000 * SET_ENTRY_BYTES
        );
    }

    /// The measured size of a set that has just grown.
    #[test]
    fn version_fits_its_set_entry_size() {
        let mut all = HashSet::new();
        let slot = 1 + i64::try_from(size_of::<Fingerprint>()).unwrap();
        for number in 0..100_000_u64 {
            all.insert(Fingerprint(number));
            // The standard library fills its table to seven eighths.
            let bytes = i64::try_from(all.capacity()).unwrap() * 8 / 7 * slot;
            let counted = SET_ENTRY_BYTES * i64::try_from(all.len()).unwrap();
            assert!(bytes <= counted + 64, "{number}: {bytes} > {counted}");
        }
    }
}
