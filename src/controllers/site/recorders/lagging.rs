//! Recorders that may record although nothing permits it: they do not answer, or do not do what the latest configuration says. In
//! memory only: a successor begins again, and reports them a minute later than this process would have.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

use super::names::join_first;
use crate::sync::lock;

/// Time within which recorders take a configuration, start, or end. A kubelet renews a mounted Secret within a minute even if it
/// misses the change of the pod, and a pod has about a minute to terminate.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// The same for a recorder that has the configuration: its cameras stop at once, and its report may be some seconds old.
const STOPPING_GRACE: SignedDuration = SignedDuration::from_secs(10);

/// Deviation of a recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    Silent,
    /// It follows another configuration than the latest, or rejects that one.
    OtherRevision,
    /// It follows the latest configuration, and has cameras that have not stopped. Only while the Site may not record.
    StillRecords,
}

/// Recorder that deviates from the latest configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaggingRecorder {
    pub pod_uid: String,
    pub pod_name: String,
    pub lag: Lag,
    /// Revision that it reported at last.
    pub revision: Option<String>,
    /// Cameras that it may record; `None`: any of the Site.
    pub cameras: Option<BTreeSet<String>>,
    pub since: Timestamp,
}

impl LaggingRecorder {
    /// Returns whether it lags for longer than a configuration takes in ordinary operation.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        let grace = if self.lag == Lag::StillRecords { STOPPING_GRACE } else { GRACE };
        now.duration_since(self.since) >= grace
    }

    /// Returns whether it answers, and may do what the latest configuration says within seconds.
    pub fn is_handing_over(&self, now: Timestamp) -> bool {
        self.lag != Lag::Silent && !self.is_overdue(now)
    }

    fn may_record(&self, camera: &str) -> bool {
        self.cameras.as_ref().is_none_or(|cameras| cameras.contains(camera))
    }

    /// Returns this recorder with what `before` adds: the beginning, and the cameras that it had then.
    fn continuing(self, before: &Self, now: Timestamp) -> Self {
        // A recorder that takes configurations is not behind, even if each query finds a newer one. A clock that was ahead would hide
        // the lag.
        let has_progress =
            before.revision.is_some() && self.revision.is_some() && before.revision != self.revision;
        let since = if has_progress || before.since > now { now } else { before.since };
        let cameras = self.cameras.zip(before.cameras.clone()).map(|(now, before)| &now | &before);
        Self { since, cameras, revision: self.revision.or_else(|| before.revision.clone()), ..self }
    }
}

/// Names the recorders among `lagging` that may record any of `cameras` although they should follow the latest configuration by now;
/// `None`: there are none. Beyond the first, it counts them.
pub fn name_overdue<'a>(
    lagging: &[LaggingRecorder],
    cameras: impl IntoIterator<Item = &'a str> + Clone,
    now: Timestamp,
) -> Option<String> {
    let may_record =
        |recorder: &&LaggingRecorder| cameras.clone().into_iter().any(|camera| recorder.may_record(camera));
    let overdue = lagging.iter().filter(|recorder| recorder.is_overdue(now)).filter(may_record);
    let names = overdue.map(|recorder| recorder.pod_name.clone()).collect();
    join_first(names, ", ", "recorders")
}

/// Lagging recorders of a Site.
struct NotedRecorders {
    recorders: Vec<LaggingRecorder>,
    /// Time of the last queries. The next may be minutes later, if the Site's store does not answer, and the recorders need not lag
    /// any more.
    noted_at: Timestamp,
}

/// Lagging recorders, by the UID of their Site.
#[derive(Default)]
pub struct LaggingRecorders(Mutex<HashMap<String, NotedRecorders>>);

impl LaggingRecorders {
    /// Notes the recorders of a Site that lag at `now`; all others do not. Returns them with their beginnings.
    pub fn note(&self, site_uid: &str, found: Vec<LaggingRecorder>, now: Timestamp) -> Vec<LaggingRecorder> {
        let mut sites = lock(&self.0);
        let before = sites.remove(site_uid).map(|noted| noted.recorders).unwrap_or_default();
        let continuing =
            |recorder: LaggingRecorder| match before.iter().find(|before| before.pod_uid == recorder.pod_uid)
            {
                Some(before) => recorder.continuing(before, now),
                None => recorder,
            };
        let lagging: Vec<LaggingRecorder> = found.into_iter().map(continuing).collect();
        if !lagging.is_empty() {
            let noted = NotedRecorders { recorders: lagging.clone(), noted_at: now };
            sites.insert(site_uid.to_owned(), noted);
        }
        lagging
    }

    /// Names the recorders of a Site that may record `camera` although they should have followed the latest configuration when they
    /// were queried; `None`: there are none.
    pub fn name_overdue(&self, site_uid: &str, camera: &str) -> Option<String> {
        let sites = lock(&self.0);
        let noted = sites.get(site_uid)?;
        name_overdue(&noted.recorders, [camera], noted.noted_at)
    }

    /// Forgets a Site whose recorders are not queried any more.
    pub fn forget(&self, site_uid: &str) {
        lock(&self.0).remove(site_uid);
    }
}

#[cfg(test)]
mod tests;
