//! Sequence parameter sets of H.265.

use super::bits::{BitReader, PayloadBytes};
use super::nal::header_length;
use crate::recorder::frame::Codec;

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
    /// In bits, 8 to 15.
    pub luma_depth: u8,
    /// In bits, 8 to 15.
    pub chroma_depth: u8,
    /// Size of the pictures after cropping, in pixels, each at least 1.
    pub width: u16,
    pub height: u16,
}

/// `chroma_format_idc` of 4:4:4.
const CHROMA_444: u32 = 3;

impl H265Sps {
    /// Returns `None` if the set cannot be read up to the bit depths.
    pub fn read(unit: &[u8]) -> Option<Self> {
        let mut bits = BitReader::of_unit(unit, header_length(Codec::H265));
        let vps_id = bits.byte(4)?;
        let sub_layers = bits.byte(3).filter(|sub_layers| *sub_layers <= 6)?;
        let is_temporally_nested = bits.bit()?;
        let mut profile = [0; 12];
        for byte in &mut profile {
            *byte = bits.byte(8)?;
        }
        skip_sub_layers(&mut bits, sub_layers)?;
        let id = bits.unsigned().filter(|id| *id <= 15)?;
        let chroma_format = bits.unsigned().filter(|format| *format <= CHROMA_444)?;
        if chroma_format == CHROMA_444 {
            bits.skip(1)?;
        }
        let mut width = bits.unsigned()?;
        let mut height = bits.unsigned()?;
        if bits.bit()? {
            let (unit_width, unit_height) = match chroma_format {
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            for _ in 0..2 {
                width = width.checked_sub(bits.unsigned()?.checked_mul(unit_width)?)?;
            }
            for _ in 0..2 {
                height = height.checked_sub(bits.unsigned()?.checked_mul(unit_height)?)?;
            }
        }
        Some(Self {
            id: u8::try_from(id).ok()?,
            vps_id,
            profile,
            temporal_layers: sub_layers.checked_add(1)?,
            is_temporally_nested,
            chroma_format: u8::try_from(chroma_format).ok()?,
            luma_depth: read_depth(&mut bits)?,
            chroma_depth: read_depth(&mut bits)?,
            width: u16::try_from(width).ok().filter(|width| *width > 0)?,
            height: u16::try_from(height).ok().filter(|height| *height > 0)?,
        })
    }
}

/// Reads a bit depth. `hvcC` has no room for 16 bits.
fn read_depth(bits: &mut BitReader<PayloadBytes<'_>>) -> Option<u8> {
    let above_8 = bits.unsigned().filter(|above_8| *above_8 <= 7)?;
    u8::try_from(above_8).ok()?.checked_add(8)
}

/// Skips profiles and levels of the lower temporal layers (clause 7.3.3).
fn skip_sub_layers(bits: &mut BitReader<PayloadBytes<'_>>, sub_layers: u8) -> Option<()> {
    let mut length: u32 = 0;
    for _ in 0..sub_layers {
        let (has_profile, has_level) = (bits.bit()?, bits.bit()?);
        length = length.checked_add(if has_profile { 88 } else { 0 })?;
        length = length.checked_add(if has_level { 8 } else { 0 })?;
    }
    if sub_layers > 0 {
        let padding = u32::from(8_u8.saturating_sub(sub_layers)).checked_mul(2)?;
        length = length.checked_add(padding)?;
    }
    bits.skip(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 322x242 of x265, Main profile, level 2.0, with cropping.
    const CROPPED: &str =
        "42010101600000030090000003000003003ca00a480f9c9265959a4932bc05a02000000300200000030321";

    fn cropped() -> Vec<u8> {
        hex::decode(CROPPED).unwrap()
    }

    #[test]
    fn a_set_is_read() {
        let expected = H265Sps {
            id: 0,
            vps_id: 0,
            profile: [1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 60],
            temporal_layers: 1,
            is_temporally_nested: true,
            chroma_format: 1,
            luma_depth: 8,
            chroma_depth: 8,
            width: 322,
            height: 242,
        };
        assert_eq!(H265Sps::read(&cropped()), Some(expected));
    }

    #[test]
    fn what_follows_the_bit_depths_does_not_matter() {
        let unit = cropped();
        let expected = H265Sps::read(&unit);
        let shortest = (0..unit.len()).find(|length| H265Sps::read(&unit[..*length]).is_some()).unwrap();
        assert!(shortest < 26, "{shortest}");
        for length in shortest..unit.len() {
            let mut broken = unit[..length].to_vec();
            broken.extend([0xFF; 40]);
            assert_eq!(H265Sps::read(&unit[..length]), expected, "{length}");
            assert_eq!(H265Sps::read(&broken), expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = H265Sps::read(&bytes);
        }

        #[test]
        fn changed_sets_are_read(position in 2_usize..30, value in any::<u8>()) {
            let mut unit = cropped();
            unit[position] = value;
            if let Some(sps) = H265Sps::read(&unit) {
                prop_assert!(sps.width > 0 && sps.height > 0 && sps.id < 16 && sps.vps_id < 16);
                prop_assert!((8..=15).contains(&sps.luma_depth) && (8..=15).contains(&sps.chroma_depth));
                prop_assert!((1..=7).contains(&sps.temporal_layers));
            }
        }
    }
}
