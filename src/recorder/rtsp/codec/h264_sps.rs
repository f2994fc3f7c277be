//! Sequence parameter sets of H.264.

use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, Integer, Primitive};

use super::bits::PayloadBytes;

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

/// A level that does not exist. For it, `h264_reader` applies no limits of levels.
const NO_LEVEL: u8 = 255;

impl H264Sps {
    /// Returns `None` if the set cannot be read up to its cropping. Cameras often break what follows it (VUI), and exceed the
    /// limits of the level that they name.
    pub fn read(unit: &[u8]) -> Option<Self> {
        let mut payload: Vec<u8> = PayloadBytes::new(unit, 1).collect();
        let profile = *payload.first_chunk::<3>()?;
        *payload.get_mut(2)? = NO_LEVEL;
        let sps = SeqParameterSet::from_bits(UpToCropping(BitReader::new(payload.as_slice()))).ok()?;
        let (width, height) = sps.pixel_dimensions().ok()?;
        let chroma = &sps.chroma_info;
        Some(Self {
            id: sps.id().id(),
            profile,
            chroma_format: u8::try_from(chroma.chroma_format.to_u32()).ok().filter(|format| *format <= 3)?,
            luma_depth: chroma.bit_depth_luma_minus8.checked_add(8)?,
            chroma_depth: chroma.bit_depth_chroma_minus8.checked_add(8)?,
            width: u16::try_from(width).ok().filter(|width| *width > 0)?,
            height: u16::try_from(height).ok().filter(|height| *height > 0)?,
            has_separate_planes: chroma.separate_colour_plane_flag,
            frame_num_bits: sps.log2_max_frame_num(),
            order_count_bits: match sps.pic_order_cnt {
                PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4: bits } => {
                    Some(bits.checked_add(4)?)
                }
                PicOrderCntType::TypeOne { .. } | PicOrderCntType::TypeTwo => None,
            },
            may_have_fields: matches!(sps.frame_mbs_flags, FrameMbsFlags::Fields { .. }),
        })
    }
}

/// Reader of an SPS that pretends that it ends after its cropping.
struct UpToCropping<'a>(BitReader<&'a [u8]>);

impl BitRead for UpToCropping<'_> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        self.0.read_ue(name)
    }

    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        self.0.read_se(name)
    }

    fn read_bit(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        if name == "vui_parameters_present_flag" { Ok(false) } else { self.0.read_bit(name) }
    }

    fn read<const BITS: u32, I: Integer>(&mut self, name: &'static str) -> Result<I, BitReaderError> {
        self.0.read::<BITS, I>(name)
    }

    fn read_var<I: Integer>(&mut self, bits: u32, name: &'static str) -> Result<I, BitReaderError> {
        self.0.read_var(bits, name)
    }

    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        self.0.read_to(name)
    }

    fn skip(&mut self, bits: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.0.skip(bits, name)
    }

    fn byte_aligned(&self) -> bool {
        self.0.byte_aligned()
    }

    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.0.has_more_rbsp_data(name)
    }

    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        Ok(())
    }

    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        self.0.finish_sei_payload()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Full HD of x264, High profile, level 4.0, with cropping.
    const FULL_HD: &str = "67640028acd940780227e5c044000003000400000300c83c60c658";

    fn full_hd() -> Vec<u8> {
        hex::decode(FULL_HD).unwrap()
    }

    #[test]
    fn a_set_is_read() {
        let expected = H264Sps {
            id: 0,
            profile: [100, 0, 40],
            chroma_format: 1,
            luma_depth: 8,
            chroma_depth: 8,
            width: 1920,
            height: 1080,
            has_separate_planes: false,
            frame_num_bits: 4,
            order_count_bits: Some(6),
            may_have_fields: false,
        };
        assert_eq!(H264Sps::read(&full_hd()), Some(expected));
    }

    #[test]
    fn a_level_too_low_for_the_size_does_not_matter() {
        let mut unit = full_hd();
        unit[3] = 10;
        let sps = H264Sps::read(&unit).unwrap();
        assert_eq!((sps.width, sps.height, sps.profile), (1920, 1080, [100, 0, 10]));
    }

    #[test]
    fn what_follows_the_cropping_does_not_matter() {
        let unit = full_hd();
        let expected = H264Sps::read(&unit);
        let shortest = (0..unit.len()).find(|length| H264Sps::read(&unit[..*length]).is_some()).unwrap();
        assert!(shortest < 15, "{shortest}");
        for length in shortest..unit.len() {
            assert_eq!(H264Sps::read(&unit[..length]), expected, "{length}");
            let mut broken = unit[..length].to_vec();
            broken.extend([0xFF; 40]);
            assert_eq!(H264Sps::read(&broken), expected, "{length}");
        }
        let zeros = [unit.as_slice(), &[0; 9]].concat();
        assert_eq!(H264Sps::read(&zeros), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = H264Sps::read(&bytes);
        }

        #[test]
        fn changed_sets_are_read(position in 1_usize..27, value in any::<u8>()) {
            let mut unit = full_hd();
            unit[position] = value;
            if let Some(sps) = H264Sps::read(&unit) {
                prop_assert!(sps.width > 0 && sps.height > 0 && sps.id < 32);
                prop_assert!((4..=16).contains(&sps.frame_num_bits));
                prop_assert!(sps.order_count_bits.is_none_or(|bits| (4..=16).contains(&bits)));
            }
        }
    }
}
