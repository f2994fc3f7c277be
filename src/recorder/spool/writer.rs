//! Writes one file of the spool.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::disk::{blocking, rename_durably};
use super::index::Orphan;
use super::name::{Closed, folder, part};
use super::{Spool, SpoolError};

/// Writer of one file. If it is dropped without [`SegmentWriter::close`], the file becomes an orphan, and a later recovery
/// keeps its complete fragments.
#[derive(Debug)]
pub struct SegmentWriter {
    spool: Arc<Spool>,
    camera: String,
    path: PathBuf,
    /// Capture time in the name of the file.
    named_start: Timestamp,
    /// Start of the file by the monotonic clock.
    began: Instant,
    bytes: u64,
    closed: bool,
    /// `None` while a thread writes.
    output: Option<Output>,
}

#[derive(Debug)]
struct Output {
    file: File,
    hasher: Sha256,
}

impl SegmentWriter {
    pub(crate) async fn begin(
        spool: Arc<Spool>,
        camera: &str,
        start: Timestamp,
        bytes: Vec<u8>,
    ) -> Result<Self, SpoolError> {
        let began = Instant::now();
        let folder = folder(&spool.root, camera);
        let path = folder.join(part(start));
        let create = {
            let path = path.clone();
            move || {
                std::fs::create_dir_all(&folder)?;
                // Never over an orphan of the same start, whose content would be lost.
                OpenOptions::new().write(true).create_new(true).open(path)
            }
        };
        let file = blocking(create).await??;
        let output = Some(Output { file, hasher: Sha256::new() });
        let camera = camera.to_owned();
        let mut writer =
            Self { spool, camera, path, named_start: start, began, bytes: 0, closed: false, output };
        writer.append(bytes).await?;
        Ok(writer)
    }

    pub const fn named_start(&self) -> Timestamp {
        self.named_start
    }

    pub async fn append(&mut self, bytes: Vec<u8>) -> Result<(), SpoolError> {
        let length = bytes.len() as u64;
        let evicted = self.spool.reserve(length)?;
        // Before the first wait, so that a dropped writer returns what it reserved.
        let complete = self.bytes;
        self.bytes = self.bytes.saturating_add(length);
        self.spool.delete_files(&evicted).await;
        let bytes = Arc::new(bytes);
        loop {
            match self.write(Arc::clone(&bytes), complete).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // Other data fills the disk too. The oldest segment makes room, as at the limit of the spool.
                    if is_full(&error) && self.spool.evict_oldest().await {
                        continue;
                    }
                    self.spool.release(length);
                    self.bytes = complete;
                    return Err(if is_full(&error) { SpoolError::Full } else { error.into() });
                }
            }
        }
    }

    /// Appends to the first `complete` bytes. After an error the file has only these.
    async fn write(&mut self, bytes: Arc<Vec<u8>>, complete: u64) -> io::Result<()> {
        let mut output = self.output.take().ok_or_else(lost)?;
        let (output, result) = blocking(move || {
            let result = output.file.write_all(&bytes);
            match &result {
                Ok(()) => output.hasher.update(&*bytes),
                // Every reader would stop at an incomplete fragment, and lose those after it.
                Err(_) => drop(rewind(&mut output.file, complete)),
            }
            (output, result)
        })
        .await?;
        self.output = Some(output);
        result
    }

    /// Completes the file: syncs it, then renames it.
    pub async fn close(mut self, start: Timestamp, end: Timestamp) -> Result<Closed, SpoolError> {
        let spool = Arc::clone(&self.spool);
        let _permit = spool.syncs.acquire().await.map_err(io::Error::other)?;
        let Output { file, hasher } = self.output.take().ok_or_else(lost)?;
        let ms = end.as_millisecond().saturating_sub(start.as_millisecond());
        let closed = Closed {
            // Rounded like the file name, so that the key after a restart is the same.
            start: Timestamp::from_millisecond(start.as_millisecond()).map_err(io::Error::other)?,
            camera: self.camera.clone(),
            duration_ms: u64::try_from(ms).unwrap_or(0),
            sha256: hasher.finalize().into(),
            bytes: self.bytes,
        };
        let (from, to) = (self.path.clone(), self.path.with_file_name(closed.file()));
        // Without the sync, the new name could outlive a power failure, and its data not.
        blocking(move || file.sync_data().and_then(|()| rename_durably(&from, &to))).await??;
        self.closed = true;
        self.spool.complete(closed.clone(), self.began);
        Ok(closed)
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        // A network volume may take its time to close a file.
        if let (Some(output), Ok(runtime)) = (self.output.take(), Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(output)));
        }
        if !self.closed {
            let (camera, path) = (std::mem::take(&mut self.camera), std::mem::take(&mut self.path));
            self.spool.abandon(Orphan { camera, path, bytes: self.bytes, recorded: Some(self.began) });
        }
    }
}

fn rewind(file: &mut File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length)).map(drop)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn lost() -> io::Error {
    io::Error::other("an earlier write did not return the file")
}
