//! S3, where the promises are kept: keys, the bucket that a site must have, reading it back, segments in.

mod client;
pub mod error;
pub mod key;
pub mod segments;
pub mod tag;

pub use client::{OPERATION_DEADLINE, TargetError};
