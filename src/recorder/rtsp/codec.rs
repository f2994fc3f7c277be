//! NAL units of H.264 (ITU-T H.264) and H.265 (ITU-T H.265): their types, their parameter sets, and the start of their
//! slices. A NAL unit here has its header, and no start code or length before it.

pub mod access_unit;
pub mod annex_b;
pub mod bits;
#[cfg(test)]
mod collected;
pub mod fragment;
pub mod h264;
pub mod h264_sps;
pub mod h265;
pub mod h265_sps;
pub mod nal;
pub mod parameter_sets;
pub mod pps;
mod sample_entry;
pub mod sei;
pub mod slice;
mod sprop;

pub use self::nal::{NalHeader, NalKind};
pub use self::parameter_sets::{ParameterSets, SetChange};
pub use self::sei::RecoveryPoint;
pub use self::slice::{SliceStart, Structure};

#[cfg(test)]
mod tests;
