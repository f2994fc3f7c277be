//! Picture parameter sets, as far as the recorder reads them (H.264, clause 7.3.2.2; H.265, clause 7.3.2.3.1).

use super::bits::BitReader;
use super::nal::header_length;
use crate::recorder::frame::Codec;

/// Highest id of a set, by codec: PPS, then SPS.
const fn max_ids(codec: Codec) -> (u32, u32) {
    match codec {
        Codec::H264 => (255, 31),
        Codec::H265 => (63, 15),
    }
}

/// Start of a picture parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pps {
    /// 0 to 255 in H.264, 0 to 63 in H.265.
    pub id: u8,
    /// Id of its SPS: 0 to 31 in H.264, 0 to 15 in H.265.
    pub sps_id: u8,
    /// `num_extra_slice_header_bits` of H.265, 0 to 7. Always 0 in H.264.
    pub extra_slice_bits: u8,
}

impl Pps {
    /// Returns `None` if the unit ends too early or an id is out of range.
    pub fn read(codec: Codec, unit: &[u8]) -> Option<Self> {
        let (max_id, max_sps_id) = max_ids(codec);
        let mut bits = BitReader::of_unit(unit, header_length(codec));
        let id = bits.unsigned().filter(|id| *id <= max_id)?;
        let sps_id = bits.unsigned().filter(|id| *id <= max_sps_id)?;
        let extra_slice_bits = match codec {
            Codec::H264 => 0,
            Codec::H265 => {
                bits.skip(2)?;
                bits.byte(3)?
            }
        };
        Some(Self { id: u8::try_from(id).ok()?, sps_id: u8::try_from(sps_id).ok()?, extra_slice_bits })
    }
}
