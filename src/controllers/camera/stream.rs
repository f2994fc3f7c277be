//! Video of a camera, as its status has it. Pure. The recorder's numbers follow from what the camera sent, so each is bounded.

use crate::api::StreamStatus;
use crate::wire::StreamReport;

/// Bounds far above any camera.
const MAX_MILLIFRAMES: u64 = 1_000_000;
const MAX_BITS_PER_SECOND: u64 = 10_000_000_000;

/// Returns the status of a stream.
pub fn stream_status(report: &StreamReport) -> StreamStatus {
    let StreamReport { codec, width, height, milliframes_per_second, bits_per_second } = report;
    let tenths = milliframes_per_second.min(&MAX_MILLIFRAMES).saturating_add(50) / 100;
    let thousands = bits_per_second.min(&MAX_BITS_PER_SECOND).saturating_add(500) / 1000;
    let codec = match codec.as_str() {
        known @ ("H264" | "H265") => known,
        _ => "Other",
    };
    StreamStatus {
        codec: codec.to_owned(),
        width: (*width).into(),
        height: (*height).into(),
        frames_per_second: match (tenths / 10, tenths % 10) {
            (whole, 0) => whole.to_string(),
            (whole, tenth) => format!("{whole}.{tenth}"),
        },
        bits_per_second: i64::try_from(thousands.saturating_mul(1000)).unwrap_or(i64::MAX),
    }
}

/// Returns whether codec or resolution differ: a person changed the camera's settings, or the camera did.
pub fn has_other_format(a: &StreamStatus, b: &StreamStatus) -> bool {
    (&a.codec, a.width, a.height) != (&b.codec, b.width, b.height)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(milliframes_per_second: u64, bits_per_second: u64) -> StreamReport {
        StreamReport {
            codec: "H264".into(),
            width: 1920,
            height: 1080,
            milliframes_per_second,
            bits_per_second,
        }
    }

    #[test]
    fn rates_are_rounded() {
        for (milliframes, expected) in
            [(25_000, "25"), (12_480, "12.5"), (14_985, "15"), (249, "0.2"), (0, "0")]
        {
            assert_eq!(stream_status(&report(milliframes, 0)).frames_per_second, expected);
        }
        assert_eq!(stream_status(&report(0, 4_123_567)).bits_per_second, 4_124_000);
    }

    #[test]
    fn unknown_codec_is_other() {
        let report = StreamReport { codec: "x".repeat(1_000_000), ..report(1, 1) };
        assert_eq!(stream_status(&report).codec, "Other");
    }

    proptest! {
        #[test]
        fn any_report_is_bounded(milliframes: u64, bits: u64) {
            let status = stream_status(&report(milliframes, bits));
            prop_assert!(status.frames_per_second.len() <= 16);
            prop_assert!((0..=10_000_000_000).contains(&status.bits_per_second));
        }
    }
}
