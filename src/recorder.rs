//! The recorder: RTSP in, MP4 out, into the bucket.
//!
//! ```text
//! config ──▶ fleet ──▶ camera (one task each)
//!                        permission  may it record now?
//!                        rtsp        frames, never audio
//!                        session     clock: capture time ▶ segment: which file? ▶ mp4
//!                           │
//!                           ▼
//!                         spool ──▶ upload ──▶ bucket
//!
//! state (each camera, its gaps) ──▶ http
//! ```
//!
//! No camera waits for another, or fails because of another.

pub mod camera;
mod config;
mod confirmed_clock;
mod context;
mod fleet;
pub mod frame;
mod gaps;
mod http;
pub mod in_doubt;
mod metrics;
mod mp4;
pub mod rtsp;
mod run;
mod segment;
mod spool;
pub(crate) mod state;
mod stream_rates;
pub mod upload;

pub use run::{RecorderError, RecorderOptions, run};
