//! Sequence parameter sets of H.265.

/// Sequence parameter set of H.265 (clause 7.3.2.2.1), up to the bit depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H265Sps {
    /// 0 to 15.
    pub id: u8,
    /// Id of its VPS, 0 to 15.
    pub vps_id: u8,
    /// The first 12 bytes of `profile_tier_level`, as `hvcC` repeats them (clause 7.3.3): profile space, tier and profile (1),
    /// compatibility flags (4), constraint flags (6), level (1).
    pub profile: [u8; 12],
    /// 1 to 7.
    pub temporal_layers: u8,
    pub is_temporally_nested: bool,
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// In bits, 8 to 16.
    pub luma_depth: u8,
    /// In bits, 8 to 16.
    pub chroma_depth: u8,
    /// Size of the pictures after cropping, in pixels, each at least 1.
    pub width: u16,
    pub height: u16,
}

impl H265Sps {
    /// Returns `None` if the set cannot be read up to the bit depths.
    pub fn read(_unit: &[u8]) -> Option<Self> {
        None
    }
}
