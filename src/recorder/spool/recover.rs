//! Recovery of orphans: files that a crashed recorder or task did not complete. Each is valid up to its last complete
//! fragment.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::disk::rename_durably;
use super::name::Closed;
use crate::recorder::frame::TICKS_PER_SECOND;
use crate::recorder::mp4::scan_fragments;

/// Truncates an orphan after its last complete fragment, and renames it. Deletes an orphan without a complete fragment.
pub fn part(path: &Path, camera: &str) -> io::Result<Option<Closed>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let found = scan_fragments(&mut file).map_err(io::Error::other)?;
    // A file name cannot express an earlier start: `name::entry` would take such a file for a foreign one.
    let start = found.start.filter(|start| *start >= Timestamp::UNIX_EPOCH);
    let (Some(start), true) = (start, found.fragments > 0) else {
        fs::remove_file(path)?;
        return Ok(None);
    };
    // Truncated and synced before the rename: the new name claims a complete file with this hash.
    file.set_len(found.complete_bytes)?;
    file.sync_data()?;
    let ms = u128::from(found.duration_ticks) * 1000 / u128::from(TICKS_PER_SECOND.unsigned_abs());
    let closed = Closed {
        start: Timestamp::from_millisecond(start.as_millisecond()).map_err(io::Error::other)?,
        camera: camera.to_owned(),
        duration_ms: u64::try_from(ms).map_err(io::Error::other)?,
        sha256: sha256(&mut file)?,
        bytes: found.complete_bytes,
    };
    rename_durably(path, &path.with_file_name(closed.file()))?;
    Ok(Some(closed))
}

fn sha256(file: &mut File) -> io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some([]) | None => return Ok(hasher.finalize().into()),
            Some(bytes) => hasher.update(bytes),
        }
    }
}
