//! What operator and recorder say to each other: the configuration that the operator renders into a mounted
//! Secret, and the status that the recorder serves. Operator and recorder of neighbouring versions
//! understand each other: both documents carry a `format`, and unknown fields are ignored.
#![warn(missing_docs)]

mod config;
mod status;

pub use self::config::*;
pub use self::status::*;
pub use crate::rules::Window;
pub use crate::rules::hold::scope::HoldScopeConfig;

/// The format this version writes. It reads this one and the one before.
pub const FORMAT: u32 = 1;
/// File name of the configuration in the mounted Secret.
pub const CONFIG_KEY: &str = "config.json";
/// Port of the status API (TLS and token).
pub const STATUS_PORT: u16 = 8443;
/// Port of `/livez`, `/readyz` and `/metrics`.
pub const HEALTH_PORT: u16 = 8080;
/// Name that the recorder's certificate is issued for, and that the operator verifies.
pub const STATUS_SERVER_NAME: &str = "recorder.toezicht.internal";
