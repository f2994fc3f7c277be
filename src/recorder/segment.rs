//! Decides which frames go into which file, and the order of writes. No I/O and no clock: `camera/session` executes the steps,
//! and `spool/writer` writes the file.
//!
//! * A file begins with a keyframe. It ends before the first keyframe at or past a boundary, which is a multiple of the
//!   segment duration since 1970. So the files of all cameras have about the same edges. That keyframe begins the next
//!   file, so every frame is in exactly one file.
//! * The duration of a frame is known when the next one arrives. So a fragment is written when the frame after it arrives,
//!   about once a second.
//! * New coding parameters, a jump of the camera's clock, a stall and a step of the wall clock end a file too.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::camera::clock::Continuity;
use super::frame::{Frame, TICKS_PER_SECOND, VideoParameters};
use super::mp4::{self, Fragment, Mp4Error, Sample};

/// Duration of a fragment.
const FRAGMENT_TICKS: i64 = TICKS_PER_SECOND;
/// Limit of a fragment of reordered frames, which otherwise ends only at a keyframe.
const MAX_FRAGMENT_TICKS: i64 = 10 * TICKS_PER_SECOND;
/// Limit of a fragment, which bounds the memory for one camera.
const MAX_FRAGMENT_BYTES: usize = 16 << 20;
/// Longest time between two frames of a file. A longer one is a gap.
const STALL_TICKS: i64 = 5 * TICKS_PER_SECOND;
/// Duration of the only frame of a file.
const SINGLE_FRAME_TICKS: i64 = TICKS_PER_SECOND / 15;

#[derive(Debug)]
pub enum SegmentStep {
    Open {
        /// Capture time of the first frame, as far as it is known yet.
        start: Timestamp,
        /// `ftyp` and `moov`.
        bytes: Vec<u8>,
        parameters: Arc<VideoParameters>,
    },
    Append {
        bytes: Vec<u8>,
        frames: u64,
        /// Capture time of the first frame.
        from: Timestamp,
        until: Timestamp,
    },
    Close {
        /// Capture time of the first frame, as finally known.
        start: Timestamp,
        end: Timestamp,
    },
}

/// The file in progress.
#[derive(Debug)]
struct OpenSegment {
    parameters: Arc<VideoParameters>,
    /// Capture time of the first frame.
    start: Timestamp,
    /// Whether the file continues another without a gap, so that its start is final. Otherwise the clock still refines it.
    is_continuation: bool,
    /// Whether the wall clock stepped: the file ends at the next keyframe.
    is_stepped: bool,
    boundary: Timestamp,
    first_ticks: i64,
    newest_ticks: i64,
    /// Ticks between the two newest frames.
    frame_interval: i64,
    is_reordered: bool,
    samples: Vec<Sample>,
    bytes: usize,
    sequence: u32,
    base_decode_ticks: u64,
}

/// Divides the frames of one camera into files.
#[derive(Debug)]
pub struct Segmenter {
    duration: SignedDuration,
    open: Option<OpenSegment>,
}

impl Segmenter {
    pub const fn new(duration: SignedDuration) -> Self {
        Self { duration, open: None }
    }

    /// Sets the duration of the following files.
    pub const fn set_duration(&mut self, duration: SignedDuration) {
        self.duration = duration;
    }

    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Adds the next frame. `capture_time` converts ticks, as far as is known now.
    pub fn push(
        &mut self,
        frame: Frame,
        continuity: Continuity,
        capture_time: &impl Fn(i64) -> Timestamp,
    ) -> Result<Vec<SegmentStep>, Mp4Error> {
        let mut steps = Vec::new();
        let mut previous_end = None;
        if let Some(open) = &mut self.open {
            let elapsed = frame.ticks.saturating_sub(open.newest_ticks);
            let is_discontinuous = continuity == Continuity::Jumped || elapsed > STALL_TICKS;
            let has_new_parameters = frame.parameters != open.parameters;
            open.is_stepped |= continuity == Continuity::Stepped;
            let is_due = open.is_stepped || capture_time(frame.ticks) >= open.boundary;
            if is_discontinuous {
                steps.extend(self.finish()?);
            } else if has_new_parameters || (frame.is_keyframe && is_due) {
                // After a step, the wall clock and the start of the file disagree. So the end is computed from the start.
                let end = (!open.is_stepped).then(|| capture_time(frame.ticks));
                steps.extend(self.close_segment(frame.ticks, end)?);
                previous_end = end;
            } else if !open.is_stepped && !open.is_continuation {
                open.start = capture_time(open.first_ticks);
            }
        }
        match &mut self.open {
            Some(open) => steps.extend(open.push(frame)?),
            None if frame.is_keyframe => steps.push(self.begin(frame, previous_end, capture_time)?),
            // Frames before a keyframe are undecodable.
            None => {}
        }
        Ok(steps)
    }

    /// Completes the file in progress.
    pub fn finish(&mut self) -> Result<Vec<SegmentStep>, Mp4Error> {
        let end = self.open.as_ref().map(|open| open.newest_ticks.saturating_add(open.last_frame_duration()));
        end.map_or_else(|| Ok(Vec::new()), |end| self.close_segment(end, None))
    }

    fn begin(
        &mut self,
        frame: Frame,
        previous_end: Option<Timestamp>,
        capture_time: &impl Fn(i64) -> Timestamp,
    ) -> Result<SegmentStep, Mp4Error> {
        let start = previous_end.unwrap_or_else(|| capture_time(frame.ticks));
        let bytes = mp4::init(&frame.parameters, start)?;
        let parameters = Arc::clone(&frame.parameters);
        self.open = Some(OpenSegment {
            parameters: Arc::clone(&parameters),
            start,
            is_continuation: previous_end.is_some(),
            is_stepped: false,
            boundary: next_boundary(start, self.duration),
            first_ticks: frame.ticks,
            newest_ticks: frame.ticks,
            frame_interval: SINGLE_FRAME_TICKS,
            is_reordered: false,
            bytes: frame.data.len(),
            samples: vec![Sample { presentation_ticks: 0, is_keyframe: true, data: frame.data }],
            sequence: 0,
            base_decode_ticks: 0,
        });
        Ok(SegmentStep::Open { start, bytes, parameters })
    }

    fn close_segment(
        &mut self,
        next_ticks: i64,
        end: Option<Timestamp>,
    ) -> Result<Vec<SegmentStep>, Mp4Error> {
        let Some(mut open) = self.open.take() else {
            return Ok(Vec::new());
        };
        let mut steps: Vec<SegmentStep> = open.flush(next_ticks)?.into_iter().collect();
        let length = i64::try_from(open.base_decode_ticks).map_err(|_| Mp4Error::Range)?;
        // Not before the start, even if the clock's estimate moved.
        let end = end.unwrap_or_else(|| add_ticks(open.start, length)).max(open.start);
        steps.push(SegmentStep::Close { start: open.start, end });
        Ok(steps)
    }
}

impl OpenSegment {
    /// Returns the duration of the last frame: unknown, so that of the previous frame.
    fn last_frame_duration(&self) -> i64 {
        let mut presentation_ticks: Vec<i64> =
            self.samples.iter().map(|sample| sample.presentation_ticks).collect();
        presentation_ticks.sort_unstable();
        match presentation_ticks.as_slice() {
            [.., before, last] if last > before => last - before,
            _ => self.frame_interval,
        }
    }

    fn push(&mut self, frame: Frame) -> Result<Option<SegmentStep>, Mp4Error> {
        self.is_reordered |= frame.ticks < self.newest_ticks;
        let presentation_ticks = frame.ticks.saturating_sub(self.first_ticks);
        let first = self.samples.first().map_or(presentation_ticks, |sample| sample.presentation_ticks);
        let length = presentation_ticks.saturating_sub(first);
        // With reordering, a later frame may be shown before this one, unless this one is a keyframe.
        let may_end = frame.is_keyframe || !self.is_reordered || length >= MAX_FRAGMENT_TICKS;
        let is_full = (length >= FRAGMENT_TICKS && may_end) || self.bytes >= MAX_FRAGMENT_BYTES;
        let step = if is_full { self.flush(frame.ticks)? } else { None };

        if frame.ticks > self.newest_ticks {
            self.frame_interval = frame.ticks - self.newest_ticks;
            self.newest_ticks = frame.ticks;
        }
        self.bytes += frame.data.len();
        self.samples.push(Sample { presentation_ticks, is_keyframe: frame.is_keyframe, data: frame.data });
        Ok(step)
    }

    fn flush(&mut self, next_ticks: i64) -> Result<Option<SegmentStep>, Mp4Error> {
        let Some(first) = self.samples.first() else {
            return Ok(None);
        };
        self.sequence = self.sequence.saturating_add(1);
        let fragment = Fragment {
            sequence: self.sequence,
            samples: &self.samples,
            base_decode_ticks: self.base_decode_ticks,
            next_presentation_ticks: next_ticks.saturating_sub(self.first_ticks),
            captured_at: add_ticks(self.start, first.presentation_ticks),
        };
        let (bytes, end) = fragment.encode()?;
        let (frames, from) = (self.samples.len() as u64, fragment.captured_at);
        let until = add_ticks(self.start, i64::try_from(end).map_err(|_| Mp4Error::Range)?);
        self.base_decode_ticks = end;
        self.samples.clear();
        self.bytes = 0;
        Ok(Some(SegmentStep::Append { bytes, frames, from, until }))
    }
}

/// Returns the first multiple of `duration` since 1970 after `start`.
fn next_boundary(start: Timestamp, duration: SignedDuration) -> Timestamp {
    let step = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1);
    let next = (start.as_millisecond().div_euclid(step)).saturating_add(1).saturating_mul(step);
    Timestamp::from_millisecond(next).unwrap_or(Timestamp::MAX)
}

fn add_ticks(start: Timestamp, ticks: i64) -> Timestamp {
    let duration = SignedDuration::from_micros(ticks.saturating_mul(1_000_000) / TICKS_PER_SECOND);
    start.checked_add(duration).unwrap_or(start)
}

#[cfg(test)]
pub(crate) mod tests;
