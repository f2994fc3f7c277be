//! What a stream does to its parameter sets.

use proptest::prelude::*;

use super::*;
use crate::recorder::rtsp::sdp::read_sdp;

/// Sets of x264 and x265, without VUI where that is short enough: 320x240, and 1920x1080.
const SMALL: &str = "6742c00dd90141fb011000000300100000030320f142a480";
const LARGE: &str = "67640028acd940780227e5c044000003000400000300c83c60c658";
/// 320x240 with id 7, and its PPS with id 7.
const SMALL_7: &str = "6764000d10b3650507ec0440000003004000000c83c50a6580";
const PPS_7: &str = "681022be3cb22c";
const PPS: &str = "68cb83cb20";
const OTHER_PPS: &str = "68ebe3cb22c0";
const H265: [&str; 3] = [
    "40010c01ffff01600000030090000003000003003c959009",
    "42010101600000030090000003000003003ca00a080f16595924932bc05a020000030002000003003210",
    "4401c172b46240",
];

struct Stream {
    sets: ParameterSets,
    odd: OddityCounts,
}

impl Stream {
    fn new(codec: Codec) -> Self {
        Self { sets: ParameterSets::new(codec), odd: OddityCounts::default() }
    }

    fn add(&mut self, unit: &str) -> SetChange {
        self.sets.add(&hex::decode(unit).unwrap(), &mut self.odd)
    }

    fn size(&mut self) -> Option<(u16, u16)> {
        self.sets.video_parameters().map(|parameters| (parameters.width, parameters.height))
    }
}

fn contains(parameters: &VideoParameters, unit: &str) -> bool {
    let unit = hex::decode(unit).unwrap();
    parameters.sample_entry.windows(unit.len()).any(|bytes| bytes == unit)
}

#[test]
fn parameters_need_an_sps_and_a_pps_of_it() {
    let mut stream = Stream::new(Codec::H264);
    assert_eq!(stream.size(), None);
    assert_eq!(stream.add(PPS), SetChange::New);
    assert_eq!(stream.size(), None);
    assert_eq!(stream.add(SMALL_7), SetChange::New);
    assert_eq!(stream.size(), None);
    assert_eq!(stream.add(PPS_7), SetChange::New);
    assert_eq!(stream.size(), Some((320, 240)));
    let mut stream = Stream::new(Codec::H265);
    // Some decoders need no VPS.
    assert_eq!(stream.add(H265[1]), SetChange::New);
    assert_eq!(stream.add(H265[2]), SetChange::New);
    assert_eq!(stream.size(), Some((320, 240)));
    let sequence = stream.sets.sequence();
    assert_eq!(stream.add(H265[0]), SetChange::New);
    assert!(contains(&stream.sets.video_parameters().unwrap(), H265[0]));
    assert_ne!(stream.sets.sequence(), sequence);
}

#[test]
fn repeated_sets_change_nothing() {
    let mut stream = Stream::new(Codec::H264);
    stream.add(SMALL);
    stream.add(PPS);
    let (before, sequence) = (stream.sets.video_parameters().unwrap(), stream.sets.sequence());
    assert_eq!(stream.add(SMALL), SetChange::Same);
    assert_eq!(stream.add(PPS), SetChange::Same);
    // Zeros at the end belong to no unit.
    assert_eq!(stream.add(&format!("{SMALL}0000")), SetChange::Same);
    assert!(Arc::ptr_eq(&before, &stream.sets.video_parameters().unwrap()));
    assert_eq!(stream.sets.sequence(), sequence);
}

#[test]
fn changed_pps_stays_in_the_sequence() {
    let mut stream = Stream::new(Codec::H264);
    stream.add(SMALL);
    stream.add(PPS);
    let (before, sequence) = (stream.sets.video_parameters().unwrap(), stream.sets.sequence());
    assert_eq!(stream.add(OTHER_PPS), SetChange::Changed);
    let after = stream.sets.video_parameters().unwrap();
    assert!(contains(&before, PPS) && !contains(&before, OTHER_PPS));
    assert!(contains(&after, OTHER_PPS) && !contains(&after, PPS));
    assert_eq!(stream.sets.sequence(), sequence);
}

#[test]
fn changed_sps_begins_a_sequence() {
    let mut stream = Stream::new(Codec::H264);
    stream.add(SMALL);
    stream.add(PPS);
    assert!(stream.sets.activate(0));
    let sequence = stream.sets.sequence();
    assert_eq!(stream.add(LARGE), SetChange::Changed);
    assert_ne!(stream.sets.sequence(), sequence);
    assert_eq!(stream.size(), Some((1920, 1080)));
}

#[test]
fn slices_choose_among_several_sps() {
    let mut stream = Stream::new(Codec::H264);
    for unit in [LARGE, PPS, SMALL_7, PPS_7] {
        assert_eq!(stream.add(unit), SetChange::New);
    }
    // The newest one, before the first slice.
    assert_eq!(stream.size(), Some((320, 240)));
    assert!(stream.sets.activate(0));
    assert_eq!(stream.size(), Some((1920, 1080)));
    let sequence = stream.sets.sequence();
    // The other sets come again, as before each keyframe.
    for unit in [SMALL_7, PPS_7, LARGE, PPS] {
        assert_eq!(stream.add(unit), SetChange::Same);
    }
    assert!(stream.sets.activate(0));
    assert_eq!(stream.sets.sequence(), sequence);
    assert!(!stream.sets.activate(3));
    assert_eq!(stream.size(), Some((1920, 1080)));
    assert!(stream.sets.activate(7));
    assert_eq!(stream.size(), Some((320, 240)));
    assert_ne!(stream.sets.sequence(), sequence);
    let parameters = stream.sets.video_parameters().unwrap();
    assert!([LARGE, PPS, SMALL_7, PPS_7].iter().all(|unit| contains(&parameters, unit)));
}

#[test]
fn stream_replaces_the_sets_of_its_description() {
    let text = b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets=\
        Z0LADdkBQfsBEAAAAwAQAAADAyDxQqSA,aMuDyyA=,CRA=\n";
    let mut stream = Stream::new(Codec::H264);
    let session = read_sdp(text, &mut stream.odd).unwrap();
    stream.sets.add_description(&session.media[0].formats[0].parameters, &mut stream.odd);
    assert_eq!(stream.size(), Some((320, 240)));
    // The third one is a delimiter.
    assert_eq!(stream.odd.get(Oddity::SetInDescription), 1);
    assert_eq!(stream.add(SMALL), SetChange::Same);
    assert_eq!(stream.add(LARGE), SetChange::Changed);
    assert_eq!(stream.size(), Some((1920, 1080)));
}

#[test]
fn other_units_and_broken_sets_are_ignored() {
    let mut stream = Stream::new(Codec::H264);
    for unit in ["", "65888400", "060602", "0910"] {
        assert_eq!(stream.add(unit), SetChange::Ignored, "{unit}");
    }
    assert_eq!(stream.odd, OddityCounts::default());
    for unit in ["67", "6764", "6764002800", "68", "680000000001"] {
        assert_eq!(stream.add(unit), SetChange::Ignored, "{unit}");
    }
    assert_eq!(stream.odd.get(Oddity::SetMalformed), 5);
    // A set of another layer.
    let mut stream = Stream::new(Codec::H265);
    assert_eq!(stream.add("400901"), SetChange::Ignored);
    assert_eq!(stream.odd, OddityCounts::default());
    assert_eq!(stream.add("4001"), SetChange::Ignored);
    assert_eq!(stream.odd.get(Oddity::SetMalformed), 1);
}

/// Returns a PPS of SPS 0 with an id, and `filler` more bytes.
fn pps_of(id: u8, filler: usize) -> Vec<u8> {
    let code = u32::from(id) + 1;
    let zeros = code.ilog2() as usize;
    let bits = format!("{}{code:b}11", "0".repeat(zeros));
    let mut unit = vec![0x68];
    for byte in bits.as_bytes().chunks(8) {
        unit.push(byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | (bit & 1) << (7 - at)));
    }
    unit.resize(unit.len() + filler, 0xFF);
    unit
}

#[test]
fn sets_are_bounded() {
    let mut stream = Stream::new(Codec::H264);
    let mut add = |unit: &[u8]| stream.sets.add(unit, &mut stream.odd);
    assert_eq!(add(&pps_of(0, MAX_SET_BYTES)), SetChange::Ignored);
    for id in 0..255 {
        assert_eq!(add(&pps_of(id, 0)), SetChange::New, "{id}");
    }
    assert_eq!(add(&pps_of(255, 0)), SetChange::Ignored);
    // A changed set may replace one of these.
    assert_eq!(add(&pps_of(7, 10)), SetChange::Changed);
    assert_eq!(stream.odd.get(Oddity::SetOverLimit), 2);
    let mut stream = Stream::new(Codec::H264);
    let mut add = |unit: &[u8]| stream.sets.add(unit, &mut stream.odd);
    for id in 0..4 {
        assert_eq!(add(&pps_of(id, 4000)), SetChange::New, "{id}");
    }
    assert_eq!(add(&pps_of(4, 4000)), SetChange::Ignored);
    assert_eq!(add(&pps_of(3, 4001)), SetChange::Changed);
    assert_eq!(add(&pps_of(3, 100)), SetChange::Changed);
    assert_eq!(add(&pps_of(4, 3000)), SetChange::New);
}

proptest! {
    #[test]
    fn any_units_are_taken(
        units in proptest::collection::vec(
            (0_usize..6, proptest::collection::vec(any::<u8>(), 0..40), any::<u8>()),
            0..40,
        ),
    ) {
        for codec in [Codec::H264, Codec::H265] {
            let mut stream = Stream::new(codec);
            let mut sequence = stream.sets.sequence();
            for (first, rest, pps_id) in &units {
                let mut unit = vec![[0x67, 0x68, 0x40, 0x42, 0x44, 0x65][*first], 1];
                unit.extend(rest);
                let change = stream.sets.add(&unit, &mut stream.odd);
                let is_news = matches!(change, SetChange::New | SetChange::Changed);
                prop_assert!(is_news || stream.sets.sequence() == sequence);
                if change != SetChange::Ignored {
                    prop_assert_eq!(stream.sets.add(&unit, &mut stream.odd), SetChange::Same);
                }
                stream.sets.activate(*pps_id);
                sequence = stream.sets.sequence();
                if let Some(parameters) = stream.sets.video_parameters() {
                    prop_assert!(parameters.width > 0 && parameters.height > 0);
                    prop_assert!(parameters.sample_entry.len() < 2 * MAX_BYTES);
                }
            }
        }
    }
}
