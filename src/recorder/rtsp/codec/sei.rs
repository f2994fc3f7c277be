//! Recovery points in supplemental enhancement information.

use super::bits::{BitReader, PayloadBytes};
use super::nal::{NalHeader, NalKind};
use crate::recorder::frame::Codec;

/// Payload type of a recovery point, the same in both codecs (H.264, clause D.1.8; H.265, clause D.2.8).
const RECOVERY_POINT: u32 = 6;
/// Highest count that the standards allow: `MaxFrameNum` − 1, or half of `MaxPicOrderCntLsb` − 1.
const MAX_FRAMES: u32 = 65_535;

/// Announcement that decoding can begin at this picture, although it is no IDR picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// Pictures until the output is right: `recovery_frame_cnt` of H.264, or `recovery_poc_cnt` of H.265, 0 to 65,535. 0 if
    /// the count of H.265 is negative: then an earlier picture in output order is right.
    pub frames: u32,
    /// The output is exactly right, not only nearly.
    pub is_exact: bool,
    /// Pictures before this one were cut off, so that pictures near it in output order may be wrong.
    pub is_broken_link: bool,
}

impl RecoveryPoint {
    /// Reads the first recovery point of a prefix SEI unit. Returns `None` if there is none. Takes linear time.
    pub fn read(header: NalHeader, unit: &[u8]) -> Option<Self> {
        if header.kind() != NalKind::Sei || header.layer != 0 {
            return None;
        }
        let mut bytes = PayloadBytes::new(unit, header.length());
        loop {
            let kind = sum(&mut bytes)?;
            let size = sum(&mut bytes)?;
            if kind == RECOVERY_POINT {
                let size = usize::try_from(size).ok()?;
                return Self::read_payload(header.codec, BitReader::new(bytes.take(size)));
            }
            for _ in 0..size {
                bytes.next()?;
            }
        }
    }

    fn read_payload(codec: Codec, mut bits: BitReader<impl Iterator<Item = u8>>) -> Option<Self> {
        let frames = match codec {
            Codec::H264 => bits.unsigned()?,
            Codec::H265 => u32::try_from(bits.signed()?).unwrap_or(0),
        };
        Some(Self { frames: frames.min(MAX_FRAMES), is_exact: bits.bit()?, is_broken_link: bits.bit()? })
    }
}

/// Reads a payload type or size: any number of 255, then the rest (H.264 and H.265, clause 7.3.5).
fn sum(bytes: &mut PayloadBytes<'_>) -> Option<u32> {
    let mut sum: u32 = 0;
    loop {
        let byte = bytes.next()?;
        sum = sum.checked_add(byte.into())?;
        if byte != 255 {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(codec: Codec, unit: &[u8]) -> Option<RecoveryPoint> {
        RecoveryPoint::read(NalHeader::read(codec, unit)?, unit)
    }

    fn point(frames: u32, is_exact: bool, is_broken_link: bool) -> RecoveryPoint {
        RecoveryPoint { frames, is_exact, is_broken_link }
    }

    #[test]
    fn h264_counts_frames() {
        // Count 0 (1), exact (1), not broken (0), slice groups (00), stop (1).
        assert_eq!(read(Codec::H264, &[6, 6, 1, 0b1100_0100, 0x80]), Some(point(0, true, false)));
        // Count 14 (0001111), not exact, broken.
        assert_eq!(
            read(Codec::H264, &[6, 6, 2, 0b0001_1110, 0b1001_0000, 0x80]),
            Some(point(14, false, true))
        );
    }

    #[test]
    fn h265_counts_pictures_in_output_order() {
        // Count 2 (00100), exact, not broken.
        assert_eq!(read(Codec::H265, &[0x4E, 1, 6, 1, 0b0010_0101, 0x80]), Some(point(2, true, false)));
        // Count -2 (00101), exact, broken.
        assert_eq!(read(Codec::H265, &[0x4E, 1, 6, 1, 0b0010_1111, 0x80]), Some(point(0, true, true)));
        // The highest count: 15 zeros, 16 ones.
        assert_eq!(read(Codec::H264, &[6, 6, 5, 0, 1, 0xFF, 0xFE, 0x90]), Some(point(65_534, false, true)));
        // A suffix SEI, and one of another layer.
        assert_eq!(read(Codec::H265, &[0x50, 1, 6, 1, 0b0010_0101, 0x80]), None);
        assert_eq!(read(Codec::H265, &[0x4E, 9, 6, 1, 0b0010_0101, 0x80]), None);
    }

    #[test]
    fn other_messages_may_stand_before() {
        let mut unit = vec![6, 5, 255, 1];
        unit.extend([9; 256]);
        // Type 260, size 0.
        unit.extend([255, 5, 0]);
        unit.extend([6, 1, 0b1100_0100, 0x80]);
        assert_eq!(read(Codec::H264, &unit), Some(point(0, true, false)));
        // The message before claims more than there is.
        unit[3] = 200;
        assert_eq!(read(Codec::H264, &unit), None);
    }

    #[test]
    fn sizes_count_no_emulation_prevention_bytes() {
        // A message of the bytes 0, 0, 1.
        let unit = [6, 1, 3, 0, 0, 3, 1, 6, 1, 0b1100_0100, 0x80];
        assert_eq!(read(Codec::H264, &unit), Some(point(0, true, false)));
    }

    #[test]
    fn units_without_a_recovery_point_have_none() {
        for unit in
            [&[6][..], &[6, 6], &[6, 6, 0, 0x80], &[6, 5, 1, 0, 0x80], &[6, 0x80], &[1, 6, 1, 0b1100_0100]]
        {
            assert_eq!(read(Codec::H264, unit), None, "{unit:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::H264, Codec::H265] {
                for first in [6, 0x4E] {
                    let mut unit = vec![first, 1];
                    unit.extend(&bytes);
                    let frames = read(codec, &unit).map_or(0, |point| point.frames);
                    prop_assert!(frames <= 65_535);
                }
            }
        }
    }
}
