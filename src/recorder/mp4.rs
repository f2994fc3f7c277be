//! Fragmented MP4 (ISO/IEC 14496-12): a beginning that says how the pictures are coded, then fragments of
//! about a second, each whole in itself. A file that was cut off anywhere is good up to its last whole
//! fragment, which [`scan_fragments`] finds.
//!
//! Each fragment is preceded by a producer reference time (`prft`) that says when its first picture was
//! taken, so that a recording tells its own time, also after its name was lost.

mod fragment;
mod init;
pub(crate) mod scan;

pub use self::scan::scan_fragments;
pub use fragment::{Fragment, Sample};
pub use init::init;

/// The one track: video.
const TRACK_ID: u32 = 1;

/// Why an MP4 file could not be written or read.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum Mp4Error {
    /// A box could not be encoded or decoded.
    #[error("an MP4 box is wrong: {0}")]
    Box(#[from] mp4_atom::Error),
    /// The file could not be read.
    #[error("reading the file failed: {0}")]
    Io(#[from] std::io::Error),
    /// A number is beyond what the format can hold.
    #[error("a size or time is beyond what MP4 can hold")]
    Range,
}
