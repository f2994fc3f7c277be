//! Custom resources and their conditions.
//!
//! The doc comments of fields are the descriptions in `kubectl explain` and `docs/reference/api.md`. A test in `cli::crds`
//! requires one for every field.

mod camera;
pub(crate) mod cel;
mod clock;
mod columns;
mod common;
pub mod condition;
pub(crate) mod duration;
mod incident_hold;
mod principal;
mod recording_policy;
pub(crate) mod schema;
mod site;
#[cfg(test)]
pub(crate) mod testing;
mod text;

pub use self::duration::*;
pub use camera::*;
pub use clock::*;
pub use common::*;
pub use incident_hold::*;
pub use principal::*;
pub use recording_policy::*;
pub use site::*;
pub use text::*;

/// API group of all four kinds.
pub const GROUP: &str = "toezicht.dev";
/// API version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Type of a Secret with `username` and `password` of a camera.
pub const SECRET_TYPE_CAMERA: &str = "toezicht.dev/camera";
/// Type of a Secret with `accessKeyId`, `secretAccessKey` and an optional `sessionToken`.
pub const SECRET_TYPE_S3: &str = "toezicht.dev/s3";
/// Type of a Secret with `ca.crt`, the PEM certificates of a private certificate authority.
pub const SECRET_TYPE_CA: &str = "toezicht.dev/ca";
