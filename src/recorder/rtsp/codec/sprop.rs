//! Parameter sets in a description (RFC 6184, section 8.1; RFC 7798, section 7.1).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::recorder::frame::Codec;
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};
use crate::recorder::rtsp::sdp::FormatParameters;

/// Most sets of a description that are read.
const MAX_SETS: usize = 64;

/// Base64 without the rules that cameras break: padding, and zeros in the unused bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Returns the units in the description, in the order VPS, SPS, PPS for H.265, as written for H.264. Some cameras put start
/// codes into them, or several units into one.
pub fn read_sprop(codec: Codec, parameters: &FormatParameters, odd: &mut OddityCounts) -> Vec<Vec<u8>> {
    let names: &[&str] = match codec {
        Codec::H264 => &["sprop-parameter-sets"],
        Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
    };
    let texts = names.iter().filter_map(|name| parameters.get(name)).flat_map(|value| value.split(','));
    let mut units = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()).take(MAX_SETS) {
        match BASE64.decode(text) {
            Ok(bytes) => units.extend(split_units(&bytes).map(<[u8]>::to_vec)),
            Err(_) => odd.note(Oddity::SetInDescription),
        }
    }
    units
}

/// Splits at start codes: 0, 0, 1, which no unit contains. Zeros before them belong to no unit.
fn split_units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = rest.windows(3).position(|bytes| bytes == [0, 0, 1]);
        let (unit, after) = rest.split_at_checked(start.unwrap_or(rest.len()))?;
        rest = after.get(3..).unwrap_or_default();
        Some(unit)
    })
    .filter(|unit| unit.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::rtsp::sdp::read_sdp;

    fn read(codec: Codec, fmtp: &str) -> (Vec<Vec<u8>>, u64) {
        let text = format!("m=video 0 RTP/AVP 96\r\na=rtpmap:96 {codec}/90000\r\na=fmtp:96 {fmtp}\r\n");
        let mut odd = OddityCounts::default();
        let session = read_sdp(text.as_bytes(), &mut odd).unwrap();
        let units = read_sprop(codec, &session.media[0].formats[0].parameters, &mut odd);
        (units, odd.get(Oddity::SetInDescription))
    }

    #[test]
    fn sets_are_in_base64() {
        // The example of RFC 6184, section 8.2.1.
        let (units, odd) =
            read(Codec::H264, "profile-level-id=42A01E; sprop-parameter-sets=Z0IACpZTBYmI,aMljiA==");
        let expected = [&[0x67, 0x42, 0, 0x0A, 0x96, 0x53, 5, 0x89, 0x88][..], &[0x68, 0xC9, 0x63, 0x88]];
        assert_eq!((units.as_slice(), odd), (expected.map(<[u8]>::to_vec).as_slice(), 0));
        let (units, odd) = read(Codec::H265, "sprop-pps=RAHA;sprop-sps=QgEB,QgEC;sprop-vps=QAEM");
        let expected = [[0x40, 1, 12], [0x42, 1, 1], [0x42, 1, 2], [0x44, 1, 0xC0]].map(Vec::from);
        assert_eq!((units.as_slice(), odd), (expected.as_slice(), 0));
    }

    #[test]
    fn sets_have_no_padding_blanks_or_start_codes() {
        let pps = vec![0x68, 0xC9, 0x63, 0x88];
        for value in
            ["aMljiA", "aMljiA=", "aMljiB==", " aMljiA== ,", ",,aMljiA==", "AAAAAWjJY4g=", "AAABaMljiAAA"]
        {
            let (units, odd) = read(Codec::H264, &format!("sprop-parameter-sets={value}"));
            let trimmed: Vec<Vec<u8>> = units
                .into_iter()
                .map(|unit| unit.strip_suffix(&[0, 0]).map_or(unit.clone(), <[u8]>::to_vec))
                .collect();
            assert_eq!((trimmed, odd), (vec![pps.clone()], 0), "{value}");
        }
        // Two units behind start codes in one value.
        let (units, odd) = read(Codec::H264, "sprop-parameter-sets=AAAAAWdCAAAAAAFoyQ==");
        assert_eq!((units, odd), (vec![vec![0x67, 0x42, 0, 0], vec![0x68, 0xC9]], 0));
    }

    #[test]
    fn descriptions_have_no_sets_or_broken_ones() {
        assert_eq!(read(Codec::H264, "packetization-mode=1"), (vec![], 0));
        assert_eq!(read(Codec::H264, "sprop-parameter-sets="), (vec![], 0));
        assert_eq!(read(Codec::H264, "sprop-parameter-sets=%%%,aMk="), (vec![vec![0x68, 0xC9]], 1));
        let (units, _) = read(Codec::H264, &format!("sprop-parameter-sets={}", "aMk=,".repeat(200)));
        assert_eq!(units.len(), MAX_SETS);
    }
}
