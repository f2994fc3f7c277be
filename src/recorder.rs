//! The recorder: RTSP in, MP4 out, into the bucket.
//!
//! ```text
//! config ──▶ fleet ──▶ camera (one task each)
//!                        gate     may it record now?
//!                        stream   RTSP: pictures, never sound
//!                        session  clock: when was it taken? ▶ segment: into which file? ▶ mp4
//!                           │
//!                           ▼
//!                         spool ──▶ upload ──▶ bucket
//!
//! board (what is known of each camera, its gaps) ──▶ http
//! ```
//!
//! Nothing that concerns one camera waits for, or fails because of, another.

pub mod camera;
mod config;
mod fleet;
mod frame;
mod gaps;
mod http;
pub(crate) mod in_doubt;
mod metrics;
mod mp4;
pub(crate) mod rtsp;
mod run;
mod segment;
mod spool;
pub(crate) mod state;
pub(crate) mod upload;

pub use run::{RecorderError, RecorderOptions, run};
