//! How much a process remembers of held versions. There are as many of these as whoever may put writes, so they are counted in
//! bytes: of one Site there are never more than are left for all others, nor of one hold than are left for the Site's others.
//! That is the dynamic threshold by which switches share a buffer (Choudhury and Hahne, IEEE/ACM Transactions on Networking
//! 6(2), 1998): one that is flooded has half of it at most, and leaves half of the rest to the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::HoldError;

/// Bytes of a version in a set that has just grown.
pub(super) const IN_SET: i64 = 24;
/// The same where its place is kept beside it.
pub(super) const IN_PLACE: i64 = 40;
/// Of what a pass finds: with the manifest that will be written of it.
pub(super) const FOUND: i64 = IN_SET + IN_PLACE;
/// Bytes of what was read of a version.
pub(super) const READ: i64 = 80;

/// A version by a hash that nobody outside this process can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(super) u64);

/// What all Sites of a process share, in bytes. Copies are one and the same.
#[derive(Clone, Debug)]
pub struct Budget {
    told: Arc<AtomicI64>,
    read: Arc<AtomicI64>,
}

impl Budget {
    /// Of a process that may have `limit` bytes in all: half of them. A third of that is for marks that were read, without which
    /// there is no claim less, only requests more.
    pub fn of_process(limit: u64) -> Self {
        let half = i64::try_from(limit / 2).unwrap_or(i64::MAX);
        Self { told: Arc::new(AtomicI64::new(half - half / 3)), read: Arc::new(AtomicI64::new(half / 3)) }
    }

    /// A Site's part for what is listed.
    pub(super) fn told(&self) -> Room {
        Room::of(&self.told)
    }

    /// A Site's part for marks that were read.
    pub(super) fn read(&self) -> Room {
        Room::of(&self.read)
    }
}

/// A Site's part; by default without end.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    left: Option<Arc<AtomicI64>>,
    used: Arc<AtomicI64>,
}

impl Room {
    fn of(left: &Arc<AtomicI64>) -> Self {
        Self { left: Some(left.clone()), used: Arc::default() }
    }

    /// Takes so many bytes, if others have as many left as this Site then has; or, for a part of the Site's that has `before`
    /// already, if its other parts do.
    pub(super) fn take(&self, bytes: i64, before: i64) -> bool {
        let Some(left) = &self.left else {
            return true;
        };
        let used = self.used.load(Ordering::Relaxed) + bytes;
        let is_there = before + bytes <= left.load(Ordering::Relaxed) - bytes - used;
        if is_there {
            self.give(-bytes);
        }
        is_there
    }

    /// Gives them back; fewer than none: takes them, whether they are there or not.
    pub(super) fn give(&self, bytes: i64) {
        if let Some(left) = &self.left {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Versions, if there is room for all of them. Where there is not, none is kept: nothing can be claimed by a part, and others need
/// the room.
#[derive(Debug, Default)]
pub struct Versions {
    all: HashSet<Fingerprint>,
    /// How many there were, where there was no room for all. One that came again was counted again.
    left_out: u64,
    room: Room,
    each: i64,
}

impl Versions {
    /// None yet, that will take so many bytes each of `room`.
    pub(super) fn within(room: &Room, each: i64) -> Self {
        Self { all: HashSet::new(), left_out: 0, room: room.clone(), each }
    }

    /// Adds a version, if there is room; whether it is new here.
    pub fn insert(&mut self, version: Fingerprint) -> bool {
        if self.all.contains(&version) {
            return false;
        }
        if self.is_short() || !self.room.take(self.each, self.bytes()) {
            self.room.give(self.bytes());
            self.left_out += 1 + self.count();
            self.all = HashSet::new();
            return false;
        }
        self.all.insert(version)
    }

    /// Adds a version whether there is room or not: what takes its place was counted.
    pub(super) fn push(&mut self, version: Fingerprint) {
        if !self.is_short() && self.all.insert(version) {
            self.room.give(-self.each);
        }
    }

    /// Whether it has a version.
    pub fn has(&self, version: Fingerprint) -> bool {
        self.all.contains(&version)
    }

    /// Whether it has a version, or may have had no room for it.
    pub fn may_have(&self, version: Fingerprint) -> bool {
        self.is_short() || self.has(version)
    }

    /// How many it has.
    pub fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// Whether there was no room for all.
    pub const fn is_short(&self) -> bool {
        self.left_out > 0
    }

    /// Why nothing is claimed by these, where there was no room for some.
    pub fn shortage(&self) -> Option<HoldError> {
        self.is_short().then_some(HoldError::NoRoom { count: self.left_out })
    }

    /// Drops those for which `stays` does not hold.
    pub(super) fn retain(&mut self, stays: impl Fn(Fingerprint) -> bool) {
        let before = self.bytes();
        self.all.retain(|version| stays(*version));
        self.all.shrink_to_fit();
        self.room.give(before - self.bytes());
    }

    /// Those that it has.
    pub fn iter(&self) -> impl Iterator<Item = Fingerprint> {
        self.all.iter().copied()
    }

    fn bytes(&self) -> i64 {
        self.each * i64::try_from(self.all.len()).unwrap_or(i64::MAX / self.each.max(1))
    }
}

impl Clone for Versions {
    /// Whatever room is left.
    fn clone(&self) -> Self {
        self.room.give(-self.bytes());
        Self { all: self.all.clone(), room: self.room.clone(), left_out: self.left_out, each: self.each }
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        self.room.give(self.bytes());
    }
}

/// Those that were left out are others in each.
impl PartialEq for Versions {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all && self.left_out == other.left_out
    }
}

impl Eq for Versions {}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(room: &Room, numbers: std::ops::Range<u64>) -> Versions {
        let mut all = Versions::within(room, IN_SET);
        numbers.for_each(|number| _ = all.insert(Fingerprint(number)));
        all
    }

    /// A thousand versions fit in what a process has: a third in one set, so that the Site's others have as much.
    #[test]
    fn what_is_flooded_leaves_room_for_the_others() {
        let budget = Budget::of_process(3 * 1000 * IN_SET.unsigned_abs());
        let (flooded, other) = (budget.told(), budget.told());
        let many = filled(&flooded, 0..333);
        assert_eq!((many.count(), many.left_out), (333, 0));
        assert!(!filled(&flooded, 0..100).is_short(), "another hold of the Site");
        assert!(filled(&flooded, 0..112).is_short());
        assert!(!filled(&other, 0..180).is_short(), "another Site");
        drop(many);
        assert!(!filled(&other, 0..220).is_short());
    }

    /// By a part nothing can be claimed, and it would take the room of others.
    #[test]
    fn nothing_is_kept_of_what_there_is_no_room_for() {
        let budget = Budget::of_process(3 * 1000 * IN_SET.unsigned_abs());
        let (flooded, other) = (budget.told(), budget.told());
        let all = filled(&flooded, 0..100_000);
        assert_eq!((all.count(), all.left_out), (0, 100_000));
        assert!(!all.has(Fingerprint(3)) && all.may_have(Fingerprint(3)));
        assert_eq!(all.shortage(), Some(HoldError::NoRoom { count: 100_000 }));
        for room in [&flooded, &other] {
            assert_eq!(filled(room, 0..333).count(), 333);
        }
        let none = Versions::default();
        assert!(!none.may_have(Fingerprint(3)) && none.shortage().is_none());
    }

    #[test]
    fn what_is_dropped_makes_room() {
        let budget = Budget::of_process(3 * 1000 * IN_SET.unsigned_abs());
        let room = budget.told();
        for _ in 0..10 {
            let mut all = filled(&room, 0..300);
            let copy = all.clone();
            assert_eq!((copy.count(), &copy), (300, &all));
            all.retain(|version| version.0 < 100);
            all.push(Fingerprint(7));
            all.push(Fingerprint(1000));
            assert_eq!(all.count(), 101);
            assert!(!all.insert(Fingerprint(7)), "it has that");
        }
        assert!(!filled(&room, 0..333).is_short() && filled(&room, 0..334).is_short());
        assert_eq!(budget.told().left.unwrap().load(Ordering::Relaxed), 1000 * IN_SET);
    }

    /// As large as is said: of a set that has just grown.
    #[test]
    fn a_version_takes_no_more_than_is_counted() {
        let mut all = HashSet::new();
        let slot = 1 + i64::try_from(size_of::<Fingerprint>()).unwrap();
        for number in 0..100_000_u64 {
            all.insert(Fingerprint(number));
            // The standard library's table is at most seven eighths full.
            let bytes = i64::try_from(all.capacity()).unwrap() * 8 / 7 * slot;
            let counted = IN_SET * i64::try_from(all.len()).unwrap();
            assert!(bytes <= counted + 64, "{number}: {bytes} > {counted}");
        }
    }
}
