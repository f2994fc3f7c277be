//! Uploads in doubt: requests without an answer, which may still arrive. Such an upload may create a version without the
//! protection of a hold, after everyone else has acknowledged the hold.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An abandoned request arrives while its signature is valid, or never.
const MAX_ARRIVAL_DELAY: Duration = Duration::from_mins(15);

/// Uploads in doubt, by the file in the spool. A confirmed upload ends the doubt about the earlier ones of its key: a store
/// that supports conditional puts accepts no second put.
#[derive(Debug, Default)]
pub struct InDoubtUploads {
    uploads: HashMap<PathBuf, InDoubtUpload>,
}

#[derive(Debug)]
struct InDoubtUpload {
    /// Revision of the first of its uploads; `None`: unknown, from the previous recorder.
    revision: Option<String>,
    last_attempt: Instant,
}

impl InDoubtUploads {
    /// Takes all segments in the spool at the start: the previous recorder may have been killed while it uploaded them.
    pub fn from_previous_recorder(waiting: impl IntoIterator<Item = PathBuf>, now: Instant) -> Self {
        let in_doubt = |path| (path, InDoubtUpload { revision: None, last_attempt: now });
        Self { uploads: waiting.into_iter().map(in_doubt).collect() }
    }

    /// Notes an upload with `revision` that failed but may still arrive. The oldest revision of a file stays.
    pub fn record_failure(&mut self, path: PathBuf, revision: String, now: Instant) {
        let first = InDoubtUpload { revision: Some(revision), last_attempt: now };
        self.uploads.entry(path).or_insert(first).last_attempt = now;
    }

    pub fn record_confirmation(&mut self, path: &Path) {
        self.uploads.remove(path);
    }

    /// Forgets uploads that can no longer arrive. Segments in the spool stay, since they are uploaded again.
    pub fn prune(&mut self, waiting: impl FnOnce() -> HashSet<PathBuf>, now: Instant) {
        // The usual case, without a list of the spool.
        if self.uploads.is_empty() {
            return;
        }
        let waiting = waiting();
        self.uploads.retain(|path, upload| {
            waiting.contains(path) || now.duration_since(upload.last_attempt) < MAX_ARRIVAL_DELAY
        });
    }

    /// Returns the revision of each upload; `None`: unknown.
    pub fn revisions(&self) -> impl Iterator<Item = Option<&str>> {
        self.uploads.values().map(|upload| upload.revision.as_deref())
    }
}

/// Returns whether all uploads use `revision`.
pub fn all_use_revision<'a>(mut used: impl Iterator<Item = Option<&'a str>>, revision: &str) -> bool {
    used.all(|used| used == Some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_is_in_doubt_until_confirmed_or_expired() {
        let (now, path) = (Instant::now(), PathBuf::from("a"));
        let mut in_doubt = InDoubtUploads::from_previous_recorder([path.clone()], now);
        assert!(!all_use_revision(in_doubt.revisions(), "1"), "the previous revision is unknown");
        in_doubt.record_failure(path.clone(), "1".into(), now);
        assert!(!all_use_revision(in_doubt.revisions(), "1"), "a later failure does not reveal it");
        in_doubt.record_confirmation(&path);
        assert!(all_use_revision(in_doubt.revisions(), "1"));

        in_doubt.record_failure(path.clone(), "1".into(), now);
        in_doubt.record_failure(path.clone(), "2".into(), now);
        assert!(all_use_revision(in_doubt.revisions(), "1") && !all_use_revision(in_doubt.revisions(), "2"));
        // Segments in the spool are retried, evicted ones are not.
        in_doubt.prune(|| HashSet::from([path]), now + MAX_ARRIVAL_DELAY);
        assert_eq!(in_doubt.revisions().count(), 1);
        in_doubt.prune(HashSet::new, now + MAX_ARRIVAL_DELAY.saturating_sub(Duration::from_secs(1)));
        assert_eq!(in_doubt.revisions().count(), 1);
        in_doubt.prune(HashSet::new, now + MAX_ARRIVAL_DELAY);
        assert_eq!(in_doubt.revisions().count(), 0);
    }
}
