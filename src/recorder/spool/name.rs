//! File names in the spool. A name contains everything that the object key needs, so nothing but the folder has to survive
//! a restart.
//!
//! `video/{camera}/{start}.part` is in progress. `video/{camera}/{start}-{duration}-{sha256}.mp4` is complete. Start and
//! duration are in milliseconds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::rules::{Class, Recording};

const PART_SUFFIX: &str = ".part";
const SEGMENT_SUFFIX: &str = ".mp4";

/// A complete segment in the spool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Closed {
    /// Capture time of the first frame. It is the first field, since the derived order is the order of uploads.
    pub start: Timestamp,
    pub camera: String,
    /// Milliseconds from the first frame to the end of the last.
    pub duration_ms: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    pub bytes: u64,
}

impl Closed {
    pub fn file(&self) -> String {
        format!(
            "{:013}-{}-{}{SEGMENT_SUFFIX}",
            self.start.as_millisecond(),
            self.duration_ms,
            hex::encode(self.sha256)
        )
    }

    pub fn recording(&self) -> Recording<'_> {
        Recording { class: Class::Video, source: &self.camera, start: self.start, end: self.end() }
    }

    pub fn end(&self) -> Timestamp {
        let duration = jiff::SignedDuration::from_millis(i64::try_from(self.duration_ms).unwrap_or(i64::MAX));
        self.start.checked_add(duration).unwrap_or(Timestamp::MAX)
    }
}

/// A file in a camera's folder.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// In progress, or an orphan.
    Part,
    Closed(Closed),
    Foreign,
}

pub fn entry(camera: &str, file: &OsStr, bytes: u64) -> Entry {
    let Some(file) = file.to_str() else {
        return Entry::Foreign;
    };
    if file.strip_suffix(PART_SUFFIX).is_some_and(|start| !start.is_empty()) {
        return Entry::Part;
    }
    let parse_segment = || {
        let mut parts = file.strip_suffix(SEGMENT_SUFFIX)?.splitn(3, '-');
        let start = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
        let duration_ms = parts.next()?.parse().ok()?;
        let sha256 = hex::decode(parts.next()?).ok()?.try_into().ok()?;
        Some(Closed { start, camera: camera.to_owned(), duration_ms, sha256, bytes })
    };
    // Only names that the recorder writes itself count, so each segment has exactly one name.
    parse_segment().filter(|closed| closed.file() == file).map_or(Entry::Foreign, Entry::Closed)
}

pub fn folder(root: &Path, camera: &str) -> PathBuf {
    root.join("video").join(camera)
}

/// Returns the name of a file in progress.
pub fn part(start: Timestamp) -> String {
    format!("{:013}{PART_SUFFIX}", start.as_millisecond())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(ms in 0_i64..99_999_999_999, duration_ms: u64, sha256: [u8; 32], bytes: u64) {
            let start = Timestamp::from_millisecond(ms).unwrap();
            let closed = Closed { start, camera: "hal".into(), duration_ms, sha256, bytes };
            let file = closed.file();
            prop_assert_eq!(entry("hal", file.as_ref(), bytes), Entry::Closed(closed));
            prop_assert_eq!(entry("hal", part(start).as_ref(), 1), Entry::Part);
        }

        #[test]
        fn other_names_are_foreign(file in "[a-z0-9.-]{0,90}") {
            prop_assume!(!file.ends_with(PART_SUFFIX));
            prop_assert_eq!(entry("hal", file.as_ref(), 1), Entry::Foreign);
        }
    }
}
