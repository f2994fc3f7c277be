//! How much a process remembers of held versions. There are as many of these as whoever may put writes, so they are counted in
//! bytes: of one Site there are never more than are left for all others, nor of one hold than are left for the Site's others.
//! That is the dynamic threshold by which switches share a buffer (Choudhury and Hahne, IEEE/ACM Transactions on Networking
//! 6(2), 1998): one that is flooded has half of it at most, and leaves half of the rest to the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::storage::recordings::error::HoldError;

/// Bytes of a version in a set that has just grown.
pub(crate) const SET_ENTRY_BYTES: i64 = 24;
/// The same where its place is kept beside it.
pub(crate) const MANIFEST_ENTRY_BYTES: i64 = 40;
/// Of what a pass finds: with the manifest that will be written of it.
pub(crate) const COVERAGE_ENTRY_BYTES: i64 = SET_ENTRY_BYTES + MANIFEST_ENTRY_BYTES;
/// Bytes of what was read of a version.
pub(crate) const VERIFIED_ENTRY_BYTES: i64 = 80;

/// A version by a hash that nobody outside this process can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) u64);

/// What all Sites of a process share, in bytes. Copies are one and the same.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    manifests: Arc<AtomicI64>,
    verified: Arc<AtomicI64>,
}

impl MemoryBudget {
    /// Of a process that may have `limit` bytes in all: half of them. A third of that is for marks that were read, without which
    /// there is no claim less, only requests more.
    pub fn of_process(limit: u64) -> Self {
        let half = i64::try_from(limit / 2).unwrap_or(i64::MAX);
        Self {
            manifests: Arc::new(AtomicI64::new(half - half / 3)),
            verified: Arc::new(AtomicI64::new(half / 3)),
        }
    }

    /// A Site's part for what is listed.
    pub(crate) fn manifest_reservation(&self) -> Reservation {
        Reservation::from_pool(&self.manifests)
    }

    /// A Site's part for marks that were read.
    pub(crate) fn verified_reservation(&self) -> Reservation {
        Reservation::from_pool(&self.verified)
    }
}

/// A Site's part; by default without end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservation {
    available: Option<Arc<AtomicI64>>,
    used: Arc<AtomicI64>,
}

impl Reservation {
    fn from_pool(left: &Arc<AtomicI64>) -> Self {
        Self { available: Some(left.clone()), used: Arc::default() }
    }

    /// Takes so many bytes, if others have as many left as this Site then has; or, for a part of the Site's that has `before`
    /// already, if its other parts do.
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

    /// Gives them back; fewer than none: takes them, whether they are there or not.
    pub(crate) fn release(&self, bytes: i64) {
        if let Some(left) = &self.available {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Versions, if there is room for all of them. Where there is not, none is kept: nothing can be claimed by a part, and others need
/// the room.
#[derive(Debug, Default)]
pub struct VersionSet {
    versions: HashSet<Fingerprint>,
    /// How many there were, where there was no room for all. One that came again was counted again.
    over_budget_count: u64,
    reservation: Reservation,
    entry_bytes: i64,
}

impl VersionSet {
    /// None yet, that will take so many bytes each of `room`.
    pub(crate) fn with_reservation(room: &Reservation, each: i64) -> Self {
        Self { versions: HashSet::new(), over_budget_count: 0, reservation: room.clone(), entry_bytes: each }
    }

    /// Adds a version, if there is room; whether it is new here.
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

    /// Adds a version whether there is room or not: what takes its place was counted.
    pub(crate) fn force_insert(&mut self, version: Fingerprint) {
        if !self.is_over_budget() && self.versions.insert(version) {
            self.reservation.release(-self.entry_bytes);
        }
    }

    pub fn contains(&self, version: Fingerprint) -> bool {
        self.versions.contains(&version)
    }

    /// Whether it has a version, or may have had no room for it.
    pub fn may_contain(&self, version: Fingerprint) -> bool {
        self.is_over_budget() || self.contains(version)
    }

    pub fn count(&self) -> u64 {
        self.versions.len() as u64
    }

    /// Whether there was no room for all.
    pub const fn is_over_budget(&self) -> bool {
        self.over_budget_count > 0
    }

    /// Why nothing is claimed by these, where there was no room for some.
    pub fn budget_error(&self) -> Option<HoldError> {
        self.is_over_budget().then_some(HoldError::TooManyVersions { count: self.over_budget_count })
    }

    /// Drops those for which `stays` does not hold.
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
        self.entry_bytes * i64::try_from(self.versions.len()).unwrap_or(i64::MAX / self.entry_bytes.max(1))
    }
}

impl Clone for VersionSet {
    fn clone(&self) -> Self {
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

/// Those that were left out are others in each.
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

    /// A thousand versions fit in what a process has: a third in one set, so that the Site's others have as much.
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

    /// By a part nothing can be claimed, and it would take the room of others.
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

    /// As large as is said: of a set that has just grown.
    #[test]
    fn version_fits_its_set_entry_size() {
        let mut all = HashSet::new();
        let slot = 1 + i64::try_from(size_of::<Fingerprint>()).unwrap();
        for number in 0..100_000_u64 {
            all.insert(Fingerprint(number));
            // The standard library's table is at most seven eighths full.
            let bytes = i64::try_from(all.capacity()).unwrap() * 8 / 7 * slot;
            let counted = SET_ENTRY_BYTES * i64::try_from(all.len()).unwrap();
            assert!(bytes <= counted + 64, "{number}: {bytes} > {counted}");
        }
    }
}
