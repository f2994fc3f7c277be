//! From the spool into the bucket: oldest first, a few at once, again and again until the store has confirmed.
//! A recording leaves the spool only then, or when it is older than the ceiling and must not live any longer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::board::Board;
use super::metrics::Metrics;
use super::spool::{Closed, Spool};
use super::unsure::{Unsure, all_follow};
use crate::contract::SegmentReport;
use crate::protocol::cover::Cover;
use crate::storage::key::{Class, Key, KeyError};
use crate::storage::segments::{PutError, Uploader};
use crate::storage::tag::RetentionTag;

/// Uploads at once.
const AT_ONCE: usize = 4;
/// An upload may take so long, and more for its bytes at the slowest rate that is of any use. One that takes
/// longer is tried again: the network is gone without saying so.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes a second: 2 Mbit/s, a share of a line that carries one camera.
const SLOWEST: u64 = 256 << 10;
/// How often the spool is looked at, whatever happens.
const LOOK: Duration = Duration::from_secs(5);
/// Waits between attempts at a store that does not take anything.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a segment waits that was refused for itself, or with the credentials in use.
const ALONE: Duration = Duration::from_mins(1);

/// What came of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// An earlier upload had arrived, though its answer had not.
    pub already_there: bool,
    /// The store's clock.
    pub server_date: Option<Timestamp>,
}

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The store did not take it.
    #[error("{}", .0.safe_message())]
    Put(#[from] PutError),
    /// No key can be made for it.
    #[error("no key for the segment: {0}")]
    Key(#[from] KeyError),
    /// It took longer than its bytes do on the slowest line that is of any use.
    #[error("the store took too long")]
    Timeout,
    /// The task that uploaded it failed.
    #[error("uploading failed inside the recorder")]
    Inside,
}

impl UploadError {
    /// Whether the store takes nothing for now, rather than not this segment.
    fn is_of_the_store(&self) -> bool {
        match self {
            Self::Put(error) => error.is_retryable(),
            Self::Key(_) | Self::Inside => false,
            Self::Timeout => true,
        }
    }

    /// Whether the store may have taken it all the same, now or in a while.
    fn may_have_arrived(&self) -> bool {
        match self {
            Self::Put(PutError::Store(error)) => error.is_retryable(),
            Self::Put(_) | Self::Key(_) => false,
            Self::Timeout | Self::Inside => true,
        }
    }

    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Put(error) => error.category(),
            Self::Key(error) => error.category(),
            Self::Timeout => "timeout",
            Self::Inside => "inside",
        }
    }

    /// Holds no secret and no text of the store.
    pub fn safe_message(&self) -> String {
        self.to_string()
    }
}

/// Where recordings go.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Puts a file under a key, once.
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<Confirmed, UploadError>;
}

#[async_trait]
impl Sink for Uploader {
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<Confirmed, UploadError> {
        let put = Uploader::put(self, key, file, sha256, tag).await?;
        Ok(Confirmed { already_there: put.already_there, server_date: put.server_date })
    }
}

/// What the uploader goes by; changes with the configuration.
#[derive(Clone)]
pub struct Target {
    /// Where recordings go.
    pub sink: Arc<dyn Sink>,
    /// What is older is purged, never uploaded.
    pub ceiling: SignedDuration,
    /// What open holds cover.
    pub holds: Arc<[Cover]>,
    /// Revision of the configuration that all this is of.
    pub revision: String,
}

impl Target {
    /// What a recording is put with: what a hold covers is sealed from the first moment, so that no lifecycle rule
    /// ever applies to it.
    fn tag(&self, key: &Key) -> RetentionTag {
        tag(&self.holds, key)
    }
}

/// What a recording is put with, given what open holds cover.
pub fn tag(holds: &[Cover], key: &Key) -> RetentionTag {
    if holds.iter().any(|hold| hold.covers(&key.recording())) {
        RetentionTag::Sealed
    } else {
        RetentionTag::unheld(key.class())
    }
}

/// Uploads what is in the spool.
pub struct Uploads {
    /// The spool.
    pub spool: Arc<Spool>,
    /// Where it is reported.
    pub board: Arc<Board>,
    /// Where it is counted.
    pub metrics: Metrics,
    /// Where recordings go; `None`: not known yet.
    pub target: watch::Receiver<Option<Target>>,
}

impl Uploads {
    /// Works until `drained` says that nothing more comes, and then until the spool is empty.
    pub async fn run(mut self, drained: CancellationToken) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut pause: Option<Instant> = None;
        let mut running: JoinSet<Result<Confirmed, UploadError>> = JoinSet::new();
        let mut segments: HashMap<Id, (Closed, String)> = HashMap::new();
        let mut unsure = Unsure::of_recorder_before(self.spool.paths(), Instant::now());
        let mut draining = false;
        loop {
            let target = self.target.borrow_and_update().clone();
            if let Some(target) = &target {
                self.purge(target.ceiling);
                // One at a time finds out whether a store that failed is back.
                let at_once = if pause.is_some() { 1 } else { AT_ONCE };
                let ready = pause.is_none_or(|until| until <= Instant::now());
                while ready && running.len() < at_once {
                    let Some(closed) = self.spool.take(Instant::now()) else {
                        break;
                    };
                    let (target, segment, path) = (target.clone(), closed.clone(), self.spool.path(&closed));
                    let revision = target.revision.clone();
                    let task = running.spawn(async move { upload(&target, &segment, &path).await });
                    segments.insert(task.id(), (closed, revision));
                }
            }
            if let Some(Target { revision, .. }) = &target {
                unsure.forget(|| self.spool.paths(), Instant::now());
                let running = segments.values().map(|(_, of)| Some(of.as_str()));
                let all_follow = all_follow(running.chain(unsure.revisions()), revision);
                self.board.set_uploads_follow(all_follow.then(|| revision.clone()));
            }
            if draining && running.is_empty() && self.spool.status().segments == 0 {
                return;
            }
            let wake = pause.filter(|until| *until > Instant::now());
            tokio::select! {
                Some(ended) = running.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        Err(failed) => (failed.id(), Err(UploadError::Inside)),
                    };
                    if let Some((closed, revision)) = segments.remove(&id) {
                        match &result {
                            Ok(_) => unsure.confirmed(&self.spool.path(&closed)),
                            Err(error) if error.may_have_arrived() => {
                                unsure.failed(self.spool.path(&closed), revision, Instant::now());
                            }
                            Err(_) => {}
                        }
                        pause = self.ended(&closed, result, &mut backoff);
                    }
                    if draining {
                        // There is no later: all are tried again and again until the end.
                        pause = pause.map(|until| until.min(Instant::now() + WAITS.0));
                        self.spool.wait_no_more();
                    }
                }
                () = self.spool.changed() => {}
                changed = self.target.changed() => {
                    if changed.is_err() { sleep(LOOK).await; }
                    // Other credentials, perhaps: no reason to wait any longer.
                    self.spool.wait_no_more();
                    pause = None;
                }
                () = sleep_until(wake.unwrap_or_else(|| Instant::now() + LOOK).into()) => {}
                () = drained.cancelled(), if !draining => {
                    // The last chance: what was refused is tried once more.
                    draining = true;
                    self.spool.wait_no_more();
                    pause = None;
                }
            }
            self.metrics.spool(self.spool.status());
        }
    }

    /// Gives how long to leave the store alone.
    fn ended(
        &self,
        closed: &Closed,
        result: Result<Confirmed, UploadError>,
        backoff: &mut Backoff,
    ) -> Option<Instant> {
        match result {
            Ok(confirmed) => {
                self.metrics.upload(if confirmed.already_there { "already_there" } else { "stored" });
                if let Some(date) = confirmed.server_date {
                    // The store's clock tells whole seconds: on average half of one has passed.
                    self.board
                        .set_clock_ahead(Timestamp::now().as_millisecond() - date.as_millisecond() - 500);
                }
                self.confirmed(closed);
                backoff.reset();
                None
            }
            Err(error) => {
                self.metrics.upload(error.category());
                // What is wrong with one segment is not wrong with all: the others go on after a moment.
                let alone = !error.is_of_the_store();
                let wait = if alone { WAITS.0 } else { backoff.wait() };
                let message = error.safe_message();
                tracing::warn!(
                    camera = closed.camera,
                    category = error.category(),
                    ?wait,
                    "upload failed: {message}"
                );
                self.board.error(&closed.camera, &format!("upload: {message}"));
                let own = if alone { ALONE } else { wait };
                self.spool.put_back(closed, Some(Instant::now() + own));
                Some(Instant::now() + wait)
            }
        }
    }

    fn confirmed(&self, closed: &Closed) {
        if let Err(error) = self.spool.remove(closed) {
            tracing::warn!(camera = closed.camera, error = %error.kind(), "an uploaded segment cannot be removed");
        }
        let Ok(key) = key(closed) else { return };
        tracing::info!(camera = closed.camera, key = %key, bytes = closed.bytes, "segment uploaded");
        let report = SegmentReport {
            key: key.to_string(),
            start: closed.start,
            duration_ms: closed.duration_ms,
            bytes: closed.bytes,
        };
        self.board.uploaded(&closed.camera, report);
    }

    fn purge(&self, ceiling: SignedDuration) {
        for closed in self.spool.purge(ceiling, Timestamp::now()) {
            self.metrics.discard("over_age");
            self.board.error(
                &closed.camera,
                "a segment that was never confirmed is older than the ceiling: purged",
            );
            tracing::warn!(camera = closed.camera, start = %closed.start, "a segment older than the ceiling is purged");
        }
    }
}

/// The key of a recording.
fn key(closed: &Closed) -> Result<Key, KeyError> {
    Key::new(Class::Video, closed.camera.clone(), closed.start, closed.duration_ms, &closed.sha256)
}

async fn upload(target: &Target, closed: &Closed, path: &Path) -> Result<Confirmed, UploadError> {
    let key = key(closed)?;
    let longest = PATIENCE + Duration::from_secs(closed.bytes / SLOWEST);
    let tag = target.tag(&key);
    timeout(longest, target.sink.put(&key, path, closed.sha256, tag))
        .await
        .map_err(|_| UploadError::Timeout)?
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
