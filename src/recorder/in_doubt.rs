//! Uploads of which nobody can say whether they arrive, and what they followed: what a hold covers may come of them
//! without its mark, after everybody else follows the hold.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A request that nobody waits for any more arrives while its signature is valid, or never.
const MAX_ARRIVAL_DELAY: Duration = Duration::from_mins(15);

/// See the module. A recording is in it until its upload is confirmed: then a store that heeds the condition of a put takes
/// no other of that key.
#[derive(Debug, Default)]
pub struct InDoubtUploads {
    uploads: HashMap<PathBuf, InDoubtUpload>,
}

#[derive(Debug)]
struct InDoubtUpload {
    /// Of the first of its uploads; `None`: of the recorder before, which does not tell any more.
    revision: Option<String>,
    last_attempt: Instant,
}

impl InDoubtUploads {
    /// What waits in the spool when a recorder starts: the one before may have been killed while it uploaded that.
    pub fn from_previous_recorder(waiting: impl IntoIterator<Item = PathBuf>, now: Instant) -> Self {
        let begun = |path| (path, InDoubtUpload { revision: None, last_attempt: now });
        Self { uploads: waiting.into_iter().map(begun).collect() }
    }

    /// An upload that followed `revision` failed, and may arrive all the same.
    pub fn record_failure(&mut self, path: PathBuf, revision: String, now: Instant) {
        let begun =
            self.uploads.entry(path).or_insert(InDoubtUpload { revision: Some(revision), last_attempt: now });
        begun.last_attempt = now;
    }

    pub fn record_confirmation(&mut self, path: &Path) {
        self.uploads.remove(path);
    }

    /// Forgets what is not in the spool any more, so that it is never confirmed, and cannot arrive any more.
    pub fn prune(&mut self, waiting: impl FnOnce() -> HashSet<PathBuf>, now: Instant) {
        if self.uploads.is_empty() {
            return;
        }
        let waiting = waiting();
        self.uploads.retain(|path, begun| {
            waiting.contains(path) || now.duration_since(begun.last_attempt) < MAX_ARRIVAL_DELAY
        });
    }

    /// What they followed; `None`: nobody knows.
    pub fn revisions(&self) -> impl Iterator<Item = Option<&str>> {
        self.uploads.values().map(|begun| begun.revision.as_deref())
    }
}

/// Whether all uploads that were begun and may still arrive follow `revision`.
pub fn all_use_revision<'a>(mut begun: impl Iterator<Item = Option<&'a str>>, revision: &str) -> bool {
    begun.all(|of| of == Some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_is_in_doubt_until_confirmed_or_expired() {
        let (now, path) = (Instant::now(), PathBuf::from("a"));
        let mut in_doubt = InDoubtUploads::from_previous_recorder([path.clone()], now);
        assert!(!all_use_revision(in_doubt.revisions(), "1"), "the recorder before does not tell");
        in_doubt.record_failure(path.clone(), "1".into(), now);
        assert!(!all_use_revision(in_doubt.revisions(), "1"), "nor does it by a later failure");
        in_doubt.record_confirmation(&path);
        assert!(all_use_revision(in_doubt.revisions(), "1"));

        in_doubt.record_failure(path.clone(), "1".into(), now);
        in_doubt.record_failure(path.clone(), "2".into(), now);
        assert!(all_use_revision(in_doubt.revisions(), "1") && !all_use_revision(in_doubt.revisions(), "2"));
        // While it is in the spool it is tried again; what had to go never is.
        in_doubt.prune(|| HashSet::from([path]), now + MAX_ARRIVAL_DELAY);
        assert_eq!(in_doubt.revisions().count(), 1);
        in_doubt.prune(HashSet::new, now + MAX_ARRIVAL_DELAY.saturating_sub(Duration::from_secs(1)));
        assert_eq!(in_doubt.revisions().count(), 1);
        in_doubt.prune(HashSet::new, now + MAX_ARRIVAL_DELAY);
        assert_eq!(in_doubt.revisions().count(), 0);
    }
}
