//! Frame rate and bitrate of a camera, as recorded. No I/O and no clock.

use jiff::{SignedDuration, Timestamp};

use super::frame::VideoParameters;
use crate::wire::StreamReport;

/// Shortest recording with a meaningful rate.
const MIN_DURATION: SignedDuration = SignedDuration::from_secs(2);

/// Frames and bytes of the file in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTally {
    frames: u64,
    bytes: u64,
    /// Capture times of its first frame and of the end of its last.
    span: Option<(Timestamp, Timestamp)>,
}

impl FileTally {
    /// Returns the tally of a file that begins with `bytes` before the first frame.
    pub const fn new(bytes: u64) -> Self {
        Self { frames: 0, bytes, span: None }
    }

    /// Adds a fragment.
    pub fn add(&mut self, frames: u64, bytes: u64, from: Timestamp, until: Timestamp) {
        self.frames = self.frames.saturating_add(frames);
        self.bytes = self.bytes.saturating_add(bytes);
        let (first, last) = self.span.unwrap_or((from, until));
        self.span = Some((first.min(from), last.max(until)));
    }

    /// Returns the report of a file with these parameters; `None`: the file is too short.
    pub fn report(&self, parameters: &VideoParameters) -> Option<StreamReport> {
        let (from, until) = self.span?;
        let duration = until.duration_since(from);
        if duration < MIN_DURATION {
            return None;
        }
        let milliseconds = u64::try_from(duration.as_millis()).ok()?;
        let per_second = |number: u64, unit: u64| {
            number.saturating_mul(unit).saturating_mul(1000).checked_div(milliseconds).unwrap_or_default()
        };
        Some(StreamReport {
            codec: parameters.codec.to_string(),
            width: parameters.width,
            height: parameters.height,
            milliframes_per_second: per_second(self.frames, 1000),
            bits_per_second: per_second(self.bytes, 8),
        })
    }
}

/// The report of a camera: that of its newest complete file, or of the file in progress as long as no file with its parameters is
/// complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatestStream {
    report: Option<StreamReport>,
    is_complete: bool,
}

impl LatestStream {
    /// Notes the report of the file in progress, or of a complete one.
    pub fn observe(&mut self, report: StreamReport, is_complete: bool) {
        let is_same = |known: &StreamReport| {
            (&known.codec, known.width, known.height) == (&report.codec, report.width, report.height)
        };
        if is_complete || !self.is_complete || !self.report.as_ref().is_some_and(is_same) {
            *self = Self { report: Some(report), is_complete };
        }
    }

    pub fn report(&self) -> Option<StreamReport> {
        self.report.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recorder::frame::Codec;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn parameters(width: u16) -> VideoParameters {
        VideoParameters { codec: Codec::H264, width, height: 1080, sample_entry: Vec::new() }
    }

    #[test]
    fn rates_are_those_of_the_recorded_frames() {
        let mut tally = FileTally::new(1_000);
        for second in 0..60_i64 {
            // 12.5 frames a second.
            let frames = if second % 2 == 0 { 12 } else { 13 };
            tally.add(frames, 249_000, at(second * 1000), at((second + 1) * 1000));
        }
        let report = tally.report(&parameters(1920)).unwrap();
        assert_eq!((report.milliframes_per_second, report.width), (12_500, 1920));
        assert_eq!(report.bits_per_second, (60 * 249_000 + 1_000) * 8 / 60);
    }

    #[test]
    fn short_file_has_no_rates() {
        let mut tally = FileTally::new(0);
        assert_eq!(tally.report(&parameters(1920)), None);
        tally.add(1, 9, at(0), at(1_999));
        assert_eq!(tally.report(&parameters(1920)), None);
    }

    #[test]
    fn open_file_counts_until_one_of_its_size_is_complete() {
        let report = |width, bits_per_second| StreamReport {
            codec: "H264".into(),
            width,
            height: 1080,
            milliframes_per_second: 25_000,
            bits_per_second,
        };
        let mut latest = LatestStream::default();
        for (next, is_complete, expected) in [
            (report(1920, 1), false, 1),
            (report(1920, 2), false, 2),
            (report(1920, 3), true, 3),
            (report(1920, 4), false, 3),
            (report(640, 5), false, 5),
            (report(640, 6), false, 6),
            (report(640, 7), true, 7),
        ] {
            latest.observe(next, is_complete);
            assert_eq!(latest.report().unwrap().bits_per_second, expected);
        }
    }

    proptest! {
        #[test]
        fn any_fragments_give_a_report_without_overflow(
            fragments in proptest::collection::vec((any::<u64>(), any::<u64>(), -9_000_000_i64..9_000_000, 0_i64..9_000_000), 0..5),
        ) {
            let mut tally = FileTally::new(0);
            for (frames, bytes, from, length) in fragments {
                tally.add(frames, bytes, at(from), at(from + length));
            }
            let _ = tally.report(&parameters(1));
        }
    }
}
