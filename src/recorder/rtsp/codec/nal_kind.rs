//! Kinds of NAL units, as far as they decide where pictures begin.

use super::super::super::frame::Codec;

/// Kind of a NAL unit (ITU-T H.264, clause 7.4.1.2.3; ITU-T H.265, clause 7.4.2.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalKind {
    /// Slice of the base layer, with a slice header.
    Slice,
    /// Further part of a picture that decides nothing: partitions B and C, layers above the base, and reserved slices.
    Extension,
    /// VPS, SPS, PPS, and their extensions.
    ParameterSet,
    /// Access unit delimiter.
    Delimiter,
    /// SEI of the next picture.
    Sei,
    /// Another NAL unit before a picture.
    Prefix,
    /// NAL unit after a picture: end of sequence, suffix SEI.
    Suffix,
    /// Filler data.
    Filler,
    /// Type that no NAL unit of a stream has, such as those of RTP payloads.
    Unknown,
}

impl NalKind {
    /// Reads the kind from the header: one byte of H.264, two bytes of H.265.
    pub fn read(codec: Codec, header: &[u8]) -> Self {
        let mut bytes = header.iter().copied();
        let (first, second) = (bytes.next().unwrap_or_default(), bytes.next().unwrap_or_default());
        match codec {
            Codec::H264 => Self::of_h264(first & 0x1f),
            Codec::H265 => {
                let layer = (first & 1) << 5 | second >> 3;
                let kind = Self::of_h265(first >> 1 & 0x3f);
                if layer > 0 && kind != Self::Unknown { Self::Extension } else { kind }
            }
        }
    }

    /// ITU-T H.264, table 7-1.
    fn of_h264(nal_unit_type: u8) -> Self {
        match nal_unit_type {
            1 | 2 | 5 => Self::Slice,
            3 | 4 | 19..=23 => Self::Extension,
            6 => Self::Sei,
            7 | 8 | 13 | 15 => Self::ParameterSet,
            9 => Self::Delimiter,
            10 | 11 => Self::Suffix,
            12 => Self::Filler,
            14 | 16..=18 => Self::Prefix,
            _ => Self::Unknown,
        }
    }

    /// ITU-T H.265, table 7-1. Types 48 to 50 are those of RTP payloads.
    fn of_h265(nal_unit_type: u8) -> Self {
        match nal_unit_type {
            0..=9 | 16..=23 => Self::Slice,
            10..=15 | 24..=31 => Self::Extension,
            32..=34 => Self::ParameterSet,
            35 => Self::Delimiter,
            38 => Self::Filler,
            39 => Self::Sei,
            41..=44 | 51..=55 => Self::Prefix,
            36 | 37 | 40 | 45..=47 | 56..=63 => Self::Suffix,
            _ => Self::Unknown,
        }
    }

    /// Returns whether a picture may be shown wrongly without it.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::Slice | Self::Extension | Self::ParameterSet | Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_depends_on_type_and_layer() {
        for (header, kind) in [
            (0x65, NalKind::Slice),
            (0x41, NalKind::Slice),
            (0x67, NalKind::ParameterSet),
            (0x68, NalKind::ParameterSet),
            (0x06, NalKind::Sei),
            (0x09, NalKind::Delimiter),
            (0x0c, NalKind::Filler),
            (0x78, NalKind::Unknown),
            (0x00, NalKind::Unknown),
        ] {
            assert_eq!(NalKind::read(Codec::H264, &[header]), kind, "{header:x}");
        }
        for (header, kind) in [
            ([0x26, 0x01], NalKind::Slice),
            ([0x2a, 0x01], NalKind::Slice),
            ([0x02, 0x01], NalKind::Slice),
            ([0x02, 0x09], NalKind::Extension),
            ([0x03, 0x01], NalKind::Extension),
            ([0x40, 0x01], NalKind::ParameterSet),
            ([0x40, 0x09], NalKind::Extension),
            ([0x46, 0x01], NalKind::Delimiter),
            ([0x4c, 0x01], NalKind::Filler),
            ([0x4e, 0x01], NalKind::Sei),
            ([0x50, 0x01], NalKind::Suffix),
            ([0x62, 0x01], NalKind::Unknown),
        ] {
            assert_eq!(NalKind::read(Codec::H265, &header), kind, "{header:x?}");
        }
        assert_eq!(NalKind::read(Codec::H264, &[]), NalKind::Unknown);
    }
}
