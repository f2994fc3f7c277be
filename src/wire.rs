//! The documents between operator and recorder: the configuration, which the operator renders into a mounted Secret, and
//! the status, which the recorder serves. Operator and recorder of neighbouring versions understand each other: both
//! documents carry a `format`, and readers ignore unknown fields.
#![warn(missing_docs)]

mod config;
mod status;

pub use self::config::*;
pub use self::status::*;
pub use crate::rules::{HoldScope, Window};

/// Format that this version writes. A recorder of this version reads all formats up to it.
pub const FORMAT: u32 = 1;
/// File name of the configuration in the mounted Secret.
pub const CONFIG_KEY: &str = "config.json";
/// Port of the status API (TLS and token).
pub const STATUS_PORT: u16 = 8443;
/// Port of `/livez`, `/readyz` and `/metrics`.
pub const HEALTH_PORT: u16 = 8080;
/// Header of a request for the status: the operator's time (RFC 3339).
pub const TIME_HEADER: &str = "toezicht-time";
/// Name in the recorder's certificate, which the operator verifies.
pub const STATUS_SERVER_NAME: &str = "recorder.toezicht.internal";
