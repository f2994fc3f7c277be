//! Starts of slices: which picture a slice belongs to, and whether it needs others.

use super::bits::{BitReader, PayloadBytes};
use super::h264_sps::H264Sps;
use super::nal::{NalHeader, NalKind};
use super::parameter_sets::ParameterSets;
use crate::recorder::frame::Codec;

/// Bytes at the start of a slice that are read. The values that count need at most 40.
const MAX_START_BYTES: usize = 64;

/// Whether a slice belongs to a frame or to one field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// A whole frame. Always in H.265, where each field is a picture of its own.
    Frame,
    TopField,
    BottomField,
}

/// Identity of an H.264 picture (clause 7.4.1.2.4), which needs the parameter sets of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureIdentity {
    /// 0 to 65,535.
    pub frame_num: u16,
    pub structure: Structure,
    pub is_reference: bool,
    /// `idr_pic_id` of an IDR picture, 0 to 65,535.
    pub idr_id: Option<u16>,
    /// `pic_order_cnt_lsb`, 0 to 65,535, if the slice has it.
    pub order_count: Option<u16>,
}

/// Start of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceStart {
    /// First slice of its picture by its position: `first_mb_in_slice` is 0, or `first_slice_segment_in_pic_flag` is set. In
    /// H.264, the first slice of each field has it. A slice that was lost or sent out of order may have it too.
    pub is_first: bool,
    /// Whether the slice needs no other picture (I and SI slices). `None` if it is unknown: its sets are, or it is not the
    /// first slice of an H.265 picture.
    pub is_intra: Option<bool>,
    /// Id of its PPS. In H.264 0 to 255, in H.265 0 to 63.
    pub pps_id: u8,
    /// `None` in H.265, and while the sets of the slice are unknown.
    pub picture: Option<PictureIdentity>,
}

impl SliceStart {
    /// Reads the start of a slice with the sets known so far. Returns `None` if the unit has no start of a slice of the base
    /// layer, ends too early, or has a value out of range. Reads at most the first 64 bytes of the unit.
    pub fn read(header: NalHeader, unit: &[u8], sets: &ParameterSets) -> Option<Self> {
        if !header.is_slice() || header.kind() == NalKind::Partition {
            return None;
        }
        let start = unit.get(..MAX_START_BYTES).unwrap_or(unit);
        let bits = BitReader::of_unit(start, header.length());
        match header.codec {
            Codec::H264 => Self::read_h264(header, bits, sets),
            Codec::H265 => Self::read_h265(header, bits, sets),
        }
    }

    /// H.264, clause 7.3.3.
    fn read_h264(
        header: NalHeader,
        mut bits: BitReader<PayloadBytes<'_>>,
        sets: &ParameterSets,
    ) -> Option<Self> {
        let first_macroblock = bits.unsigned()?;
        let slice_type = bits.unsigned().filter(|slice_type| *slice_type <= 9)?;
        let pps_id = u8::try_from(bits.unsigned()?).ok()?;
        Some(Self {
            is_first: first_macroblock == 0,
            is_intra: Some(matches!(slice_type, 2 | 4 | 7 | 9)),
            pps_id,
            picture: sets.h264_sps(pps_id).and_then(|sps| PictureIdentity::read(header, bits, sps)),
        })
    }

    /// H.265, clause 7.3.6.1.
    fn read_h265(
        header: NalHeader,
        mut bits: BitReader<PayloadBytes<'_>>,
        sets: &ParameterSets,
    ) -> Option<Self> {
        let is_first = bits.bit()?;
        let is_irap = matches!(header.kind(), NalKind::Idr | NalKind::OpenIrap);
        if is_irap {
            bits.skip(1)?;
        }
        let pps_id = u8::try_from(bits.unsigned().filter(|id| *id <= 63)?).ok()?;
        let is_intra = match sets.pps(pps_id) {
            _ if is_irap => Some(true),
            Some(pps) if is_first => {
                bits.skip(pps.extra_slice_bits.into())?;
                Some(bits.unsigned().filter(|slice_type| *slice_type <= 2)? == 2)
            }
            _ => None,
        };
        Some(Self { is_first, is_intra, pps_id, picture: None })
    }

    /// Returns whether the slice begins another picture than that of `previous`, the slice before it: it is the first one by
    /// its position or, in H.264, its values differ because the first one was lost (clause 7.4.1.2.4). The second field of a
    /// frame is another picture, see [`Self::is_second_field`].
    ///
    /// Two values of the standard do not count: ids of PPS, because cameras may mix them within a picture, and
    /// `delta_pic_order_cnt`. Redundant pictures, which no camera sends, count as other pictures.
    pub fn begins_picture(&self, previous: &Self) -> bool {
        let has_other_values = || match (&self.picture, &previous.picture) {
            (Some(picture), Some(other)) => picture != other,
            _ => false,
        };
        self.is_first || has_other_values()
    }

    /// Returns whether the slice is of the second field of the frame with the first field `previous`: opposite parity, and the
    /// same `frame_num`. Both fields are one sample of a file. `previous` must not be a second field itself.
    pub fn is_second_field(&self, previous: &Self) -> bool {
        let (Some(picture), Some(other)) = (&self.picture, &previous.picture) else {
            return false;
        };
        picture.frame_num == other.frame_num
            && matches!(
                (other.structure, picture.structure),
                (Structure::TopField, Structure::BottomField) | (Structure::BottomField, Structure::TopField)
            )
    }
}

impl PictureIdentity {
    /// Continues to read an H.264 slice after the id of its PPS.
    fn read(header: NalHeader, mut bits: BitReader<PayloadBytes<'_>>, sps: &H264Sps) -> Option<Self> {
        if sps.has_separate_planes {
            bits.skip(2)?;
        }
        let frame_num = bits.short(sps.frame_num_bits)?;
        let structure = if !sps.may_have_fields || !bits.bit()? {
            Structure::Frame
        } else if bits.bit()? {
            Structure::BottomField
        } else {
            Structure::TopField
        };
        let idr_id = match header.kind() {
            NalKind::Idr => Some(u16::try_from(bits.unsigned()?).ok()?),
            _ => None,
        };
        let order_count = match sps.order_count_bits {
            Some(count) => Some(bits.short(count)?),
            None => None,
        };
        Some(Self { frame_num, structure, is_reference: header.is_reference, idr_id, order_count })
    }
}
