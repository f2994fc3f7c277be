//! What the spool knows of its files. Each field is guarded by the spool's lock.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::name::Closed;
use crate::rules::hold::scope::HoldScope;

/// Whether a complete recording is being uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// Not before that, where one is given: it failed, and others shall not wait for it.
    Waiting(Option<Instant>),
    Running,
}

#[derive(Debug, Default)]
pub struct SpoolIndex {
    pub segments: BTreeMap<Closed, UploadState>,
    pub segment_bytes: u64,
    /// Bytes of files that are being written.
    pub open_bytes: u64,
    pub limit: u64,
    /// Parts that nobody writes any more: their camera's task, or the recorder before, ended badly.
    pub orphans: VecDeque<Orphan>,
    /// Those that could not be read: they are tried again when a recorder starts, until they are too old.
    pub unreadable: Vec<Orphan>,
    pub evicted: Vec<Closed>,
    /// What open holds cover: it stays, whatever else has to go.
    pub holds: Arc<[HoldScope]>,
}

impl SpoolIndex {
    /// What is not on its way already: of what is, nobody could say whether it was lost.
    pub fn not_uploading(&self) -> impl Iterator<Item = &Closed> {
        let is_idle = |upload: &UploadState| *upload != UploadState::Running;
        self.segments.iter().filter(move |(_, upload)| is_idle(upload)).map(|(closed, _)| closed)
    }

    /// Those of these that no open hold covers (the first promise).
    pub fn unheld<'a>(&self, of: impl Iterator<Item = &'a Closed>) -> impl Iterator<Item = &'a Closed> {
        of.filter(|closed| !self.holds.iter().any(|hold| hold.covers(&closed.recording())))
    }
}

#[derive(Debug)]
pub struct Orphan {
    pub camera: String,
    pub path: PathBuf,
}
