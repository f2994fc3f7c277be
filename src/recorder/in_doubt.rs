//! Uploads in doubt: requests without an answer, which may still arrive. Such an upload may create a version without the
//! protection of a hold, after everyone else has acknowledged the hold.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use crate::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

/// Lead of a recorder's clock up to which stores accept its requests (S3: `RequestTimeTooSkewed`).
const MAX_LEAD: Duration = Duration::from_mins(15);

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
    /// Instant from which none of its uploads can arrive.
    expires: Instant,
}

impl InDoubtUploads {
    /// Takes all segments in the spool at the start: the previous recorder may have been killed while it uploaded them.
    pub fn from_previous_recorder(waiting: impl IntoIterator<Item = PathBuf>, now: Instant) -> Self {
        // The clock of the previous recorder is unknown.
        let expires = now + arrival_delay(None);
        let in_doubt = |path| (path, InDoubtUpload { revision: None, expires });
        Self { uploads: waiting.into_iter().map(in_doubt).collect() }
    }

    /// Notes an upload with `revision` that failed but may still arrive. The oldest revision of a file stays. `clock_lead` is
    /// the lead of this machine's clock over the store's; `None`: unknown.
    pub fn record_failure(
        &mut self,
        path: PathBuf,
        revision: String,
        now: Instant,
        clock_lead: Option<SignedDuration>,
    ) {
        let expires = now + arrival_delay(clock_lead);
        let upload = self.uploads.entry(path).or_insert(InDoubtUpload { revision: Some(revision), expires });
        upload.expires = upload.expires.max(expires);
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
        self.uploads.retain(|path, upload| waiting.contains(path) || now < upload.expires);
    }

    /// Returns the revision of each upload; `None`: unknown.
    pub fn revisions(&self) -> impl Iterator<Item = Option<&str>> {
        self.uploads.values().map(|upload| upload.revision.as_deref())
    }
}

/// Returns the time in which an abandoned request may still arrive: while the store accepts its signature. A clock that is
/// ahead signs with a later time, so the signature is valid for longer.
fn arrival_delay(clock_lead: Option<SignedDuration>) -> Duration {
    // The store rejects a request that is further ahead.
    let lead = clock_lead.map_or(MAX_LEAD, |lead| Duration::try_from(lead).unwrap_or_default().min(MAX_LEAD));
    SIGNATURE_VALIDITY + lead
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
        in_doubt.record_failure(path.clone(), "1".into(), now, None);
        assert!(!all_use_revision(in_doubt.revisions(), "1"), "a later failure does not reveal it");
        in_doubt.record_confirmation(&path);
        assert!(all_use_revision(in_doubt.revisions(), "1"));

        in_doubt.record_failure(path.clone(), "1".into(), now, Some(SignedDuration::ZERO));
        in_doubt.record_failure(path.clone(), "2".into(), now, Some(SignedDuration::ZERO));
        assert!(all_use_revision(in_doubt.revisions(), "1") && !all_use_revision(in_doubt.revisions(), "2"));
        // Segments in the spool are retried, evicted ones are not.
        in_doubt.prune(|| HashSet::from([path]), now + SIGNATURE_VALIDITY);
        assert_eq!(in_doubt.revisions().count(), 1);
        in_doubt.prune(HashSet::new, now + SIGNATURE_VALIDITY.saturating_sub(Duration::from_secs(1)));
        assert_eq!(in_doubt.revisions().count(), 1);
        in_doubt.prune(HashSet::new, now + SIGNATURE_VALIDITY);
        assert_eq!(in_doubt.revisions().count(), 0);
    }

    #[test]
    fn lead_of_the_clock_extends_the_doubt() {
        for (lead_seconds, minutes) in [
            // A clock that is behind does not shorten it.
            (Some(-600), 16),
            (Some(0), 16),
            (Some(60), 17),
            (Some(600), 26),
            // The store accepts no request that is further ahead.
            (Some(900), 31),
            (Some(86_400), 31),
            (None, 31),
        ] {
            let lead = lead_seconds.map(SignedDuration::from_secs);
            assert_eq!(arrival_delay(lead), Duration::from_mins(minutes), "{lead_seconds:?}");
        }
        // A correction of the clock does not end the doubt about an earlier upload.
        let (now, path) = (Instant::now(), PathBuf::from("a"));
        let mut in_doubt = InDoubtUploads::default();
        in_doubt.record_failure(path.clone(), "1".into(), now, Some(SignedDuration::from_mins(10)));
        in_doubt.record_failure(path, "1".into(), now, Some(SignedDuration::ZERO));
        in_doubt.prune(HashSet::new, now + Duration::from_mins(24));
        assert_eq!(in_doubt.revisions().count(), 1);
    }
}
