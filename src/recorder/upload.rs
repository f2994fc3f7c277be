//! From the spool into the bucket, several at a time, with retries until the store confirms. A segment leaves the spool only
//! then, when the spool is full, or past its ceiling.
//!
//! After an outage, new segments and held ones do not wait for the backlog: see [`LANES`].

mod concurrency;

use std::collections::HashMap;
use std::io;
use std::iter::Cycle;
use std::path::Path;
use std::slice::Iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use concurrency::UploadConcurrency;

use super::camera::backoff;
use super::camera::backoff::Backoff;
use super::context::RecorderContext;
use super::in_doubt::{InDoubtUploads, all_use_revision};
use super::spool::{AgeLimit, Closed, UploadLane};
use crate::failure::Failure;
use crate::rules::recording::key::KeyError;
use crate::rules::{Class, HoldScope, Key, RetentionTag};
use crate::storage::s3::segments::{PutError, PutOutcome, Uploader};
use crate::wire::{GapCause, SegmentReport};

/// Order of the uploads. Each lane has its share, so none starves: not the newest segments, by which a camera counts as
/// recording, and not the oldest, which the spool evicts first. Without holds, `Oldest` has the share of `Held`.
const LANES: [UploadLane; 4] = [UploadLane::Held, UploadLane::Newest, UploadLane::Oldest, UploadLane::Newest];
/// Limit of an upload, in addition to the time for its bytes at the slowest useful rate. A longer upload is retried: a network
/// may fail without an error.
const UPLOAD_TIMEOUT_BASE: Duration = Duration::from_secs(30);
/// Slowest useful rate: 2 Mbit/s, a share of a line that carries one camera.
const MIN_BYTES_PER_SECOND: u64 = 256 << 10;
/// Longest interval between checks of the spool.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Wait of a segment that the store rejected, or rejected with the current credentials.
const SEGMENT_RETRY_DELAY: Duration = Duration::from_mins(1);

#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum UploadError {
    #[error(transparent)]
    #[strum(transparent)]
    Put(#[from] PutError),
    #[error("no key for the segment: {0}")]
    #[strum(transparent)]
    Key(#[from] KeyError),
    /// See [`UPLOAD_TIMEOUT_BASE`] and [`MIN_BYTES_PER_SECOND`].
    #[error("the store took too long")]
    Timeout,
    /// The upload's task panicked.
    #[error("internal error of the recorder during the upload")]
    Internal,
}

impl UploadError {
    /// Returns whether the store accepts no segment now, rather than not this segment.
    fn is_store_wide(&self) -> bool {
        match self {
            Self::Put(error) => error.is_retryable(),
            Self::Key(_) | Self::Internal => false,
            Self::Timeout => true,
        }
    }

    /// Returns whether the store may have accepted the segment, or may still do so.
    fn may_have_arrived(&self) -> bool {
        match self {
            Self::Put(PutError::Store(error)) => error.is_retryable(),
            Self::Put(_) | Self::Key(_) => false,
            Self::Timeout | Self::Internal => true,
        }
    }
}

/// The store as the queue uses it; tests replace it.
#[async_trait]
pub trait SegmentSink: Send + Sync + 'static {
    /// Puts a file under a key.
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<PutOutcome, UploadError>;
}

#[async_trait]
impl SegmentSink for Uploader {
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<PutOutcome, UploadError> {
        Ok(Self::put(self, key, file, sha256, tag).await?)
    }
}

/// The part of the configuration that uploads use.
#[derive(Clone)]
pub struct UploadTarget {
    pub sink: Arc<dyn SegmentSink>,
    /// Age past which a segment is purged, never uploaded.
    pub ceiling: SignedDuration,
    pub holds: Arc<[HoldScope]>,
    /// Revision of the configuration.
    pub revision: String,
}

/// Returns the tag of a new recording. A held recording is sealed from the start, so that no lifecycle rule ever applies
/// to it.
pub fn retention_tag(holds: &[HoldScope], key: &Key) -> RetentionTag {
    if holds.iter().any(|hold| hold.covers(&key.recording())) {
        RetentionTag::Sealed
    } else {
        RetentionTag::default_for(key.class())
    }
}

type UploadResult = Result<PutOutcome, UploadError>;

/// Uploads the segments in the spool.
pub struct UploadQueue {
    context: RecorderContext,
    /// `None` before the first configuration.
    target: watch::Receiver<Option<UploadTarget>>,
    running: JoinSet<UploadResult>,
    /// The segment of each running upload, and the revision that the upload uses.
    uploading: HashMap<Id, (Closed, String)>,
    in_doubt: InDoubtUploads,
    lanes: Cycle<Iter<'static, UploadLane>>,
    concurrency: UploadConcurrency,
    backoff: Backoff,
    paused_until: Option<Instant>,
    is_draining: bool,
}

impl UploadQueue {
    pub fn new(context: RecorderContext, target: watch::Receiver<Option<UploadTarget>>) -> Self {
        let in_doubt = InDoubtUploads::from_previous_recorder(context.spool.paths(), Instant::now());
        Self {
            context,
            target,
            running: JoinSet::new(),
            uploading: HashMap::new(),
            in_doubt,
            lanes: LANES.iter().cycle(),
            concurrency: UploadConcurrency::default(),
            backoff: Backoff::default(),
            paused_until: None,
            is_draining: false,
        }
    }

    /// Uploads until `drained` announces that no more segments come, and then until the spool is empty.
    pub async fn run(mut self, drained: CancellationToken) {
        loop {
            let target = self.target.borrow_and_update().clone();
            if let Some(target) = &target {
                // Before the uploads: a segment past its ceiling must not enter the bucket.
                let limit = AgeLimit::now(target.ceiling, &self.context.clock);
                self.purge(&limit).await;
                self.start_uploads(target, &limit);
                self.report_revision(&target.revision);
            }
            let spool = &self.context.spool;
            if self.is_draining && self.running.is_empty() && spool.status().segments == 0 {
                return;
            }
            let paused = self.paused_until.filter(|until| *until > Instant::now());
            let wake = paused.unwrap_or_else(|| Instant::now() + POLL_INTERVAL);
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.finish(ended).await,
                () = spool.wait_for_change() => {}
                changed = self.target.changed() => {
                    // A closed channel answers at once, and without a pause this loop would spin.
                    if changed.is_err() { sleep(POLL_INTERVAL).await; }
                    // The credentials may be new, so earlier failures say nothing.
                    self.retry_now();
                }
                () = sleep_until(wake.into()) => {}
                () = drained.cancelled(), if !self.is_draining => {
                    // The process ends soon: rejected segments get their last chance.
                    self.is_draining = true;
                    self.retry_now();
                }
            }
            self.context.metrics.set_spool(self.context.spool.status());
        }
    }

    fn start_uploads(&mut self, target: &UploadTarget, limit: &AgeLimit) {
        if self.paused_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        // After a failure, a single upload tests whether the store is back.
        let concurrency = if self.paused_until.is_some() { 1 } else { self.concurrency.limit() };
        while self.running.len() < concurrency {
            let lane = self.lanes.next().copied().unwrap_or(UploadLane::Oldest);
            let Some(closed) = self.context.spool.take_next(lane, limit) else {
                return;
            };
            let (target, segment, path) = (target.clone(), closed.clone(), self.context.spool.path(&closed));
            let revision = target.revision.clone();
            let task = self.running.spawn(async move { upload(&target, &segment, &path).await });
            self.uploading.insert(task.id(), (closed, revision));
        }
    }

    /// Reports `revision` once every upload that runs, or may still arrive, uses it. The operator counts on it: after that,
    /// no new recording lacks the protection of a hold in this revision.
    fn report_revision(&mut self, revision: &str) {
        self.in_doubt.prune(|| self.context.spool.paths(), Instant::now());
        let running = self.uploading.values().map(|(_, used)| Some(used.as_str()));
        let is_current = all_use_revision(running.chain(self.in_doubt.revisions()), revision);
        self.context.state.set_uploads_revision(is_current.then(|| revision.to_owned()));
    }

    fn retry_now(&mut self) {
        self.context.spool.retry_now();
        self.paused_until = None;
    }

    async fn finish(&mut self, ended: Result<(Id, UploadResult), JoinError>) {
        let (id, result) = ended.unwrap_or_else(|failed| (failed.id(), Err(UploadError::Internal)));
        if let Some((closed, revision)) = self.uploading.remove(&id) {
            let path = self.context.spool.path(&closed);
            match &result {
                Ok(_) => self.concurrency.record_success(),
                Err(UploadError::Timeout) => self.concurrency.record_timeout(),
                Err(_) => {}
            }
            match &result {
                Ok(_) => self.in_doubt.record_confirmation(&path),
                Err(error) if error.may_have_arrived() => {
                    let lead = self.context.clock.lead();
                    self.in_doubt.record_failure(path, revision, Instant::now(), lead);
                }
                Err(_) => {}
            }
            self.paused_until = self.handle_result(&closed, result).await;
        }
        if self.is_draining {
            // Long waits would outlast the process, so it retries every second until the end.
            self.paused_until = self.paused_until.map(|until| until.min(Instant::now() + backoff::INITIAL));
            self.context.spool.retry_now();
        }
    }

    /// Returns until when the store is left alone.
    async fn handle_result(&mut self, closed: &Closed, result: UploadResult) -> Option<Instant> {
        let RecorderContext { spool, state, metrics, clock, .. } = &self.context;
        match result {
            Ok(put) => {
                metrics.count_upload(if put.already_exists { "already_there" } else { "stored" });
                if let Some(date) = put.server_date {
                    clock.read_store(date, Instant::now());
                }
                self.complete_upload(closed).await;
                self.backoff.reset();
                None
            }
            Err(error) => {
                metrics.count_upload(error.category());
                if matches!(&error, UploadError::Put(PutError::File(io::ErrorKind::NotFound))) {
                    self.report_lost_file(closed).await;
                    return None;
                }
                // A fault of one segment does not stop the others: they continue after the shortest wait.
                let (wait, segment_wait) = if error.is_store_wide() {
                    let wait = self.backoff.next_delay();
                    (wait, wait)
                } else {
                    (backoff::INITIAL, SEGMENT_RETRY_DELAY)
                };
                let (camera, message) = (&closed.camera, error.to_string());
                tracing::warn!(camera, category = error.category(), ?wait, "upload failed: {message}");
                state.set_last_error(camera, &format!("upload: {message}"));
                spool.put_back(closed, Some(Instant::now() + segment_wait));
                Some(Instant::now() + wait)
            }
        }
    }

    async fn complete_upload(&self, closed: &Closed) {
        let RecorderContext { spool, state, .. } = &self.context;
        // The next recorder finds the file and uploads it again under the same key, which does no harm.
        if let Err(error) = spool.remove(closed).await {
            tracing::warn!(camera = closed.camera, error = %error.kind(), "an uploaded segment cannot be removed");
        }
        // `upload` made the same key, so it exists.
        let Ok(key) = object_key(closed) else { return };
        tracing::info!(camera = closed.camera, key = %key, bytes = closed.bytes, "segment uploaded");
        let report = SegmentReport {
            key: key.to_string(),
            start: closed.start,
            duration_ms: closed.duration_ms,
            bytes: closed.bytes,
        };
        state.mark_uploaded(&closed.camera, report);
    }

    /// Gives up a segment whose file disappeared. Retried for ever, it would keep the spool from ever being empty.
    async fn report_lost_file(&self, closed: &Closed) {
        let RecorderContext { spool, state, metrics, .. } = &self.context;
        let Closed { camera, start, .. } = closed;
        tracing::error!(camera, %start, "the file of a segment disappeared from the spool: the segment is lost");
        metrics.count_discarded("file_missing");
        state.mark_lost(camera, GapCause::SpoolLost, *start, closed.end());
        state.set_last_error(camera, "the file of a segment disappeared from the spool: the segment is lost");
        // Only the index has it.
        let _ = spool.remove(closed).await;
    }

    async fn purge(&self, limit: &AgeLimit) {
        let RecorderContext { spool, state, metrics, .. } = &self.context;
        for Closed { camera, start, .. } in spool.purge(limit).await {
            metrics.count_discarded("over_ceiling");
            state.set_last_error(&camera, "an unconfirmed segment was past its ceiling and is purged");
            tracing::warn!(camera, %start, "a segment past its ceiling is purged");
        }
        for camera in spool.purge_unreadable(limit).await {
            metrics.count_discarded("over_ceiling");
            state.set_last_error(&camera, "an unreadable recording was past its ceiling and is purged");
            tracing::warn!(camera, "an unreadable recording past its ceiling is purged");
        }
    }
}

fn object_key(closed: &Closed) -> Result<Key, KeyError> {
    Key::new(Class::Video, closed.camera.clone(), closed.start, closed.duration_ms, &closed.sha256)
}

async fn upload(target: &UploadTarget, closed: &Closed, path: &Path) -> UploadResult {
    let key = object_key(closed)?;
    let limit = UPLOAD_TIMEOUT_BASE + Duration::from_secs(closed.bytes / MIN_BYTES_PER_SECOND);
    let tag = retention_tag(&target.holds, &key);
    let put = target.sink.put(&key, path, closed.sha256, tag);
    timeout(limit, put).await.map_err(|_| UploadError::Timeout)?
}

#[cfg(test)]
mod tests;
