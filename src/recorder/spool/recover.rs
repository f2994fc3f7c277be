//! What a recorder that ended badly left behind: each file is good up to its last whole fragment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::name::{Closed, Entry, entry};
use crate::recorder::frame::TICKS_PER_SECOND;
use crate::recorder::mp4::scan_fragments;

/// What is in the folder of one camera.
#[derive(Debug, Default)]
pub struct Found {
    pub closed: Vec<Closed>,
    pub parts: Vec<PathBuf>,
    /// How much of it is not ours.
    pub foreign: u64,
}

/// Looks what is in the folder of one camera, and changes nothing.
pub fn folder(path: &Path, camera: &str) -> io::Result<Found> {
    let mut found = Found::default();
    for item in fs::read_dir(path)? {
        let item = item?;
        let meta = item.metadata()?;
        let known =
            if meta.is_file() { entry(camera, &item.file_name(), meta.len()) } else { Entry::Foreign };
        match known {
            Entry::Closed(closed) => found.closed.push(closed),
            Entry::Part => found.parts.push(item.path()),
            Entry::Foreign => found.foreign += 1,
        }
    }
    Ok(found)
}

/// Completes one part: cuts it after its last whole fragment and gives it its name. One with nothing whole in
/// it is removed.
pub fn part(path: &Path, camera: &str) -> io::Result<Option<Closed>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let found = scan_fragments(&mut file).map_err(io::Error::other)?;
    let start = found.start.filter(|start| *start >= Timestamp::UNIX_EPOCH);
    let (Some(start), true) = (start, found.fragments > 0) else {
        fs::remove_file(path)?;
        return Ok(None);
    };
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
    fs::rename(path, path.with_file_name(closed.file()))?;
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
