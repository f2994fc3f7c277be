//! Fragmented MP4 (ISO/IEC 14496-12): a start with the coding parameters, then fragments of about a second. Each fragment is
//! complete in itself. A truncated file is valid up to its last complete fragment, which [`scan_fragments`] finds.
//!
//! A producer reference time (`prft`) before each fragment has the capture time of its first frame. So a recording contains
//! its time, even if its name is lost.

mod fragment;
mod init;
pub(crate) mod scan;

pub use self::scan::scan_fragments;
pub use fragment::{Fragment, Sample};
pub use init::init;

/// The only track: video.
const TRACK_ID: u32 = 1;
/// Nanoseconds from 1900, the epoch of NTP, to 1970.
const NANOS_1900_TO_1970: i128 = 2_208_988_800 * NANOS_PER_SECOND;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum Mp4Error {
    #[error("an MP4 box is invalid: {0}")]
    Box(#[from] mp4_atom::Error),
    #[error("reading the file failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("a size or time exceeds the range of MP4")]
    Range,
}
