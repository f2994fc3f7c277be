//! Frames of a camera, and their coding parameters.

use std::sync::Arc;

/// Clock rate of all timestamps in the recorder and in its files, in hertz: that of video over RTP (RFC 6184, RFC 7798).
pub const TICKS_PER_SECOND: i64 = 90_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
pub enum Codec {
    H264,
    H265,
}

/// Parameters that a decoder needs before the first frame. A change begins a new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoParameters {
    pub codec: Codec,
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Sample entry box (`avc1` or `hvc1`, ISO/IEC 14496-15) with the parameter sets.
    pub sample_entry: Vec<u8>,
}

/// One coded frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// NAL units, each after its length in four bytes (ISO/IEC 14496-15). The recorder never changes them.
    pub data: Vec<u8>,
    pub is_keyframe: bool,
    /// Presentation time in ticks of the camera's clock, without wrapping.
    pub ticks: i64,
    pub arrival: Arrival,
    /// RTP packets lost just before this frame.
    pub lost_packets: u16,
    pub parameters: Arc<VideoParameters>,
}

/// Arrival time on both clocks of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Microseconds on the monotonic clock.
    pub monotonic_us: i64,
    /// Microseconds since 1970 on the wall clock, which may step.
    pub wall_us: i64,
}
