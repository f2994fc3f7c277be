//! The spool: a folder in which recordings are made and wait until the store has confirmed them.
//!
//! * A file is written fragment by fragment as `*.part`, and named for good when it is complete. A killed
//!   process loses what was not yet a fragment: about a second.
//! * A complete file is synced to the disk before it gets its name. Fragments are not synced one by one: what
//!   a process wrote survives its death in the page cache, and only a machine that dies takes it away.
//! * It is bounded. When it is full, the oldest recording goes, is counted and reported; when nothing may go,
//!   recording stops instead.

pub(crate) mod eviction;
mod index;
mod name;
mod recover;
mod writer;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

pub use name::Closed;
pub use writer::SegmentWriter;

use index::{Orphan, SpoolIndex, UploadState};

use crate::rules::hold::scope::HoldScope;
use crate::wire::SpoolStatus;

/// Why something could not be kept in the spool.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SpoolError {
    /// Nothing may go, so nothing can come.
    #[error("the spool is full")]
    Full,
    #[error("the spool's disk failed: {}", .0.kind())]
    Io(#[from] io::Error),
}

/// What came of a file whose writer went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrphanRecovery {
    Empty,
    Recovered(Closed),
    /// It stays until it is older than the ceiling.
    Unreadable,
}

#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    index: Mutex<SpoolIndex>,
    /// A recording is complete, or room was made.
    changed: Notify,
    /// Held while a file is read whose writer went away.
    recovery_lock: tokio::sync::Mutex<()>,
}

impl Spool {
    /// Takes over a folder. What is complete in it waits for upload at once; what is not is for
    /// [`Self::recover_orphan`], since reading it may take longer than a start should.
    pub async fn open(root: PathBuf) -> io::Result<Arc<Self>> {
        let spool = Arc::new(Self {
            root,
            index: Mutex::default(),
            changed: Notify::new(),
            recovery_lock: tokio::sync::Mutex::default(),
        });
        let taking = Arc::clone(&spool);
        tokio::task::spawn_blocking(move || taking.load_existing()).await.map_err(io::Error::other)??;
        Ok(spool)
    }

    fn load_existing(&self) -> io::Result<()> {
        let video = self.root.join("video");
        std::fs::create_dir_all(&video)?;
        for camera in std::fs::read_dir(&video)? {
            let camera = camera?;
            let Some(name) = camera.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if !camera.file_type()?.is_dir() {
                tracing::warn!("something in the spool is not ours: left alone");
                continue;
            }
            let recover::Found { closed, parts, foreign } = match recover::folder(&camera.path(), &name) {
                Ok(found) => found,
                // Never a reason not to record.
                Err(error) => {
                    tracing::error!(camera = name, error = %error.kind(), "a folder of the spool cannot be read");
                    continue;
                }
            };
            if foreign > 0 {
                tracing::warn!(camera = name, files = foreign, "files in the spool are not ours: left alone");
            }
            for closed in closed {
                self.add_segment(closed);
            }
            for path in parts {
                self.add_orphan(name.clone(), path);
            }
        }
        Ok(())
    }

    /// Sets what open holds cover: it goes neither for want of room nor for its age.
    pub fn set_holds(&self, holds: Arc<[HoldScope]>) {
        self.index().holds = holds;
    }

    /// Sets how many bytes it may hold.
    pub fn set_limit(&self, bytes: u64) {
        self.index().limit = bytes;
    }

    /// A recording that waits for upload at `now`, marked as running: the oldest that was not tried yet, then
    /// the one whose last try is longest ago. Were it always the oldest, one that no store takes would be in the
    /// way of all others.
    pub fn take_next(&self, now: Instant) -> Option<Closed> {
        let mut index = self.index();
        let is_ready = |upload: &UploadState| matches!(upload, UploadState::Waiting(until) if until.is_none_or(|until| until <= now));
        let waiting = index.segments.iter_mut().filter(|(_, upload)| is_ready(upload));
        let (closed, upload) = waiting.min_by_key(|(_, upload)| match upload {
            UploadState::Waiting(until) => *until,
            UploadState::Running => None,
        })?;
        *upload = UploadState::Running;
        Some(closed.clone())
    }

    /// It could not be uploaded: it waits again, at least until the instant that is given.
    pub fn put_back(&self, closed: &Closed, not_before: Option<Instant>) {
        if let Some(upload) = self.index().segments.get_mut(closed) {
            *upload = UploadState::Waiting(not_before);
        }
    }

    /// Whatever made recordings wait has changed: they need not wait any longer.
    pub fn retry_now(&self) {
        let mut index = self.index();
        let waiting = index.segments.values_mut().filter(|upload| matches!(upload, UploadState::Waiting(_)));
        waiting.for_each(|upload| *upload = UploadState::Waiting(None));
    }

    /// The store has it: it goes from here.
    pub fn remove(&self, closed: &Closed) -> io::Result<()> {
        let was_known = {
            let mut index = self.index();
            let known = index.segments.remove(closed).is_some();
            if known {
                index.segment_bytes = index.segment_bytes.saturating_sub(closed.bytes);
            }
            known
        };
        self.changed.notify_one();
        if was_known { std::fs::remove_file(self.path(closed)) } else { Ok(()) }
    }

    /// Removes what is older than the ceiling and not held, and tells what.
    pub fn purge(&self, ceiling: SignedDuration, now: Timestamp) -> Vec<Closed> {
        let old = {
            let index = self.index();
            eviction::over_age(index.unheld(index.segments.keys()), ceiling, now)
        };
        self.purge_unreadable(ceiling);
        old.into_iter().filter(|closed| self.remove(closed).is_ok()).collect()
    }

    /// Of what cannot be read only the disk knows how old it is.
    fn purge_unreadable(&self, ceiling: SignedDuration) {
        let Ok(ceiling) = Duration::try_from(ceiling) else {
            return;
        };
        self.index().unreadable.retain(|orphan| {
            let written = std::fs::metadata(&orphan.path).and_then(|meta| meta.modified());
            let age = written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            let stays = age < ceiling;
            if !stays {
                tracing::warn!(
                    camera = orphan.camera,
                    "an unreadable recording older than the ceiling is purged"
                );
                let _ = std::fs::remove_file(&orphan.path);
            }
            stays
        });
    }

    /// What had to go for want of room since the last call.
    pub fn take_evicted(&self) -> Vec<Closed> {
        std::mem::take(&mut self.index().evicted)
    }

    /// Completes one file whose writer went away. `None`: there was none. Gives what came of it.
    pub async fn recover_orphan(self: &Arc<Self>) -> Option<OrphanRecovery> {
        // Who is told that there is none knows that none is being read either.
        let _one = self.recovery_lock.lock().await;
        let Orphan { camera, path } = self.index().orphans.pop_front()?;
        let (of, part) = (camera.clone(), path.clone());
        let read = tokio::task::spawn_blocking(move || recover::part(&part, &of)).await;
        match read.unwrap_or_else(|failed| Err(io::Error::other(failed))) {
            Ok(None) => Some(OrphanRecovery::Empty),
            Ok(Some(closed)) => {
                self.add_segment(closed.clone());
                Some(OrphanRecovery::Recovered(closed))
            }
            Err(error) => {
                tracing::error!(camera, error = %error.kind(), "an unfinished recording cannot be read");
                self.index().unreadable.push(Orphan { camera, path });
                Some(OrphanRecovery::Unreadable)
            }
        }
    }

    /// Waits until a recording is complete or room was made.
    pub async fn wait_for_change(&self) {
        self.changed.notified().await;
    }

    pub fn path(&self, closed: &Closed) -> PathBuf {
        name::folder(&self.root, &closed.camera).join(closed.file())
    }

    /// Where all that is complete and waits is.
    pub fn paths(&self) -> HashSet<PathBuf> {
        let index = self.index();
        index.segments.keys().map(|closed| self.path(closed)).collect()
    }

    pub fn status(&self) -> SpoolStatus {
        let index = self.index();
        SpoolStatus {
            segments: index.segments.len() as u64,
            bytes: index.segment_bytes.saturating_add(index.open_bytes),
            limit: index.limit,
        }
    }

    /// How many complete recordings of a camera wait.
    pub fn waiting_segments(&self, camera: &str) -> u64 {
        self.index().segments.keys().filter(|closed| closed.camera == camera).count() as u64
    }

    /// The end of a camera's newest complete recording.
    pub fn newest_end(&self, camera: &str) -> Option<Timestamp> {
        self.index().segments.keys().filter(|closed| closed.camera == camera).map(Closed::end).max()
    }

    /// Whether there is room for `bytes` more, or room could be made.
    pub fn has_room(&self, bytes: u64) -> bool {
        let index = self.index();
        let used = index.segment_bytes.saturating_add(index.open_bytes);
        eviction::select_evictions(index.unheld(index.not_uploading()), used, bytes, index.limit).is_some()
    }

    /// Whether it can be written to.
    pub async fn is_writable(&self) -> bool {
        let probe = self.root.join(".writable");
        tokio::fs::write(&probe, b"").await.is_ok() && tokio::fs::remove_file(&probe).await.is_ok()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes room for `bytes` more, and counts them as used.
    fn reserve(&self, bytes: u64) -> Result<(), SpoolError> {
        let evictions = {
            let mut index = self.index();
            let used = index.segment_bytes.saturating_add(index.open_bytes);
            let spare = index.unheld(index.not_uploading());
            let evictions =
                eviction::select_evictions(spare, used, bytes, index.limit).ok_or(SpoolError::Full)?;
            index.open_bytes = index.open_bytes.saturating_add(bytes);
            evictions
        };
        self.evict(evictions);
        Ok(())
    }

    /// The disk is fuller than we may fill it: lets the oldest go. Tells whether anything went.
    fn evict_oldest(&self) -> bool {
        let oldest: Vec<Closed> = {
            let index = self.index();
            index.unheld(index.not_uploading()).take(1).cloned().collect()
        };
        let any = !oldest.is_empty();
        self.evict(oldest);
        any
    }

    fn evict(&self, segments: Vec<Closed>) {
        for closed in segments {
            if let Err(error) = self.remove(&closed) {
                tracing::warn!(camera = closed.camera, error = %error.kind(), "a recording cannot be removed");
            }
            self.index().evicted.push(closed);
        }
    }

    fn release(&self, bytes: u64) {
        let mut index = self.index();
        index.open_bytes = index.open_bytes.saturating_sub(bytes);
    }

    fn add_segment(&self, closed: Closed) {
        {
            let mut index = self.index();
            index.segment_bytes = index.segment_bytes.saturating_add(closed.bytes);
            index.segments.insert(closed, UploadState::Waiting(None));
        }
        self.changed.notify_one();
    }

    fn add_orphan(&self, camera: String, path: PathBuf) {
        self.index().orphans.push_back(Orphan { camera, path });
    }

    fn index(&self) -> MutexGuard<'_, SpoolIndex> {
        // Nothing that holds it can leave it half changed.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
