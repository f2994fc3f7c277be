//! The spool: a folder for files in progress and for complete segments until the store confirms them.
//!
//! * A file is written fragment by fragment as `*.part`, and renamed when it is complete. A killed process loses the
//!   unfinished fragment: about a second.
//! * A complete file is synced to the disk before it is renamed, and its folder afterwards. Single fragments are not synced: the page cache keeps
//!   them when the process dies, and only a crash of the machine loses them.
//! * Its size is bounded: by its files, complete or not. When it is full, the oldest segment is evicted, counted and reported. If no
//!   segment may be evicted, recording stops.

mod disk;
pub(crate) mod eviction;
mod index;
mod name;
mod recover;
mod writer;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

pub use eviction::AgeLimit;
pub use index::UploadLane;
pub use name::Closed;
pub use writer::SegmentWriter;

use eviction::Age;
use index::{Orphan, SpoolIndex, UploadState};
use name::Entry;

use crate::rules::HoldScope;
use crate::sync::lock;
use crate::wire::SpoolStatus;

/// Files that are synced to the disk at the same time. All cameras end their files within the same second. If all were synced at
/// once, the writes of every camera would wait for all of them.
const MAX_CONCURRENT_SYNCS: usize = 4;

#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SpoolError {
    /// No segment may be evicted.
    #[error("the spool is full")]
    Full,
    #[error("the spool's disk failed: {}", .0.kind())]
    Io(#[from] io::Error),
}

/// Outcome of the recovery of an orphan: a file without a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrphanRecovery {
    Empty,
    Recovered(Closed),
    /// The file stays until it is past the ceiling.
    Unreadable,
}

#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    index: Mutex<SpoolIndex>,
    /// Notified when a segment was added or removed.
    changed: Notify,
    /// Held during the recovery of an orphan.
    recovery_lock: tokio::sync::Mutex<()>,
    /// One permit for each sync of a file: [`MAX_CONCURRENT_SYNCS`].
    syncs: Semaphore,
}

impl Spool {
    /// Opens a folder. Its complete segments wait for upload immediately. [`Self::recover_orphan`] handles the others later,
    /// since reading them would delay the start.
    pub async fn open(root: PathBuf) -> io::Result<Arc<Self>> {
        let spool = Arc::new(Self {
            root,
            index: Mutex::default(),
            changed: Notify::new(),
            recovery_lock: tokio::sync::Mutex::default(),
            syncs: Semaphore::new(MAX_CONCURRENT_SYNCS),
        });
        let opened = Arc::clone(&spool);
        disk::blocking(move || opened.load_existing()).await??;
        Ok(spool)
    }

    fn load_existing(&self) -> io::Result<()> {
        let video = self.root.join("video");
        std::fs::create_dir_all(&video)?;
        for folder in std::fs::read_dir(&video)? {
            let folder = folder?;
            let Some(camera) = folder.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if !folder.file_type()?.is_dir() {
                tracing::warn!("the spool contains a foreign file: ignored");
                continue;
            }
            match self.load_camera(&folder.path(), &camera) {
                Ok(0) => {}
                Ok(files) => tracing::warn!(camera, files, "the spool contains foreign files: ignored"),
                // One unreadable folder must not prevent recording.
                Err(error) => {
                    tracing::error!(camera, error = %error.kind(), "a folder of the spool cannot be read");
                    lock(&self.index).unlistable_folders += 1;
                }
            }
        }
        Ok(())
    }

    /// Loads the folder of one camera, and returns its number of foreign files.
    fn load_camera(&self, folder: &Path, camera: &str) -> io::Result<u64> {
        let mut foreign = 0;
        for file in std::fs::read_dir(folder)? {
            let file = file?;
            let meta = file.metadata()?;
            let entry = name::entry(camera, &file.file_name(), meta.len());
            match entry {
                Entry::Closed(closed) if meta.is_file() => self.add_segment(closed, None),
                Entry::Part if meta.is_file() => {
                    let (camera, path) = (camera.to_owned(), file.path());
                    let orphan = Orphan { camera, path, bytes: meta.len(), recorded: None };
                    lock(&self.index).add_orphan(orphan);
                }
                _ => foreign += 1,
            }
        }
        Ok(foreign)
    }

    /// Sets the scopes of open holds. Held segments are neither evicted nor purged.
    pub fn set_holds(&self, holds: Arc<[HoldScope]>) {
        lock(&self.index).set_holds(holds);
    }

    /// Sets the capacity, unless it is set already. Files found at the start fit, even those of a predecessor with a larger capacity:
    /// a smaller one must not evict them.
    pub fn set_initial_limit(&self, bytes: u64) {
        let mut index = lock(&self.index);
        if index.limit == 0 {
            index.limit = bytes.max(index.bytes());
        }
    }

    #[cfg(test)]
    pub fn set_limit(&self, bytes: u64) {
        lock(&self.index).limit = bytes;
    }

    /// Returns the next segment to upload, and marks it as running: from `lane`, or if that is empty the oldest.
    pub fn take_next(&self, lane: UploadLane, limit: &AgeLimit) -> Option<Closed> {
        let mut index = lock(&self.index);
        index.take_next(lane, limit).or_else(|| index.take_next(UploadLane::Oldest, limit))
    }

    /// Returns a segment after a failed upload. It waits at least until `not_before`.
    pub fn put_back(&self, closed: &Closed, not_before: Option<Instant>) {
        if let Some(segment) = lock(&self.index).segments.get_mut(closed) {
            segment.upload = UploadState::Waiting(not_before);
        }
    }

    /// Ends all waits of segments, since their cause may be gone.
    pub fn retry_now(&self) {
        let mut index = lock(&self.index);
        let waiting = index.segments.values_mut().map(|segment| &mut segment.upload);
        waiting
            .filter(|upload| matches!(upload, UploadState::Waiting(_)))
            .for_each(|upload| *upload = UploadState::Waiting(None));
    }

    /// Deletes a segment.
    pub async fn remove(&self, closed: &Closed) -> io::Result<()> {
        // The index first, so that no upload takes the segment. Of two callers, only one deletes the file.
        let is_known = lock(&self.index).remove(closed);
        self.changed.notify_one();
        if is_known { disk::delete(vec![self.path(closed)]).await } else { Ok(()) }
    }

    /// Deletes segments that are past the ceiling and not held, and returns them.
    pub async fn purge(&self, limit: &AgeLimit) -> Vec<Closed> {
        let past = lock(&self.index).remove_past_ceiling(limit);
        self.delete_files(&past).await;
        past
    }

    /// Tries unreadable files again.
    pub async fn retry_unreadable(&self) {
        let _guard = self.recovery_lock.lock().await;
        lock(&self.index).retry_unreadable();
    }

    /// Deletes unreadable files that no open hold may cover and that are past the ceiling, by their modification time. Returns
    /// their cameras.
    pub async fn purge_unreadable(&self, limit: &AgeLimit) -> Vec<String> {
        // A file that is recovered meanwhile must not be deleted.
        let _guard = self.recovery_lock.lock().await;
        // A copy: the disk must not be read under the lock.
        let (unreadable, limit) = (lock(&self.index).unheld_unreadable(), *limit);
        if unreadable.is_empty() {
            return Vec::new();
        }
        let purge = move || {
            let is_past = |orphan: &Orphan| {
                let modified = std::fs::metadata(&orphan.path).and_then(|meta| meta.modified());
                let modified = modified.ok().and_then(|modified| Timestamp::try_from(modified).ok());
                // A file whose time is unknown is not past the ceiling.
                modified.is_some_and(|at| limit.age(at, orphan.recorded) == Age::PastCeiling)
            };
            let past: Vec<Orphan> = unreadable.into_iter().filter(is_past).collect();
            for orphan in &past {
                // After an error, the file stays until the next start, which lists it again.
                let _ = std::fs::remove_file(&orphan.path);
            }
            past
        };
        let purged = disk::blocking(purge).await.unwrap_or_default();
        let is_purged = |orphan: &Orphan| purged.iter().any(|purged| purged.path == orphan.path);
        lock(&self.index).unreadable.retain(|orphan| !is_purged(orphan));
        purged.into_iter().map(|orphan| orphan.camera).collect()
    }

    /// Returns the segments evicted since the last call.
    pub fn take_evicted(&self) -> Vec<Closed> {
        std::mem::take(&mut lock(&self.index).evicted)
    }

    /// Recovers one orphan. Returns `None` if there is none.
    pub async fn recover_orphan(self: &Arc<Self>) -> Option<OrphanRecovery> {
        // So that `None` also means that no other task is recovering an orphan.
        let _guard = self.recovery_lock.lock().await;
        let orphan = lock(&self.index).orphans.pop_front()?;
        let (of, part) = (orphan.camera.clone(), orphan.path.clone());
        let read = disk::blocking(move || recover::part(&part, &of)).await;
        // Under one lock each: in between, the spool must neither look empty nor count the file twice.
        let outcome = match read.flatten() {
            Ok(None) => {
                lock(&self.index).complete_orphan(&orphan, None);
                OrphanRecovery::Empty
            }
            Ok(Some(closed)) => {
                lock(&self.index).complete_orphan(&orphan, Some(closed.clone()));
                self.changed.notify_one();
                OrphanRecovery::Recovered(closed)
            }
            Err(error) => {
                tracing::error!(camera = orphan.camera, error = %error.kind(), "an incomplete recording cannot be read");
                lock(&self.index).add_unreadable(orphan);
                OrphanRecovery::Unreadable
            }
        };
        Some(outcome)
    }

    /// Waits until a segment was added or removed.
    pub async fn wait_for_change(&self) {
        self.changed.notified().await;
    }

    pub fn path(&self, closed: &Closed) -> PathBuf {
        name::folder(&self.root, &closed.camera).join(closed.file())
    }

    /// Returns the files of all complete segments.
    pub fn paths(&self) -> HashSet<PathBuf> {
        let index = lock(&self.index);
        index.segments.keys().map(|closed| self.path(closed)).collect()
    }

    pub fn status(&self) -> SpoolStatus {
        let index = lock(&self.index);
        SpoolStatus {
            segments: index.segments.len() as u64,
            unrecovered: index.unrecovered(),
            bytes: index.bytes(),
            limit: index.limit,
        }
    }

    pub fn waiting_segments(&self, camera: &str) -> u64 {
        lock(&self.index).segments.keys().filter(|closed| closed.camera == camera).count() as u64
    }

    /// Returns the start of a camera's oldest complete segment.
    pub fn oldest_start(&self, camera: &str) -> Option<Timestamp> {
        // The order of the index is that of the starts.
        let index = lock(&self.index);
        index.segments.keys().find(|closed| closed.camera == camera).map(|closed| closed.start)
    }

    /// Returns the end of a camera's newest complete segment.
    pub fn newest_end(&self, camera: &str) -> Option<Timestamp> {
        lock(&self.index).segments.keys().filter(|closed| closed.camera == camera).map(Closed::end).max()
    }

    /// Returns whether `bytes` more fit, perhaps after evictions.
    pub fn has_room(&self, bytes: u64) -> bool {
        lock(&self.index).select_evictions(bytes).is_some()
    }

    pub async fn is_writable(&self) -> bool {
        let probe = self.root.join(".writable");
        tokio::fs::write(&probe, b"").await.is_ok() && tokio::fs::remove_file(&probe).await.is_ok()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reserves `bytes`. Returns the segments that were evicted for them, whose files the caller deletes.
    fn reserve(&self, bytes: u64) -> Result<Vec<Closed>, SpoolError> {
        lock(&self.index).reserve(bytes).ok_or(SpoolError::Full)
    }

    /// Evicts the oldest segment, since the disk is full before the limit is reached. Returns whether there was one.
    async fn evict_oldest(&self) -> bool {
        let oldest = lock(&self.index).evict_oldest();
        self.delete_files(oldest.as_slice()).await;
        oldest.is_some()
    }

    /// Deletes the files of segments that the index no longer has. They are reported even if a file stays: no upload finds it.
    async fn delete_files(&self, segments: &[Closed]) {
        if segments.is_empty() {
            return;
        }
        self.changed.notify_one();
        let paths = segments.iter().map(|closed| self.path(closed)).collect();
        if let Err(error) = disk::delete(paths).await {
            tracing::warn!(error = %error.kind(), "a segment cannot be deleted from the spool");
        }
    }

    /// Keeps every file from being synced, as a disk that does not answer does.
    #[cfg(test)]
    pub async fn block_syncs(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.syncs.acquire_many(u32::try_from(MAX_CONCURRENT_SYNCS).unwrap()).await.unwrap()
    }

    fn release(&self, bytes: u64) {
        let mut index = lock(&self.index);
        index.open_bytes = index.open_bytes.saturating_sub(bytes);
    }

    fn add_segment(&self, closed: Closed, recorded: Option<Instant>) {
        lock(&self.index).add_segment(closed, recorded);
        self.changed.notify_one();
    }

    /// Adds the segment of a file in progress, which this process began at `recorded`. Under one lock, since in between the
    /// spool would look empty.
    fn complete(&self, closed: Closed, recorded: Instant) {
        {
            let mut index = lock(&self.index);
            index.open_bytes = index.open_bytes.saturating_sub(closed.bytes);
            index.add_segment(closed, Some(recorded));
        }
        self.changed.notify_one();
    }

    /// Makes a file in progress an orphan.
    fn abandon(&self, orphan: Orphan) {
        let mut index = lock(&self.index);
        index.open_bytes = index.open_bytes.saturating_sub(orphan.bytes);
        index.add_orphan(orphan);
    }
}

#[cfg(test)]
mod tests;
