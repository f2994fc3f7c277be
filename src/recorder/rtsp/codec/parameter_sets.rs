//! The parameter sets of a stream.

use std::sync::Arc;

use super::h264_sps::H264Sps;
use super::pps::Pps;
use crate::recorder::frame::{Codec, VideoParameters};
use crate::recorder::rtsp::oddity::OddityCounts;
use crate::recorder::rtsp::sdp::FormatParameters;

/// Longest parameter set that is kept, in bytes.
pub const MAX_SET_BYTES: usize = 4 << 10;
/// Most bytes of all sets of a stream.
pub const MAX_BYTES: usize = 64 << 10;

/// News of a parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// No set of this kind and id was known.
    New,
    /// The known set came again.
    Same,
    /// The set replaces another one of the same kind and id.
    Changed,
    /// No parameter set of the base layer, or one that cannot be read or is beyond a limit.
    Ignored,
}

/// The current parameter sets of a stream, by kind and id. Units are kept without zeros at their end, which belong to no unit.
///
/// The *active* SPS describes the pictures: that of the last slice, or before the first slice the SPS that came last.
#[derive(Debug)]
pub struct ParameterSets {
    codec: Codec,
}

impl ParameterSets {
    pub fn new(codec: Codec) -> Self {
        Self { codec }
    }

    /// Adds the sets of a description. The stream may replace them.
    pub fn add_description(&mut self, parameters: &FormatParameters, odd: &mut OddityCounts) {
        let _ = (parameters, odd);
    }

    /// Adds a VPS, SPS or PPS. The sample of the unit keeps it too.
    pub fn add(&mut self, unit: &[u8], odd: &mut OddityCounts) -> SetChange {
        let _ = (unit, odd, self.codec);
        SetChange::Ignored
    }

    /// Makes the SPS of a slice the active one. Call it for the first slice of each picture, after the sets before it. Returns
    /// whether the PPS and SPS of the slice are known.
    pub fn activate(&mut self, pps_id: u8) -> bool {
        let _ = pps_id;
        false
    }

    /// Number of the coded video sequence: it grows if the active SPS, or its VPS, is another one than before. A recording must
    /// then begin a new file at the next random access point. A changed PPS does not count.
    pub fn sequence(&self) -> u32 {
        0
    }

    /// Returns the parameters with the current table of sets: the same value until a set changes. Returns `None` until an SPS
    /// and a PPS of it are known.
    pub fn video_parameters(&mut self) -> Option<Arc<VideoParameters>> {
        None
    }

    /// Returns the PPS of an id.
    pub fn pps(&self, pps_id: u8) -> Option<&Pps> {
        let _ = pps_id;
        None
    }

    /// Returns the H.264 SPS of a PPS.
    pub fn h264_sps(&self, pps_id: u8) -> Option<&H264Sps> {
        let _ = pps_id;
        None
    }
}
