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

use super::camera::backoff::Backoff;
use super::in_doubt::{InDoubtUploads, all_use_revision};
use super::metrics::RecorderMetrics;
use super::spool::{Closed, Spool};
use super::state::RecorderState;
use crate::failure::Failure;
use crate::rules::hold::scope::HoldScope;
use crate::rules::recording::key::{Class, Key, KeyError};
use crate::rules::recording::tag::RetentionTag;
use crate::storage::s3::segments::{PutError, Uploader};
use crate::wire::SegmentReport;

const MAX_CONCURRENT_UPLOADS: usize = 4;
/// An upload may take so long, and more for its bytes at the slowest rate that is of any use. One that takes
/// longer is tried again: the network is gone without saying so.
const UPLOAD_TIMEOUT_BASE: Duration = Duration::from_secs(30);
/// Bytes a second: 2 Mbit/s, a share of a line that carries one camera.
const MIN_BYTES_PER_SECOND: u64 = 256 << 10;
/// How often the spool is looked at, whatever happens.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Waits between attempts at a store that does not take anything.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a segment waits that was refused for itself, or with the credentials in use.
const SEGMENT_RETRY_DELAY: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadConfirmation {
    /// An earlier upload had arrived, though its answer had not.
    pub already_there: bool,
    pub server_date: Option<Timestamp>,
}

#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum UploadError {
    /// The store did not take it.
    #[error(transparent)]
    #[strum(transparent)]
    Put(#[from] PutError),
    /// No key can be made for it.
    #[error("no key for the segment: {0}")]
    #[strum(transparent)]
    Key(#[from] KeyError),
    /// It took longer than its bytes do on the slowest line that is of any use.
    #[error("the store took too long")]
    Timeout,
    /// The task that uploaded it failed.
    #[error("uploading failed inside the recorder")]
    Internal,
}

impl UploadError {
    /// Whether the store takes nothing for now, rather than not this segment.
    fn is_store_wide(&self) -> bool {
        match self {
            Self::Put(error) => error.is_retryable(),
            Self::Key(_) | Self::Internal => false,
            Self::Timeout => true,
        }
    }

    /// Whether the store may have taken it all the same, now or in a while.
    fn may_have_arrived(&self) -> bool {
        match self {
            Self::Put(PutError::Store(error)) => error.is_retryable(),
            Self::Put(_) | Self::Key(_) => false,
            Self::Timeout | Self::Internal => true,
        }
    }
}

#[async_trait]
pub trait SegmentSink: Send + Sync + 'static {
    /// Puts a file under a key, once.
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<UploadConfirmation, UploadError>;
}

#[async_trait]
impl SegmentSink for Uploader {
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<UploadConfirmation, UploadError> {
        let put = Uploader::put(self, key, file, sha256, tag).await?;
        Ok(UploadConfirmation { already_there: put.already_exists, server_date: put.server_date })
    }
}

/// What the uploader goes by; changes with the configuration.
#[derive(Clone)]
pub struct UploadTarget {
    pub sink: Arc<dyn SegmentSink>,
    /// What is older is purged, never uploaded.
    pub ceiling: SignedDuration,
    pub holds: Arc<[HoldScope]>,
    /// Revision of the configuration that all this is of.
    pub revision: String,
}

impl UploadTarget {
    /// What a recording is put with: what a hold covers is sealed from the first moment, so that no lifecycle rule
    /// ever applies to it.
    fn retention_tag(&self, key: &Key) -> RetentionTag {
        retention_tag(&self.holds, key)
    }
}

/// What a recording is put with, given what open holds cover.
pub fn retention_tag(holds: &[HoldScope], key: &Key) -> RetentionTag {
    if holds.iter().any(|hold| hold.covers(&key.recording())) {
        RetentionTag::Sealed
    } else {
        RetentionTag::default_for(key.class())
    }
}

/// Uploads what is in the spool.
pub struct UploadQueue {
    pub spool: Arc<Spool>,
    pub state: Arc<RecorderState>,
    pub metrics: RecorderMetrics,
    /// Where recordings go; `None`: not known yet.
    pub target: watch::Receiver<Option<UploadTarget>>,
}

impl UploadQueue {
    /// Works until `drained` says that nothing more comes, and then until the spool is empty.
    pub async fn run(mut self, drained: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF_RANGE.0, BACKOFF_RANGE.1);
        let mut paused_until: Option<Instant> = None;
        let mut running: JoinSet<Result<UploadConfirmation, UploadError>> = JoinSet::new();
        let mut segments: HashMap<Id, (Closed, String)> = HashMap::new();
        let mut in_doubt = InDoubtUploads::from_previous_recorder(self.spool.paths(), Instant::now());
        let mut draining = false;
        loop {
            let target = self.target.borrow_and_update().clone();
            if let Some(target) = &target {
                self.purge(target.ceiling);
                // One at a time finds out whether a store that failed is back.
                let at_once = if paused_until.is_some() { 1 } else { MAX_CONCURRENT_UPLOADS };
                let ready = paused_until.is_none_or(|until| until <= Instant::now());
                while ready && running.len() < at_once {
                    let Some(closed) = self.spool.take_next(Instant::now()) else {
                        break;
                    };
                    let (target, segment, path) = (target.clone(), closed.clone(), self.spool.path(&closed));
                    let revision = target.revision.clone();
                    let task = running.spawn(async move { upload(&target, &segment, &path).await });
                    segments.insert(task.id(), (closed, revision));
                }
            }
            if let Some(UploadTarget { revision, .. }) = &target {
                in_doubt.prune(|| self.spool.paths(), Instant::now());
                let running = segments.values().map(|(_, of)| Some(of.as_str()));
                let is_current = all_use_revision(running.chain(in_doubt.revisions()), revision);
                self.state.set_uploads_revision(is_current.then(|| revision.clone()));
            }
            if draining && running.is_empty() && self.spool.status().segments == 0 {
                return;
            }
            let wake = paused_until.filter(|until| *until > Instant::now());
            tokio::select! {
                Some(ended) = running.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        Err(failed) => (failed.id(), Err(UploadError::Internal)),
                    };
                    if let Some((closed, revision)) = segments.remove(&id) {
                        match &result {
                            Ok(_) => in_doubt.record_confirmation(&self.spool.path(&closed)),
                            Err(error) if error.may_have_arrived() => {
                                in_doubt.record_failure(self.spool.path(&closed), revision, Instant::now());
                            }
                            Err(_) => {}
                        }
                        paused_until = self.handle_result(&closed, result, &mut backoff);
                    }
                    if draining {
                        // There is no later: all are tried again and again until the end.
                        paused_until = paused_until.map(|until| until.min(Instant::now() + BACKOFF_RANGE.0));
                        self.spool.retry_now();
                    }
                }
                () = self.spool.wait_for_change() => {}
                changed = self.target.changed() => {
                    if changed.is_err() { sleep(POLL_INTERVAL).await; }
                    // Other credentials, perhaps: no reason to wait any longer.
                    self.spool.retry_now();
                    paused_until = None;
                }
                () = sleep_until(wake.unwrap_or_else(|| Instant::now() + POLL_INTERVAL).into()) => {}
                () = drained.cancelled(), if !draining => {
                    // The last chance: what was refused is tried once more.
                    draining = true;
                    self.spool.retry_now();
                    paused_until = None;
                }
            }
            self.metrics.set_spool(self.spool.status());
        }
    }

    /// Gives how long to leave the store alone.
    fn handle_result(
        &self,
        closed: &Closed,
        result: Result<UploadConfirmation, UploadError>,
        backoff: &mut Backoff,
    ) -> Option<Instant> {
        match result {
            Ok(confirmed) => {
                self.metrics.count_upload(if confirmed.already_there { "already_there" } else { "stored" });
                if let Some(date) = confirmed.server_date {
                    // The store's clock tells whole seconds: on average half of one has passed.
                    self.state
                        .set_clock_offset(Timestamp::now().as_millisecond() - date.as_millisecond() - 500);
                }
                self.complete_upload(closed);
                backoff.reset();
                None
            }
            Err(error) => {
                self.metrics.count_upload(error.category());
                // What is wrong with one segment is not wrong with all: the others go on after a moment.
                let is_segment_specific = !error.is_store_wide();
                let wait = if is_segment_specific { BACKOFF_RANGE.0 } else { backoff.next_delay() };
                let message = error.to_string();
                tracing::warn!(
                    camera = closed.camera,
                    category = error.category(),
                    ?wait,
                    "upload failed: {message}"
                );
                self.state.set_last_error(&closed.camera, &format!("upload: {message}"));
                let segment_wait = if is_segment_specific { SEGMENT_RETRY_DELAY } else { wait };
                self.spool.put_back(closed, Some(Instant::now() + segment_wait));
                Some(Instant::now() + wait)
            }
        }
    }

    fn complete_upload(&self, closed: &Closed) {
        if let Err(error) = self.spool.remove(closed) {
            tracing::warn!(camera = closed.camera, error = %error.kind(), "an uploaded segment cannot be removed");
        }
        let Ok(key) = object_key(closed) else { return };
        tracing::info!(camera = closed.camera, key = %key, bytes = closed.bytes, "segment uploaded");
        let report = SegmentReport {
            key: key.to_string(),
            start: closed.start,
            duration_ms: closed.duration_ms,
            bytes: closed.bytes,
        };
        self.state.mark_uploaded(&closed.camera, report);
    }

    fn purge(&self, ceiling: SignedDuration) {
        for closed in self.spool.purge(ceiling, Timestamp::now()) {
            self.metrics.count_discarded("over_ceiling");
            self.state.set_last_error(
                &closed.camera,
                "a segment that was never confirmed is older than the ceiling: purged",
            );
            tracing::warn!(camera = closed.camera, start = %closed.start, "a segment older than the ceiling is purged");
        }
    }
}

fn object_key(closed: &Closed) -> Result<Key, KeyError> {
    Key::new(Class::Video, closed.camera.clone(), closed.start, closed.duration_ms, &closed.sha256)
}

async fn upload(
    target: &UploadTarget,
    closed: &Closed,
    path: &Path,
) -> Result<UploadConfirmation, UploadError> {
    let key = object_key(closed)?;
    let time_limit = UPLOAD_TIMEOUT_BASE + Duration::from_secs(closed.bytes / MIN_BYTES_PER_SECOND);
    let tag = target.retention_tag(&key);
    timeout(time_limit, target.sink.put(&key, path, closed.sha256, tag))
        .await
        .map_err(|_| UploadError::Timeout)?
}

#[cfg(test)]
mod tests;
