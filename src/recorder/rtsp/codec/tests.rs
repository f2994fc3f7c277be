//! Units that ffmpeg's encoders made, against the values that ffmpeg read in them.

use mp4_atom::{Decode, Encode};

use super::*;
use crate::recorder::frame::{Codec, VideoParameters};
use crate::recorder::rtsp::oddity::OddityCounts;

const UNITS: &str = include_str!("../../../../tests/expected/nal-units.txt");

/// One of the other lines: a word, values, and a unit.
type Line = (&'static str, Vec<Option<u32>>, Vec<u8>);

struct Clip {
    name: &'static str,
    codec: Codec,
    size: (u16, u16),
    /// Content of `avcC` or `hvcC`.
    entry: Vec<u8>,
    lines: Vec<Line>,
}

impl Clip {
    fn header(&self, unit: &[u8]) -> NalHeader {
        NalHeader::read(self.codec, unit).unwrap()
    }

    fn of(&self, word: &str) -> impl Iterator<Item = (&[Option<u32>], &[u8])> {
        self.lines
            .iter()
            .filter(move |line| line.0 == word)
            .map(|(_, values, unit)| (values.as_slice(), unit.as_slice()))
    }

    fn sets(&self) -> Vec<&[u8]> {
        ["vps", "sps", "pps"].into_iter().flat_map(|word| self.of(word)).map(|(_, unit)| unit).collect()
    }

    fn parameter_sets(&self) -> ParameterSets {
        let mut odd = OddityCounts::default();
        let mut sets = ParameterSets::new(self.codec);
        for unit in self.sets() {
            assert_eq!(sets.add(unit, &mut odd), SetChange::New, "{}", self.name);
        }
        assert_eq!(odd, OddityCounts::default(), "{}", self.name);
        sets
    }
}

fn clips() -> Vec<Clip> {
    let mut clips: Vec<Clip> = Vec::new();
    for line in UNITS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["clip", name, codec, width, height] => clips.push(Clip {
                name,
                codec: if *codec == "h264" { Codec::H264 } else { Codec::H265 },
                size: (width.parse().unwrap(), height.parse().unwrap()),
                entry: Vec::new(),
                lines: Vec::new(),
            }),
            ["entry", entry] => clips.last_mut().unwrap().entry = hex::decode(entry).unwrap(),
            [word, values @ .., unit] => {
                let values = values.iter().map(|value| value.parse().ok()).collect();
                clips.last_mut().unwrap().lines.push((word, values, hex::decode(unit).unwrap()));
            }
            _ => panic!("{line}"),
        }
    }
    assert!(clips.len() > 25);
    clips
}

fn clip(name: &str) -> Clip {
    clips().into_iter().find(|clip| clip.name == name).unwrap()
}

/// Returns the kind of the sample entry, and the content of its first box.
fn configuration(parameters: &VideoParameters) -> (&[u8], &[u8], &[u8]) {
    let entry = parameters.sample_entry.as_slice();
    // 8 bytes of a box, 8 of a sample entry, 70 of a visual one.
    let inner = &entry[86..];
    assert_eq!(u32::from_be_bytes(entry[..4].try_into().unwrap()) as usize, entry.len());
    assert_eq!(u32::from_be_bytes(inner[..4].try_into().unwrap()) as usize, inner.len());
    (&entry[4..8], &inner[4..8], &inner[8..])
}

#[test]
fn sample_entries_equal_those_of_ffmpeg() {
    for clip in clips() {
        let parameters = clip.parameter_sets().video_parameters().unwrap();
        let (entry, kind, content) = configuration(&parameters);
        let expected: (&[u8], &[u8]) = match clip.codec {
            Codec::H264 => (b"avc3", b"avcC"),
            Codec::H265 => (b"hev1", b"hvcC"),
        };
        assert_eq!((entry, kind), expected, "{}", clip.name);
        assert_eq!(hex::encode(content), hex::encode(&clip.entry), "{}", clip.name);
        assert_eq!((parameters.width, parameters.height), clip.size, "{}", clip.name);
        let in_entry = &parameters.sample_entry[32..36];
        assert_eq!(
            in_entry,
            [clip.size.0.to_be_bytes(), clip.size.1.to_be_bytes()].concat(),
            "{}",
            clip.name
        );
    }
}

#[test]
fn sample_entries_pass_the_muxer_unchanged() {
    for clip in clips() {
        let entry = clip.parameter_sets().video_parameters().unwrap().sample_entry.clone();
        let mut again = Vec::new();
        mp4_atom::Codec::decode(&mut entry.as_slice()).unwrap().encode(&mut again).unwrap();
        assert_eq!(hex::encode(&again), hex::encode(&entry), "{}", clip.name);
    }
}

#[test]
fn starts_of_slices_have_the_values_that_ffmpeg_reads() {
    for clip in clips() {
        let sets = clip.parameter_sets();
        for (values, unit) in clip.of("slice") {
            let header = clip.header(unit);
            let context = format!("{} {}", clip.name, hex::encode(unit));
            let slice = SliceStart::read(header, unit, &sets).expect(&context);
            assert_eq!(Some(u32::from(header.unit_type)), values[0], "{context}");
            assert!(header.is_slice() && header.may_begin_unit(), "{context}");
            match (clip.codec, &values[1..]) {
                (Codec::H264, [first, kind, pps, number, is_field, is_bottom, idr, order, reference]) => {
                    assert_eq!(slice.is_first, *first == Some(0), "{context}");
                    assert_eq!(slice.is_intra, kind.map(|kind| kind % 5 == 2), "{context}");
                    assert_eq!(Some(u32::from(slice.pps_id)), *pps, "{context}");
                    let picture = slice.picture.expect(&context);
                    assert_eq!(Some(u32::from(picture.frame_num)), *number, "{context}");
                    let structure = match (is_field, is_bottom) {
                        (None | Some(0), _) => Structure::Frame,
                        (_, Some(0)) => Structure::TopField,
                        _ => Structure::BottomField,
                    };
                    assert_eq!(picture.structure, structure, "{context}");
                    assert_eq!(picture.idr_id.map(u32::from), *idr, "{context}");
                    assert_eq!(picture.order_count.map(u32::from), *order, "{context}");
                    assert_eq!(picture.is_reference, *reference != Some(0), "{context}");
                }
                (Codec::H265, [first, kind, pps]) => {
                    let is_irap = (16..24).contains(&header.unit_type);
                    assert_eq!(slice.is_first, *first == Some(1), "{context}");
                    if slice.is_first || is_irap {
                        assert_eq!(slice.is_intra, kind.map(|kind| kind == 2), "{context}");
                    } else {
                        assert_eq!(slice.is_intra, None, "{context}");
                    }
                    assert_eq!(Some(u32::from(slice.pps_id)), *pps, "{context}");
                    assert_eq!(slice.picture, None, "{context}");
                }
                _ => panic!("{context}"),
            }
        }
    }
}

#[test]
fn recovery_points_have_the_values_that_ffmpeg_reads() {
    let mut found = 0;
    for clip in clips() {
        for (values, unit) in clip.of("recovery") {
            let point = RecoveryPoint::read(clip.header(unit), unit).unwrap();
            let flags = [u32::from(point.is_exact), u32::from(point.is_broken_link)];
            assert_eq!([point.frames, flags[0], flags[1]].map(Some), values, "{}", clip.name);
            found += 1;
        }
        for (_, unit) in clip.of("slice").chain(clip.of("sps")) {
            assert_eq!(RecoveryPoint::read(clip.header(unit), unit), None, "{}", clip.name);
        }
    }
    assert!(found >= 3);
}

#[test]
fn slices_of_one_picture_begin_no_other() {
    let starts = |name: &str| -> Vec<SliceStart> {
        let (clip, sets) = (clip(name), clip(name).parameter_sets());
        clip.of("slice").map(|(_, unit)| SliceStart::read(clip.header(unit), unit, &sets).unwrap()).collect()
    };
    let begins = |slices: &[SliceStart]| -> Vec<bool> {
        slices.windows(2).map(|pair| pair[1].begins_picture(&pair[0])).collect()
    };
    // Three slices a picture, then two.
    let full_hd = starts("full_hd");
    assert_eq!(begins(&full_hd), [false, false, true, false, false]);
    assert_eq!(begins(&starts("cropped")), [false, true, false, true, false]);
    assert_eq!(begins(&starts("main_cropped")), [true, true, true]);
    // The first slice of the second picture is lost.
    assert!(full_hd[4].begins_picture(&full_hd[2]));
    assert!(full_hd[4].begins_picture(&full_hd[1]));
    assert!(!full_hd[5].begins_picture(&full_hd[3]));
    // Without sets, only the position counts.
    let unknown = |index: usize| SliceStart { picture: None, ..full_hd[index] };
    assert!(!unknown(4).begins_picture(&unknown(2)));
    assert!(unknown(3).begins_picture(&unknown(2)));
}

#[test]
fn two_fields_are_one_frame() {
    let clip = clip("fields");
    let sets = clip.parameter_sets();
    let fields: Vec<SliceStart> =
        clip.of("slice").map(|(_, unit)| SliceStart::read(clip.header(unit), unit, &sets).unwrap()).collect();
    let pairs: Vec<bool> = fields.windows(2).map(|pair| pair[1].is_second_field(&pair[0])).collect();
    assert_eq!(pairs, [true, false, true, false, true]);
    assert!(fields.windows(2).all(|pair| pair[1].begins_picture(&pair[0])));
    assert!(!fields[2].is_second_field(&fields[0]));
    let frame = super::tests::clip("interlaced");
    let (_, unit) = frame.of("slice").next().unwrap();
    let frame_start = SliceStart::read(frame.header(unit), unit, &sets).unwrap();
    assert!(!fields[1].is_second_field(&frame_start) && !frame_start.is_second_field(&fields[0]));
}

#[test]
fn a_slice_without_its_sets_has_its_position_only() {
    for name in ["main_cropped", "main"] {
        let clip = clip(name);
        let empty = ParameterSets::new(clip.codec);
        for (_, unit) in clip.of("slice") {
            let slice = SliceStart::read(clip.header(unit), unit, &empty).unwrap();
            assert!(slice.is_first, "{name}");
            assert_eq!(slice.picture, None, "{name}");
        }
    }
}

#[test]
fn units_cut_anywhere_are_refused_or_read() {
    for clip in clips() {
        let sets = clip.parameter_sets();
        for (_, _, unit) in &clip.lines {
            for length in 0..unit.len() {
                let mut odd = OddityCounts::default();
                let unit = &unit[..length];
                ParameterSets::new(clip.codec).add(unit, &mut odd);
                if let Some(header) = NalHeader::read(clip.codec, unit) {
                    let _ = SliceStart::read(header, unit, &sets);
                    let _ = RecoveryPoint::read(header, unit);
                }
            }
        }
    }
}
