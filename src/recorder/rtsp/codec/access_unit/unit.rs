//! Access units.

use std::sync::Arc;

use crate::recorder::frame::{Arrival, VideoParameters};

/// Whether decoding can begin at an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomAccess {
    /// It needs other pictures.
    None,
    /// IDR picture. No later picture needs an earlier one.
    Idr,
    /// The picture needs no other, but pictures that are shown before it may: CRA and BLA pictures of H.265, and pictures of I
    /// slices with a recovery point of 0 frames or an SPS. Old cameras send such pictures as keyframes.
    OpenGop,
    /// The output is right after so many frames, 0 to 65,535 (H.264, clause D.2.8; H.265, clause D.3.8).
    RecoveryPoint { frames: u32 },
}

/// The NAL units of one picture, or of both fields of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units, each after its length in four bytes (ISO/IEC 14496-15), 16 MiB at most. Parameter sets are among them.
    pub data: Vec<u8>,
    /// RTP timestamp of the first slice.
    pub stamp: u32,
    pub random_access: RandomAccess,
    /// `None` until the parameter sets of the slices are known.
    pub parameters: Option<Arc<VideoParameters>>,
    /// Number of the coded video sequence, see `ParameterSets::sequence`. A recording begins a new file at the first random
    /// access point with another one.
    pub sequence: u32,
    /// Arrival of the first packet of the first slice.
    pub first_at: Arrival,
    /// Arrival of the last packet with slices.
    pub last_at: Arrival,
    /// Packets that are missing since the previous unit. A unit that was dropped because it was malformed counts as one.
    pub lost_packets: u16,
    /// No packet is missing since the previous unit, and no unit was dropped. False for the first unit of a connection.
    pub is_contiguous: bool,
}
