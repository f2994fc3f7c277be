use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::recorder::frame::{Arrival, Codec};
use crate::recorder::mp4::scan_fragments;

const PERIOD: i64 = 6000;
const START: i64 = 1_780_000_020;

/// A baseline H.264 sample entry of a 320×240 camera.
pub(crate) fn sample_entry() -> Vec<u8> {
    let sps = hex::decode("67420015da0503c4").unwrap();
    let pps = hex::decode("68ce3c80").unwrap();
    let mut avcc = vec![1, 0x42, 0, 0x15, 0xff, 0xe1, 0, u8::try_from(sps.len()).unwrap()];
    avcc.extend(&sps);
    avcc.extend([1, 0, u8::try_from(pps.len()).unwrap()]);
    avcc.extend(&pps);
    let mut entry = vec![0, 0, 0, 0, 0, 0, 0, 1];
    entry.extend([0; 16]);
    entry.extend([1, 64, 0, 240, 0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1]);
    entry.extend([0; 32]);
    entry.extend([0, 0x18, 0xff, 0xff]);
    let boxed = |kind: &[u8; 4], body: &[u8]| {
        let mut all = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        all.extend(kind);
        all.extend(body);
        all
    };
    entry.extend(boxed(b"avcC", &avcc));
    boxed(b"avc1", &entry)
}

fn parameters(width: u16) -> Arc<VideoParameters> {
    Arc::new(VideoParameters { codec: Codec::H264, width, height: 240, sample_entry: sample_entry() })
}

fn frame(n: i64, ticks: i64, keyframe: bool, parameters: &Arc<VideoParameters>) -> Frame {
    Frame {
        data: format!("<{n}>").into_bytes(),
        is_keyframe: keyframe,
        ticks,
        arrival: Arrival { monotonic_us: 0, wall_us: 0 },
        lost_packets: 0,
        parameters: Arc::clone(parameters),
    }
}

fn captured_at(ticks: i64) -> Timestamp {
    add_ticks(Timestamp::from_second(START).unwrap(), ticks)
}

#[derive(Debug, Default, Clone)]
struct RecordedFile {
    bytes: Vec<u8>,
    closed: Option<(Timestamp, Timestamp)>,
}

impl RecordedFile {
    /// Returns the numbers of the frames, in order.
    fn numbers(&self) -> Vec<i64> {
        let text = String::from_utf8_lossy(&self.bytes);
        let number = |part: &str| part.split_once('>').and_then(|(number, _)| number.parse().ok());
        text.split('<').filter_map(number).collect()
    }

    fn ticks(&self) -> i64 {
        scan_fragments(&mut Cursor::new(&self.bytes)).unwrap().duration_ticks.try_into().unwrap()
    }
}

fn files(steps: impl IntoIterator<Item = SegmentStep>) -> Vec<RecordedFile> {
    let mut files: Vec<RecordedFile> = Vec::new();
    for step in steps {
        match step {
            SegmentStep::Open { bytes, .. } => {
                assert!(files.last().is_none_or(|file| file.closed.is_some()), "a file is still open");
                files.push(RecordedFile { bytes, closed: None });
            }
            SegmentStep::Append { bytes, .. } => files.last_mut().unwrap().bytes.extend(bytes),
            SegmentStep::Close { start, end } => files.last_mut().unwrap().closed = Some((start, end)),
        }
    }
    files
}

fn record(frames: impl IntoIterator<Item = (Frame, Continuity)>, seconds: i64) -> Vec<RecordedFile> {
    let mut segmenter = Segmenter::new(SignedDuration::from_secs(seconds));
    let mut steps = Vec::new();
    for (frame, continuity) in frames {
        steps.extend(segmenter.push(frame, continuity, &captured_at).unwrap());
    }
    steps.extend(segmenter.finish().unwrap());
    files(steps)
}

fn steady_frames(count: i64, gop: i64) -> impl Iterator<Item = (Frame, Continuity)> {
    let parameters = parameters(320);
    (0..count).map(move |n| (frame(n, n * PERIOD, n % gop == 0, &parameters), Continuity::Steady))
}

#[test]
fn segments_end_at_first_keyframe_past_boundary_without_holes() {
    // Keyframes every 2.8 s, files of 10 s: 11.2, 22.4, 30.8 …
    let files = record(steady_frames(15 * 35, 42), 10);
    let edges: Vec<_> = files.iter().map(|file| file.closed.unwrap()).collect();
    let second = |ms: i64| Timestamp::from_millisecond(START * 1000 + ms).unwrap();
    assert_eq!(edges[0], (second(0), second(11_200)));
    assert_eq!(edges[1], (second(11_200), second(22_400)));
    assert_eq!(edges[2], (second(22_400), second(30_800)));
    assert_eq!(edges[3], (second(30_800), second(35_000)));
    for (file, (start, end)) in files.iter().zip(edges) {
        let ms = file.ticks() * 1000 / TICKS_PER_SECOND;
        assert!((ms - (end.as_millisecond() - start.as_millisecond())).abs() <= 1);
        let start_in_file = scan_fragments(&mut Cursor::new(&file.bytes)).unwrap().start.unwrap();
        assert!(
            (start_in_file.as_millisecond() - start.as_millisecond()).abs() <= 1,
            "{start_in_file} {start}"
        );
    }
}

#[test]
fn truncated_file_is_valid_up_to_last_complete_fragment() {
    let pieces = complete_file(8);
    let bytes = pieces.concat();
    let mut edges = vec![0];
    let ends = pieces.iter().scan(0, |end, piece| {
        *end += piece.len();
        Some(*end)
    });
    edges.extend(ends.skip(1));
    for cut in 0..=bytes.len() {
        let scan = scan_fragments(&mut Cursor::new(&bytes[..cut])).unwrap();
        let fragments = edges.iter().filter(|edge| **edge <= cut).count() - 1;
        assert_eq!(scan.complete_bytes, edges[fragments] as u64, "cut at {cut}");
        assert_eq!(scan.duration_ticks, fragments as u64 * 90_000, "cut at {cut}");
        assert_eq!(scan.start.is_some(), fragments > 0);
    }
}

#[test]
fn new_parameters_begin_a_file_at_next_keyframe() {
    let (small, large) = (parameters(320), parameters(640));
    let frames = (0..60).map(|n| {
        // The size changes at frame 25, but only frame 30 is a keyframe.
        let parameters = if n < 25 { &small } else { &large };
        (frame(n, n * PERIOD, n % 15 == 0, parameters), Continuity::Steady)
    });
    let files = record(frames, 60);
    assert_eq!(files[0].numbers(), (0..25).collect::<Vec<_>>());
    assert_eq!(files[1].numbers(), (30..60).collect::<Vec<_>>());
}

#[test]
fn wall_clock_step_ends_file_in_its_own_time() {
    let mut segmenter = Segmenter::new(SignedDuration::from_secs(60));
    let mut steps = Vec::new();
    for (n, (frame, _)) in steady_frames(60, 15).enumerate() {
        let offset = if n < 20 { 0 } else { 3600 * TICKS_PER_SECOND };
        let continuity = if n == 20 { Continuity::Stepped } else { Continuity::Steady };
        steps.extend(segmenter.push(frame, continuity, &|ticks| captured_at(ticks + offset)).unwrap());
    }
    steps.extend(segmenter.finish().unwrap());
    let files = files(steps);
    assert_eq!(files[0].closed, Some((captured_at(0), captured_at(30 * PERIOD))));
    assert_eq!(files[1].closed.unwrap().0, captured_at(30 * PERIOD + 3600 * TICKS_PER_SECOND));
}

#[test]
fn camera_clock_jump_begins_a_file() {
    let parameters = parameters(320);
    let frames = (0..60).map(|n| {
        let (ticks, continuity) = match n {
            0..22 => (n * PERIOD, Continuity::Steady),
            22 => (7, Continuity::Jumped),
            _ => ((n - 22) * PERIOD + 7, Continuity::Steady),
        };
        (frame(n, ticks, n % 15 == 0, &parameters), continuity)
    });
    let files = record(frames, 60);
    assert_eq!(files[0].numbers(), (0..22).collect::<Vec<_>>());
    assert_eq!(files[1].numbers(), (30..60).collect::<Vec<_>>());
}

#[test]
fn reordered_frames_keep_their_times() {
    // Decoded I P B B P B B, shown 0 3 1 2 6 4 5, keyframes every 30.
    let parameters = parameters(320);
    let frames = (0..90).map(|n| {
        let shown = match n % 30 {
            0 => n,
            k if k % 3 == 1 => (n + 2).min(n / 30 * 30 + 29),
            _ => n - 1,
        };
        (frame(n, shown * PERIOD, n % 30 == 0, &parameters), Continuity::Steady)
    });
    let files = record(frames, 60);
    assert_eq!(files[0].numbers(), (0..90).collect::<Vec<_>>());
    assert_eq!(files[0].ticks(), 90 * PERIOD);
}

proptest! {
    #[test]
    fn every_frame_from_first_keyframe_is_in_exactly_one_file(
        gaps in proptest::collection::vec((1_i64..40_000, 0_u8..12, 0_u8..60), 1..400),
        seconds in 1_i64..20,
    ) {
        let parameters = parameters(320);
        let mut ticks = 0;
        let mut expected = Vec::new();
        let mut dropping = true;
        let mut frames = Vec::new();
        for (n, (gap, key, odd)) in gaps.into_iter().enumerate() {
            let stall = odd == 1;
            ticks += if stall { STALL_TICKS + gap } else { gap };
            let continuity = match odd { 2 => Continuity::Jumped, 3 => Continuity::Stepped, _ => Continuity::Steady };
            let keyframe = key == 0;
            dropping = (dropping || stall || odd == 2) && !keyframe;
            let n = i64::try_from(n).unwrap();
            if !dropping { expected.push(n); }
            frames.push((frame(n, ticks, keyframe, &parameters), continuity));
        }
        let files = record(frames, seconds);
        let recorded: Vec<i64> = files.iter().flat_map(RecordedFile::numbers).collect();
        prop_assert_eq!(recorded, expected);
        for file in &files {
            let scan = scan_fragments(&mut Cursor::new(&file.bytes)).unwrap();
            prop_assert_eq!(scan.complete_bytes, file.bytes.len() as u64);
            prop_assert_eq!(scan.frames, file.numbers().len() as u64);
        }
    }
}

/// Returns the parts of a file of this many seconds: its start, then a fragment per second.
pub(crate) fn complete_file(seconds: i64) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(SignedDuration::from_secs(3600));
    let mut pieces = Vec::new();
    for (frame, continuity) in steady_frames(15 * seconds, 30) {
        for step in segmenter.push(frame, continuity, &captured_at).unwrap() {
            match step {
                SegmentStep::Open { bytes, .. } | SegmentStep::Append { bytes, .. } => pieces.push(bytes),
                SegmentStep::Close { .. } => {}
            }
        }
    }
    pieces
}
