//! From a stream of pictures to files: where one ends and the next begins, and what is written when.
//! No I/O and no clock: pictures go in, things to do come out.
//!
//! * A file begins with a keyframe, and ends before the first keyframe at or past a boundary: a multiple of
//!   the segment's duration since 1970, so the files of all cameras have about the same edges. That keyframe
//!   begins the next file, so that every picture is in exactly one.
//! * A picture's duration is known when the next arrives; a fragment is written when the picture after it
//!   does, about once a second.
//! * Other coding parameters, a jump of the camera's clock, a stall, or a step of ours end a file too.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::clock::Continuity;
use super::frame::{Frame, Parameters, TICKS_PER_SECOND};
use super::mp4::{self, Fragment, Mp4Error, Sample};

/// A fragment is written when it is this long.
const FRAGMENT_TICKS: i64 = TICKS_PER_SECOND;
/// Where pictures are reordered, fragments end at keyframes only, but are not longer than this.
const MOST_TICKS: i64 = 10 * TICKS_PER_SECOND;
/// A fragment is written when it is this large, whatever else: it bounds the memory that a camera can use.
const MOST_BYTES: usize = 16 << 20;
/// Longer without a picture is a gap, which no file spans.
const STALL_TICKS: i64 = 5 * TICKS_PER_SECOND;
/// How long the only picture of a file is shown.
const LONE_TICKS: i64 = TICKS_PER_SECOND / 15;

/// What is to be done.
#[derive(Debug)]
pub enum Step {
    /// Begin a file with these bytes, its first picture taken at `start` as far as is known yet.
    Open {
        /// When the first picture was taken.
        start: Timestamp,
        /// `ftyp` and `moov`.
        bytes: Vec<u8>,
        /// How it is coded.
        parameters: Arc<Parameters>,
    },
    /// Append a fragment.
    Append {
        /// The whole fragment.
        bytes: Vec<u8>,
        /// Pictures in it.
        pictures: u64,
        /// When its first picture was taken.
        from: Timestamp,
        /// When its last picture ends.
        until: Timestamp,
    },
    /// The file is complete.
    Close {
        /// When its first picture was taken.
        start: Timestamp,
        /// When its last picture ends.
        end: Timestamp,
    },
}

/// The file that is being made.
#[derive(Debug)]
struct Open {
    parameters: Arc<Parameters>,
    /// When the first picture was taken.
    start: Timestamp,
    /// The file follows another without a hole, so its start is known; else the clock still learns it.
    follows: bool,
    /// The wall clock was set: the file ends at the next keyframe.
    stepped: bool,
    boundary: Timestamp,
    first_ticks: i64,
    newest_ticks: i64,
    /// From the picture before to the newest.
    interval: i64,
    reordered: bool,
    samples: Vec<Sample>,
    bytes: usize,
    sequence: u32,
    decoded_until: u64,
}

/// Makes files of one camera's pictures.
#[derive(Debug)]
pub struct Segmenter {
    duration: SignedDuration,
    open: Option<Open>,
}

impl Segmenter {
    /// Files about this long.
    pub const fn new(duration: SignedDuration) -> Self {
        Self { duration, open: None }
    }

    /// From the next file on, files are about this long.
    pub const fn set_duration(&mut self, duration: SignedDuration) {
        self.duration = duration;
    }

    /// Whether a file is open.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next picture; `taken` tells when a picture with given ticks was taken, as far as is known now.
    pub fn push(
        &mut self,
        frame: Frame,
        continuity: Continuity,
        taken: &impl Fn(i64) -> Timestamp,
    ) -> Result<Vec<Step>, Mp4Error> {
        let mut steps = Vec::new();
        let mut follows = None;
        if let Some(open) = &mut self.open {
            let elapsed = frame.ticks.saturating_sub(open.newest_ticks);
            let broken = continuity == Continuity::Jumped || elapsed > STALL_TICKS;
            let recoded = frame.parameters != open.parameters;
            open.stepped |= continuity == Continuity::Stepped;
            let due = open.stepped || taken(frame.ticks) >= open.boundary;
            if broken {
                steps.extend(self.finish()?);
            } else if recoded || (frame.keyframe && due) {
                // A wall clock that was set would give the file an end that is not in its own time.
                let end = (!open.stepped).then(|| taken(frame.ticks));
                steps.extend(self.cut(frame.ticks, end)?);
                follows = end;
            } else if !open.stepped && !open.follows {
                open.start = taken(open.first_ticks);
            }
        }
        match &mut self.open {
            Some(open) => steps.extend(open.push(frame)?),
            None if frame.keyframe => steps.push(self.begin(frame, follows, taken)?),
            // Nothing can be decoded before a keyframe.
            None => {}
        }
        Ok(steps)
    }

    /// No more pictures for now: completes the file.
    pub fn finish(&mut self) -> Result<Vec<Step>, Mp4Error> {
        let end = self.open.as_ref().map(|open| open.newest_ticks.saturating_add(open.last_interval()));
        end.map_or_else(|| Ok(Vec::new()), |end| self.cut(end, None))
    }

    fn begin(
        &mut self,
        frame: Frame,
        follows: Option<Timestamp>,
        taken: &impl Fn(i64) -> Timestamp,
    ) -> Result<Step, Mp4Error> {
        let start = follows.unwrap_or_else(|| taken(frame.ticks));
        let bytes = mp4::init(&frame.parameters, start)?;
        let parameters = Arc::clone(&frame.parameters);
        self.open = Some(Open {
            parameters: Arc::clone(&parameters),
            start,
            follows: follows.is_some(),
            stepped: false,
            boundary: boundary(start, self.duration),
            first_ticks: frame.ticks,
            newest_ticks: frame.ticks,
            interval: LONE_TICKS,
            reordered: false,
            bytes: frame.data.len(),
            samples: vec![Sample { shown: 0, keyframe: true, data: frame.data }],
            sequence: 0,
            decoded_until: 0,
        });
        Ok(Step::Open { start, bytes, parameters })
    }

    fn cut(&mut self, next_ticks: i64, end: Option<Timestamp>) -> Result<Vec<Step>, Mp4Error> {
        let Some(mut open) = self.open.take() else {
            return Ok(Vec::new());
        };
        let mut steps: Vec<Step> = open.flush(next_ticks)?.into_iter().collect();
        let length = i64::try_from(open.decoded_until).map_err(|_| Mp4Error::Range)?;
        let end = end.unwrap_or_else(|| after(open.start, length)).max(open.start);
        steps.push(Step::Close { start: open.start, end });
        Ok(steps)
    }
}

impl Open {
    /// How long the last picture is shown, as far as can be told: as long as the one before it.
    fn last_interval(&self) -> i64 {
        let mut shown: Vec<i64> = self.samples.iter().map(|sample| sample.shown).collect();
        shown.sort_unstable();
        match shown.as_slice() {
            [.., before, last] if last > before => last - before,
            _ => self.interval,
        }
    }

    fn push(&mut self, frame: Frame) -> Result<Option<Step>, Mp4Error> {
        self.reordered |= frame.ticks < self.newest_ticks;
        let shown = frame.ticks.saturating_sub(self.first_ticks);
        let first = self.samples.first().map_or(shown, |sample| sample.shown);
        let length = shown.saturating_sub(first);
        // Before a keyframe everything that is shown earlier has come; elsewhere only without reordering.
        let may_end = frame.keyframe || !self.reordered || length >= MOST_TICKS;
        let full = (length >= FRAGMENT_TICKS && may_end) || self.bytes >= MOST_BYTES;
        let step = if full { self.flush(frame.ticks)? } else { None };

        if frame.ticks > self.newest_ticks {
            self.interval = frame.ticks - self.newest_ticks;
            self.newest_ticks = frame.ticks;
        }
        self.bytes += frame.data.len();
        self.samples.push(Sample { shown, keyframe: frame.keyframe, data: frame.data });
        Ok(step)
    }

    fn flush(&mut self, next_ticks: i64) -> Result<Option<Step>, Mp4Error> {
        let Some(first) = self.samples.first() else {
            return Ok(None);
        };
        self.sequence = self.sequence.saturating_add(1);
        let fragment = Fragment {
            sequence: self.sequence,
            samples: &self.samples,
            decoded_until: self.decoded_until,
            next_shown: next_ticks.saturating_sub(self.first_ticks),
            taken: after(self.start, first.shown),
        };
        let (bytes, end) = fragment.encode()?;
        let (pictures, from) = (self.samples.len() as u64, fragment.taken);
        let until = after(self.start, i64::try_from(end).map_err(|_| Mp4Error::Range)?);
        self.decoded_until = end;
        self.samples.clear();
        self.bytes = 0;
        Ok(Some(Step::Append { bytes, pictures, from, until }))
    }
}

/// The first multiple of `duration` since 1970 after `start`.
fn boundary(start: Timestamp, duration: SignedDuration) -> Timestamp {
    let step = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1);
    let next = (start.as_millisecond().div_euclid(step)).saturating_add(1).saturating_mul(step);
    Timestamp::from_millisecond(next).unwrap_or(Timestamp::MAX)
}

fn after(start: Timestamp, ticks: i64) -> Timestamp {
    let duration = SignedDuration::from_micros(ticks.saturating_mul(1_000_000) / TICKS_PER_SECOND);
    start.checked_add(duration).unwrap_or(start)
}

#[cfg(test)]
#[path = "segment_tests.rs"]
pub(crate) mod tests;
