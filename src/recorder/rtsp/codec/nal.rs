//! Headers of NAL units.

use crate::recorder::frame::Codec;

/// Content of a NAL unit, as far as the recorder distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalKind {
    /// Slice of a picture that is no random access point by its type. In H.264, also data partition A.
    Slice,
    /// Slice of an IDR picture: H.264 type 5, H.265 types 19 and 20.
    Idr,
    /// Slice of another picture that begins a decodable sequence (H.265: BLA, CRA and the reserved types 22 and 23).
    OpenIrap,
    /// Slice of an H.265 picture that cannot be decoded if decoding began at the previous IRAP picture (RASL).
    Rasl,
    /// Further data of a slice, which begins no picture: H.264 data partitions B and C.
    Partition,
    Vps,
    Sps,
    Pps,
    /// Supplemental enhancement information for the picture that follows.
    Sei,
    /// Supplemental enhancement information for the picture before it (H.265 only).
    SuffixSei,
    Delimiter,
    EndOfSequence,
    EndOfStream,
    Filler,
    /// Another unit that stands before the slices of its picture, such as H.264 types 14 to 18.
    Prefix,
    /// Another unit that stands between or after the slices of its picture. It decides nothing.
    Suffix,
    /// A type that no stream has: 0 of H.264, and the types that RTP uses (RFC 6184, section 5.2; RFC 7798, section 4.4).
    Invalid,
}

/// Header of a NAL unit (H.264 and H.265, clause 7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NalHeader {
    pub codec: Codec,
    /// `nal_unit_type`: 0 to 31 of H.264, 0 to 63 of H.265.
    pub unit_type: u8,
    /// `nuh_layer_id`, 0 to 63. Always 0 in H.264.
    pub layer: u8,
    /// `nal_ref_idc` is not 0. Always true in H.265.
    pub is_reference: bool,
    /// `forbidden_zero_bit` is set: somebody on the way knows that the unit is damaged.
    pub is_marked_damaged: bool,
}

impl NalHeader {
    /// Returns `None` if the unit is shorter than its header.
    pub fn read(codec: Codec, unit: &[u8]) -> Option<Self> {
        let first = *unit.first()?;
        let is_marked_damaged = first & 0x80 != 0;
        Some(match codec {
            Codec::H264 => Self {
                codec,
                unit_type: first & 0x1F,
                layer: 0,
                is_reference: first & 0x60 != 0,
                is_marked_damaged,
            },
            Codec::H265 => Self {
                codec,
                unit_type: first >> 1 & 0x3F,
                layer: (first & 1) << 5 | *unit.get(1)? >> 3,
                is_reference: true,
                is_marked_damaged,
            },
        })
    }

    /// Length of the header in bytes.
    pub fn length(self) -> usize {
        header_length(self.codec)
    }

    pub fn kind(self) -> NalKind {
        match self.codec {
            Codec::H264 => h264_kind(self.unit_type),
            Codec::H265 => h265_kind(self.unit_type),
        }
    }

    /// Returns whether the unit has coded data of a picture's base layer.
    pub fn is_slice(self) -> bool {
        self.layer == 0
            && matches!(
                self.kind(),
                NalKind::Slice | NalKind::Idr | NalKind::OpenIrap | NalKind::Rasl | NalKind::Partition
            )
    }

    /// Returns whether the unit begins an access unit if it is the first of its kind after the slices of a picture (H.264,
    /// clause 7.4.1.2.3; H.265, clause 7.4.2.4.4). A slice only does if it is the first one of another picture.
    pub fn may_begin_unit(self) -> bool {
        self.layer == 0
            && match self.kind() {
                NalKind::Slice
                | NalKind::Idr
                | NalKind::OpenIrap
                | NalKind::Rasl
                | NalKind::Vps
                | NalKind::Sps
                | NalKind::Pps
                | NalKind::Sei
                | NalKind::Delimiter
                | NalKind::Prefix => true,
                NalKind::Partition
                | NalKind::SuffixSei
                | NalKind::EndOfSequence
                | NalKind::EndOfStream
                | NalKind::Filler
                | NalKind::Suffix
                | NalKind::Invalid => false,
            }
    }
}

/// Returns the length of the headers of a codec in bytes.
pub fn header_length(codec: Codec) -> usize {
    match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
    }
}

/// H.264, table 7-1.
fn h264_kind(unit_type: u8) -> NalKind {
    match unit_type {
        1 | 2 => NalKind::Slice,
        3 | 4 => NalKind::Partition,
        5 => NalKind::Idr,
        6 => NalKind::Sei,
        7 => NalKind::Sps,
        8 => NalKind::Pps,
        9 => NalKind::Delimiter,
        10 => NalKind::EndOfSequence,
        11 => NalKind::EndOfStream,
        12 => NalKind::Filler,
        14..=18 => NalKind::Prefix,
        13 | 19..=23 => NalKind::Suffix,
        _ => NalKind::Invalid,
    }
}

/// H.265, table 7-1.
fn h265_kind(unit_type: u8) -> NalKind {
    match unit_type {
        8 | 9 => NalKind::Rasl,
        16..=18 | 21..=23 => NalKind::OpenIrap,
        19 | 20 => NalKind::Idr,
        0..=31 => NalKind::Slice,
        32 => NalKind::Vps,
        33 => NalKind::Sps,
        34 => NalKind::Pps,
        35 => NalKind::Delimiter,
        36 => NalKind::EndOfSequence,
        37 => NalKind::EndOfStream,
        38 => NalKind::Filler,
        39 => NalKind::Sei,
        40 => NalKind::SuffixSei,
        41..=44 => NalKind::Prefix,
        45..=47 => NalKind::Suffix,
        _ => NalKind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(codec: Codec, expected: &[(std::ops::RangeInclusive<u8>, NalKind)]) {
        let mut seen = 0;
        for (types, kind) in expected {
            for unit_type in types.clone() {
                let unit = match codec {
                    Codec::H264 => [0x60 | unit_type, 0],
                    Codec::H265 => [unit_type << 1, 1],
                };
                let header = NalHeader::read(codec, &unit).unwrap();
                assert_eq!((header.unit_type, header.kind()), (unit_type, *kind));
                seen += 1;
            }
        }
        assert_eq!(seen, if codec == Codec::H264 { 32 } else { 64 });
    }

    #[test]
    fn types_of_h264_are_those_of_table_7_1() {
        kinds(
            Codec::H264,
            &[
                (0..=0, NalKind::Invalid),
                (1..=2, NalKind::Slice),
                (3..=4, NalKind::Partition),
                (5..=5, NalKind::Idr),
                (6..=6, NalKind::Sei),
                (7..=7, NalKind::Sps),
                (8..=8, NalKind::Pps),
                (9..=9, NalKind::Delimiter),
                (10..=10, NalKind::EndOfSequence),
                (11..=11, NalKind::EndOfStream),
                (12..=12, NalKind::Filler),
                (13..=13, NalKind::Suffix),
                (14..=18, NalKind::Prefix),
                (19..=23, NalKind::Suffix),
                (24..=31, NalKind::Invalid),
            ],
        );
    }

    #[test]
    fn types_of_h265_are_those_of_table_7_1() {
        kinds(
            Codec::H265,
            &[
                (0..=7, NalKind::Slice),
                (8..=9, NalKind::Rasl),
                (10..=15, NalKind::Slice),
                (16..=18, NalKind::OpenIrap),
                (19..=20, NalKind::Idr),
                (21..=23, NalKind::OpenIrap),
                (24..=31, NalKind::Slice),
                (32..=32, NalKind::Vps),
                (33..=33, NalKind::Sps),
                (34..=34, NalKind::Pps),
                (35..=35, NalKind::Delimiter),
                (36..=36, NalKind::EndOfSequence),
                (37..=37, NalKind::EndOfStream),
                (38..=38, NalKind::Filler),
                (39..=39, NalKind::Sei),
                (40..=40, NalKind::SuffixSei),
                (41..=44, NalKind::Prefix),
                (45..=47, NalKind::Suffix),
                (48..=63, NalKind::Invalid),
            ],
        );
    }

    #[test]
    fn units_that_begin_an_access_unit_are_those_of_the_standards() {
        let begins = |codec, first: &dyn Fn(u8) -> [u8; 2], types: std::ops::Range<u8>| -> Vec<u8> {
            types.filter(|kind| NalHeader::read(codec, &first(*kind)).unwrap().may_begin_unit()).collect()
        };
        let h264 = begins(Codec::H264, &|kind| [kind, 0], 0..32);
        assert_eq!(h264, [1, 2, 5, 6, 7, 8, 9, 14, 15, 16, 17, 18]);
        let h265 = begins(Codec::H265, &|kind| [kind << 1, 1], 0..64);
        let expected: Vec<u8> = (0..36).chain([39]).chain(41..45).collect();
        assert_eq!(h265, expected);
        // Units of another layer belong to the picture of the base layer.
        assert!(begins(Codec::H265, &|kind| [kind << 1, 1 << 3 | 1], 0..64).is_empty());
    }

    #[test]
    fn headers_have_layer_reference_and_forbidden_bit() {
        let read = |codec, unit: &[u8]| NalHeader::read(codec, unit);
        let header = read(Codec::H264, &[0x67]).unwrap();
        assert!(header.is_reference && !header.is_marked_damaged);
        assert_eq!((header.layer, header.length()), (0, 1));
        let header = read(Codec::H264, &[0x81]).unwrap();
        assert!(!header.is_reference && header.is_marked_damaged);
        let header = read(Codec::H265, &[0x43, 0x09]).unwrap();
        assert_eq!((header.unit_type, header.layer, header.length()), (33, 33, 2));
        assert!(!header.is_slice() && !header.is_marked_damaged);
        assert_eq!(read(Codec::H265, &[0x42]), None);
        assert_eq!(read(Codec::H264, &[]), None);
    }
}
