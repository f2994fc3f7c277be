//! Uploads of which nobody can say whether they arrive, and what they followed: what a hold covers may come of them
//! without its mark, after everybody else follows the hold.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A request that nobody waits for any more arrives while its signature is valid, or never.
const LATEST: Duration = Duration::from_mins(15);

/// See the module. A recording is in it until its upload is confirmed: then a store that heeds the condition of a put takes
/// no other of that key.
#[derive(Debug, Default)]
pub struct Unsure {
    known: HashMap<PathBuf, Begun>,
}

#[derive(Debug)]
struct Begun {
    /// Of the first of its uploads; `None`: of the recorder before, which does not tell any more.
    revision: Option<String>,
    last: Instant,
}

impl Unsure {
    /// What waits in the spool when a recorder starts: the one before may have been killed while it uploaded that.
    pub fn of_recorder_before(waiting: impl IntoIterator<Item = PathBuf>, now: Instant) -> Self {
        let begun = |path| (path, Begun { revision: None, last: now });
        Self { known: waiting.into_iter().map(begun).collect() }
    }

    /// An upload that followed `revision` failed, and may arrive all the same.
    pub fn failed(&mut self, path: PathBuf, revision: String, now: Instant) {
        let begun = self.known.entry(path).or_insert(Begun { revision: Some(revision), last: now });
        begun.last = now;
    }

    /// The store has it.
    pub fn confirmed(&mut self, path: &Path) {
        self.known.remove(path);
    }

    /// Forgets what is not in the spool any more, so that it is never confirmed, and cannot arrive any more.
    pub fn forget(&mut self, waiting: impl FnOnce() -> HashSet<PathBuf>, now: Instant) {
        if self.known.is_empty() {
            return;
        }
        let waiting = waiting();
        self.known.retain(|path, begun| waiting.contains(path) || now.duration_since(begun.last) < LATEST);
    }

    /// What they followed; `None`: nobody knows.
    pub fn revisions(&self) -> impl Iterator<Item = Option<&str>> {
        self.known.values().map(|begun| begun.revision.as_deref())
    }
}

/// Whether all uploads that were begun and may still arrive follow `revision`.
pub fn all_follow<'a>(mut begun: impl Iterator<Item = Option<&'a str>>, revision: &str) -> bool {
    begun.all(|of| of == Some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_until_confirmed_or_too_old_to_arrive() {
        let (now, path) = (Instant::now(), PathBuf::from("a"));
        let mut unsure = Unsure::of_recorder_before([path.clone()], now);
        assert!(!all_follow(unsure.revisions(), "1"), "the recorder before does not tell");
        unsure.failed(path.clone(), "1".into(), now);
        assert!(!all_follow(unsure.revisions(), "1"), "nor does it by a later failure");
        unsure.confirmed(&path);
        assert!(all_follow(unsure.revisions(), "1"));

        unsure.failed(path.clone(), "1".into(), now);
        unsure.failed(path.clone(), "2".into(), now);
        assert!(all_follow(unsure.revisions(), "1") && !all_follow(unsure.revisions(), "2"));
        // While it is in the spool it is tried again; what had to go never is.
        unsure.forget(|| HashSet::from([path]), now + LATEST);
        assert_eq!(unsure.revisions().count(), 1);
        unsure.forget(HashSet::new, now + LATEST.saturating_sub(Duration::from_secs(1)));
        assert_eq!(unsure.revisions().count(), 1);
        unsure.forget(HashSet::new, now + LATEST);
        assert_eq!(unsure.revisions().count(), 0);
    }
}
