//! Sample entries of a file with parameter sets in the samples too (ISO/IEC 14496-15: `avc3`, `hev1`).

use mp4_atom::{Avc3, Avcc, AvccExt, Encode, Hev1, HvcCArray, Hvcc, Visual};

use super::h264_sps::H264Sps;
use super::h265_sps::H265Sps;

/// Bytes of the length before each NAL unit of a sample.
const LENGTH_BYTES: u8 = 4;
/// `nal_unit_type` of VPS, SPS and PPS in H.265.
const H265_SET_TYPES: [u8; 3] = [32, 33, 34];
/// Profiles without chroma format and bit depths in `avcC`: Baseline, Main, Extended.
const SIMPLE_PROFILES: [u8; 3] = [66, 77, 88];

/// Returns an `avc3` box. `sps` describes the pictures. Returns `None` if the box has no room for a set.
pub fn avc3(sps: &H264Sps, sps_units: Vec<Vec<u8>>, pps_units: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    if sps_units.len() > 31 || pps_units.len() > 255 {
        return None;
    }
    let [profile, compatibility, level] = sps.profile;
    let ext = (!SIMPLE_PROFILES.contains(&profile)).then(|| AvccExt {
        chroma_format: sps.chroma_format,
        bit_depth_luma: sps.luma_depth,
        bit_depth_chroma: sps.chroma_depth,
        sequence_parameter_sets_ext: Vec::new(),
    });
    let avcc = Avcc {
        configuration_version: 1,
        avc_profile_indication: profile,
        profile_compatibility: compatibility,
        avc_level_indication: level,
        length_size: LENGTH_BYTES,
        sequence_parameter_sets: sps_units,
        picture_parameter_sets: pps_units,
        ext,
    };
    encode(&Avc3 { visual: visual(sps.width, sps.height), avcc, ..Avc3::default() })
}

/// Returns a `hev1` box. `sps` describes the pictures. `units` are those of VPS, SPS and PPS.
pub fn hev1(sps: &H265Sps, units: [Vec<Vec<u8>>; 3]) -> Option<Vec<u8>> {
    let [
        general,
        compatibility_0,
        compatibility_1,
        compatibility_2,
        compatibility_3,
        constraint_0,
        constraint_1,
        constraint_2,
        constraint_3,
        constraint_4,
        constraint_5,
        level,
    ] = sps.profile;
    let arrays = H265_SET_TYPES
        .into_iter()
        .zip(units)
        .filter(|(_, units)| !units.is_empty())
        // Incomplete: further sets may come in the samples.
        .map(|(nal_unit_type, nalus)| HvcCArray { completeness: false, nal_unit_type, nalus })
        .collect();
    let hvcc = Hvcc {
        general_profile_space: general >> 6,
        general_tier_flag: general & 0x20 != 0,
        general_profile_idc: general & 0x1F,
        general_profile_compatibility_flags: [
            compatibility_0,
            compatibility_1,
            compatibility_2,
            compatibility_3,
        ],
        general_constraint_indicator_flags: [
            constraint_0,
            constraint_1,
            constraint_2,
            constraint_3,
            constraint_4,
            constraint_5,
        ],
        general_level_idc: level,
        chroma_format_idc: sps.chroma_format,
        bit_depth_luma_minus8: sps.luma_depth.checked_sub(8)?,
        bit_depth_chroma_minus8: sps.chroma_depth.checked_sub(8)?,
        num_temporal_layers: sps.temporal_layers,
        temporal_id_nested: sps.is_temporally_nested,
        length_size_minus_one: LENGTH_BYTES.saturating_sub(1),
        arrays,
        ..Hvcc::new()
    };
    encode(&Hev1 { visual: visual(sps.width, sps.height), hvcc, ..Hev1::default() })
}

fn visual(width: u16, height: u16) -> Visual {
    Visual { data_reference_index: 1, width, height, ..Visual::default() }
}

fn encode(entry: &impl Encode) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    entry.encode(&mut bytes).ok()?;
    Some(bytes)
}
