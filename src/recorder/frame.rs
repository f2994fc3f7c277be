//! What a camera gives: coded pictures, and how they are coded.

use std::fmt;
use std::sync::Arc;

/// Ticks a second of every timestamp inside the recorder and of every file it writes: the clock of video
/// over RTP (RFC 6184, RFC 7798).
pub const TICKS_PER_SECOND: i64 = 90_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
        })
    }
}

/// What a decoder must know before the first picture. When a camera changes it, a new file begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoParameters {
    pub codec: Codec,
    /// Width of a picture in pixels.
    pub width: u16,
    /// Height of a picture in pixels.
    pub height: u16,
    /// The sample entry box (`avc1` or `hvc1`, ISO/IEC 14496-15) with the parameter sets in it.
    pub sample_entry: Vec<u8>,
}

/// One coded picture, as the camera made it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// NAL units, each after its length in four bytes (ISO/IEC 14496-15). Never changed on the way.
    pub data: Vec<u8>,
    pub is_keyframe: bool,
    /// When it is to be shown, in ticks of the camera's own clock, without wrapping.
    pub ticks: i64,
    pub arrival: Arrival,
    /// RTP packets that were lost just before it.
    pub lost_packets: u16,
    pub parameters: Arc<VideoParameters>,
}

/// When something arrived, on the two clocks of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Microseconds on a clock that never steps.
    pub monotonic_us: i64,
    /// Microseconds since 1970 on the clock that people read, which may be set.
    pub wall_us: i64,
}
