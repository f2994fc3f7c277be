//! The spool's files in memory. The spool's lock guards all fields.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::eviction::{Age, AgeLimit};
use super::name::Closed;
use crate::rules::HoldScope;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// After a failure, not before this instant, so that other segments are tried first.
    Waiting(Option<Instant>),
    Running,
}

/// A complete segment in the spool.
#[derive(Debug)]
pub struct SpooledSegment {
    pub upload: UploadState,
    /// When this process began to record it; `None`: a previous recorder did.
    pub recorded: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct SpoolIndex {
    pub segments: BTreeMap<Closed, SpooledSegment>,
    pub segment_bytes: u64,
    /// Bytes of files in progress.
    pub open_bytes: u64,
    pub limit: u64,
    /// Files without a writer, after a crash of a camera's task or of the previous recorder.
    pub orphans: VecDeque<Orphan>,
    /// Bytes of the orphans, until their recovery ends.
    pub orphan_bytes: u64,
    /// Orphans that could not be read. The next recorder tries them again, until they are past the ceiling.
    pub unreadable: Vec<Orphan>,
    pub evicted: Vec<Closed>,
    /// Scopes of open holds.
    pub holds: Arc<[HoldScope]>,
}

impl SpoolIndex {
    pub fn add_segment(&mut self, closed: Closed, recorded: Option<Instant>) {
        self.segment_bytes = self.segment_bytes.saturating_add(closed.bytes);
        self.segments.insert(closed, SpooledSegment { upload: UploadState::Waiting(None), recorded });
    }

    pub fn add_orphan(&mut self, orphan: Orphan) {
        self.orphan_bytes = self.orphan_bytes.saturating_add(orphan.bytes);
        self.orphans.push_back(orphan);
    }

    /// Returns the segments that no upload is sending. If one of the others were evicted, its loss would be in doubt.
    pub fn not_uploading(&self) -> impl Iterator<Item = &Closed> {
        self.segments
            .iter()
            .filter(|(_, segment)| segment.upload != UploadState::Running)
            .map(|(closed, _)| closed)
    }

    /// Returns the segments that no open hold covers (the first promise).
    pub fn unheld<'a>(&self, all: impl Iterator<Item = &'a Closed>) -> impl Iterator<Item = &'a Closed> {
        all.filter(|closed| !self.is_held(closed))
    }

    /// Returns the segments that are past their ceiling and not held.
    pub fn past_ceiling(&self, limit: &AgeLimit) -> Vec<Closed> {
        let is_past = |closed: &Closed, segment: &SpooledSegment| {
            limit.age(closed.start, segment.recorded) == Age::PastCeiling && !self.is_held(closed)
        };
        let past = self.segments.iter().filter(|(closed, segment)| is_past(closed, segment));
        past.map(|(closed, _)| closed.clone()).collect()
    }

    /// Returns whether the segment may enter the bucket. A held one may at any age.
    pub fn may_upload(&self, closed: &Closed, segment: &SpooledSegment, limit: &AgeLimit) -> bool {
        limit.age(closed.start, segment.recorded) == Age::BelowCeiling || self.is_held(closed)
    }

    fn is_held(&self, closed: &Closed) -> bool {
        self.holds.iter().any(|hold| hold.covers(&closed.recording()))
    }
}

#[derive(Clone, Debug)]
pub struct Orphan {
    pub camera: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// When this process began to record it; `None`: a previous recorder did.
    pub recorded: Option<Instant>,
}
