//! Sequence parameter sets of H.264.

/// Sequence parameter set of H.264 (clause 7.3.2.1.1), as far as the recorder reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Sps {
    /// 0 to 31.
    pub id: u8,
    /// `profile_idc`, the constraint flags, and `level_idc`, as `avcC` repeats them.
    pub profile: [u8; 3],
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// In bits, 8 to 14.
    pub luma_depth: u8,
    /// In bits, 8 to 14.
    pub chroma_depth: u8,
    /// Size of the pictures after cropping, in pixels, each at least 1. Both fields count in the height.
    pub width: u16,
    pub height: u16,
    /// A slice header has `colour_plane_id`.
    pub has_separate_planes: bool,
    /// Length of `frame_num` in bits, 4 to 16.
    pub frame_num_bits: u8,
    /// Length of `pic_order_cnt_lsb` in bits, 4 to 16. `None` if slices have none.
    pub order_count_bits: Option<u8>,
    /// A slice header has `field_pic_flag`.
    pub may_have_fields: bool,
}

impl H264Sps {
    /// Returns `None` if the set cannot be read up to its cropping.
    pub fn read(_unit: &[u8]) -> Option<Self> {
        None
    }
}
