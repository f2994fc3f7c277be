//! Starts of slices: which picture a slice belongs to, and whether it needs others.

use super::nal::NalHeader;
use super::parameter_sets::ParameterSets;

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
    /// Reads the start of a slice with the sets known so far. Returns `None` if the unit is no slice of the base layer, ends
    /// too early, or has a value out of range. Reads at most the first 64 bytes of the unit.
    pub fn read(header: NalHeader, unit: &[u8], sets: &ParameterSets) -> Option<Self> {
        let _ = (header, unit, sets);
        None
    }

    /// Returns whether the slice belongs to another H.264 picture than `previous`, the slice before it, by its values. `None`
    /// if they are unknown: then only `is_first` helps. A second field is another picture, see [`Self::is_second_field`].
    pub fn is_other_picture(&self, previous: &Self) -> Option<bool> {
        let _ = previous;
        None
    }

    /// Returns whether the slice is of the second field of the frame with the first field `previous`: opposite parity, and the
    /// same `frame_num` (H.264, clause 7.4.1.2.4). Both fields are one sample of a file.
    pub fn is_second_field(&self, previous: &Self) -> bool {
        let _ = previous;
        false
    }
}
