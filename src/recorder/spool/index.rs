//! The spool's files in memory. The spool's lock guards all fields.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::eviction;
use super::eviction::{Age, AgeLimit};
use super::name::Closed;
use crate::rules::{Class, HoldScope};

/// Cameras whose turns are remembered. Beyond that, all turns begin again.
const MAX_TURNS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// After a failure, not before this instant, so that other segments are tried first.
    Waiting(Option<Instant>),
    Running,
}

/// Order in which segments are taken for upload. Within a lane, untried segments come before retries: otherwise a segment
/// that every store rejects would block all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadLane {
    /// Segments under a hold, oldest first.
    Held,
    /// The newest segment of each camera. The camera that waited longest comes first.
    Newest,
    /// All segments, oldest first.
    Oldest,
}

/// A complete segment in the spool.
#[derive(Debug)]
pub struct SpooledSegment {
    pub upload: UploadState,
    /// Whether an open hold covers it.
    pub is_held: bool,
    /// When this process began to record it; `None`: a previous recorder did.
    pub recorded: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct SpoolIndex {
    pub segments: BTreeMap<Closed, SpooledSegment>,
    pub segment_bytes: u64,
    /// Bytes of files in progress.
    pub open_bytes: u64,
    /// Capacity in bytes; 0: not known yet. It does not change afterwards: the volume stays as it is.
    pub limit: u64,
    /// Files without a writer, after a crash of a camera's task or of the previous recorder.
    pub orphans: VecDeque<Orphan>,
    /// Bytes of the orphans, until their recovery ends.
    pub orphan_bytes: u64,
    /// Orphans that could not be read. They are tried again, until they are past the ceiling.
    pub unreadable: Vec<Orphan>,
    /// Folders of cameras that could not be listed.
    pub unlistable_folders: u64,
    pub evicted: Vec<Closed>,
    /// Scopes of open holds.
    holds: Arc<[HoldScope]>,
    /// Turn of each camera in [`UploadLane::Newest`]: the number of the last one.
    turns: BTreeMap<String, u64>,
    last_turn: u64,
}

impl SpoolIndex {
    /// Returns the bytes of everything that may be a recording. Not zero while anything is left, readable or not: the operator
    /// removes an empty spool.
    pub fn bytes(&self) -> u64 {
        let unreadable: u64 = self.unreadable.iter().map(|orphan| orphan.bytes.max(1)).sum();
        [self.open_bytes, self.orphan_bytes, unreadable, self.unlistable_folders]
            .into_iter()
            .fold(self.segment_bytes, u64::saturating_add)
    }

    /// Returns the number of files and folders that may be recordings and are not recovered.
    pub fn unrecovered(&self) -> u64 {
        // The last orphan has left the queue while it is recovered.
        let orphans = (self.orphans.len() as u64).max(u64::from(self.orphan_bytes > 0));
        orphans.saturating_add(self.unreadable.len() as u64).saturating_add(self.unlistable_folders)
    }

    pub fn add_segment(&mut self, closed: Closed, recorded: Option<Instant>) {
        self.segment_bytes = self.segment_bytes.saturating_add(closed.bytes);
        let is_held = is_held(&self.holds, &closed);
        self.segments
            .insert(closed, SpooledSegment { upload: UploadState::Waiting(None), is_held, recorded });
    }

    pub fn set_holds(&mut self, holds: Arc<[HoldScope]>) {
        for (closed, segment) in &mut self.segments {
            segment.is_held = is_held(&holds, closed);
        }
        self.holds = holds;
    }

    /// Takes the next segment of `lane` that may enter the bucket now, and marks it as running.
    pub fn take_next(&mut self, lane: UploadLane, limit: &AgeLimit) -> Option<Closed> {
        let ready = self.segments.iter().filter_map(|(closed, segment)| match segment.upload {
            UploadState::Waiting(until) if until.is_none_or(|until| until <= limit.now) => {
                // A held segment may enter the bucket at any age.
                let may_upload =
                    segment.is_held || limit.age(closed.start, segment.recorded) == Age::BelowCeiling;
                may_upload.then_some((until, closed, segment.is_held))
            }
            _ => None,
        });
        // Of equal ones, `min_by_key` returns the first: the oldest.
        let next = match lane {
            UploadLane::Held => ready.filter(|(.., is_held)| *is_held).min_by_key(|(until, ..)| *until),
            UploadLane::Oldest => ready.min_by_key(|(until, ..)| *until),
            UploadLane::Newest => {
                // Later entries replace earlier ones, which are older.
                let newest: BTreeMap<&str, _> = ready.map(|next| (next.1.camera.as_str(), next)).collect();
                newest.into_iter().min_by_key(|(camera, _)| self.turns.get(*camera)).map(|(_, next)| next)
            }
        };
        let closed = next?.1.clone();
        if lane == UploadLane::Newest {
            self.count_turn(&closed.camera);
        }
        self.segments.get_mut(&closed)?.upload = UploadState::Running;
        Some(closed)
    }

    fn count_turn(&mut self, camera: &str) {
        if self.turns.len() >= MAX_TURNS {
            self.turns.clear();
        }
        self.last_turn += 1;
        self.turns.insert(camera.to_owned(), self.last_turn);
    }

    pub fn add_orphan(&mut self, orphan: Orphan) {
        self.orphan_bytes = self.orphan_bytes.saturating_add(orphan.bytes);
        self.orphans.push_back(orphan);
    }

    /// Replaces an orphan by `closed`, its complete segment; `None`: its file is deleted.
    pub fn complete_orphan(&mut self, orphan: &Orphan, closed: Option<Closed>) {
        self.orphan_bytes = self.orphan_bytes.saturating_sub(orphan.bytes);
        if let Some(closed) = closed {
            self.add_segment(closed, orphan.recorded);
        }
    }

    pub fn add_unreadable(&mut self, orphan: Orphan) {
        self.orphan_bytes = self.orphan_bytes.saturating_sub(orphan.bytes);
        self.unreadable.push(orphan);
    }

    /// Puts the unreadable orphans back among those that are to be recovered: the disk may be readable again.
    pub fn retry_unreadable(&mut self) {
        for orphan in std::mem::take(&mut self.unreadable) {
            self.add_orphan(orphan);
        }
    }

    /// Returns the unreadable orphans that no open hold may cover. Their times are unknown, so the camera alone decides.
    pub fn unheld_unreadable(&self) -> Vec<Orphan> {
        let may_be_held = |orphan: &Orphan| {
            self.holds.iter().any(|hold| hold.includes_source(Class::Video, &orphan.camera))
        };
        self.unreadable.iter().filter(|orphan| !may_be_held(orphan)).cloned().collect()
    }

    /// Returns the segments that may be evicted, oldest first: no open hold covers them (the first promise), and no upload
    /// sends them. If one that is being sent were evicted, its loss would be in doubt.
    pub fn evictable(&self) -> impl Iterator<Item = &Closed> {
        let is_evictable =
            |segment: &SpooledSegment| !segment.is_held && segment.upload != UploadState::Running;
        self.segments.iter().filter(move |(_, segment)| is_evictable(segment)).map(|(closed, _)| closed)
    }

    /// Removes a segment, and returns whether it was there.
    pub fn remove(&mut self, closed: &Closed) -> bool {
        let is_known = self.segments.remove(closed).is_some();
        if is_known {
            self.segment_bytes = self.segment_bytes.saturating_sub(closed.bytes);
        }
        is_known
    }

    /// Returns the segments whose eviction makes room for `needed` bytes; `None`: all of them are not enough. Everything on the disk
    /// counts, even if it cannot be evicted: beyond its limit, the node evicts the pod with all segments.
    pub fn select_evictions(&self, needed: u64) -> Option<Vec<Closed>> {
        eviction::select_evictions(self.evictable(), self.bytes(), needed, self.limit)
    }

    /// Reserves `bytes` for a file in progress. Evicts the segments that make room, and returns them. As one step, so that
    /// two writers reserve neither the same room nor that of the same segment.
    pub fn reserve(&mut self, bytes: u64) -> Option<Vec<Closed>> {
        let evicted = self.select_evictions(bytes)?;
        self.open_bytes = self.open_bytes.saturating_add(bytes);
        for closed in &evicted {
            self.evict(closed);
        }
        Some(evicted)
    }

    pub fn evict_oldest(&mut self) -> Option<Closed> {
        let oldest = self.evictable().next()?.clone();
        self.evict(&oldest);
        Some(oldest)
    }

    fn evict(&mut self, closed: &Closed) {
        self.remove(closed);
        self.evicted.push(closed.clone());
    }

    /// Removes the segments that are past their ceiling and not held, and returns them.
    pub fn remove_past_ceiling(&mut self, limit: &AgeLimit) -> Vec<Closed> {
        let is_past = |closed: &Closed, segment: &SpooledSegment| {
            !segment.is_held && limit.age(closed.start, segment.recorded) == Age::PastCeiling
        };
        let past = self.segments.iter().filter(|(closed, segment)| is_past(closed, segment));
        let past: Vec<Closed> = past.map(|(closed, _)| closed.clone()).collect();
        for closed in &past {
            self.remove(closed);
        }
        past
    }
}

fn is_held(holds: &[HoldScope], closed: &Closed) -> bool {
    holds.iter().any(|hold| hold.covers(&closed.recording()))
}

#[derive(Clone, Debug)]
pub struct Orphan {
    pub camera: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// When this process began to record it; `None`: a previous recorder did.
    pub recorded: Option<Instant>,
}
