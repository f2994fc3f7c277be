//! The protocol's rules as pure functions: no I/O, no clock. Each returns reason and message, so that the
//! same rule decides and explains.
//!
//! * [`calendar`]: days and instants, as the protocol's zone counts them.
//! * [`window`]: stretches of time and their algebra.
//! * [`permission`]: when recording is permitted (articles 7, 8 and 11), and why not.
//! * [`suspension`]: when cameras are covered (article 5).
//! * [`retention`]: how long recordings live (article 6).
//! * [`live_view`]: where live viewing is allowed (article 4.2).
//! * [`hold`]: every decision about incident holds (articles 1, 4.2 and 6).
//! * [`recording`]: what a recording is called and marked with.
//! * [`policy`]: whether a policy as a whole can be followed.

pub mod calendar;
pub mod hold;
pub mod live_view;
pub mod permission;
pub mod policy;
pub mod recording;
pub mod retention;
pub mod suspension;
pub mod window;

pub use self::window::{Window, Windows};
