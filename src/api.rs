//! The custom resources as users write them, and their conditions; nothing else.
#![warn(missing_docs)]
// Each printer column has a name, a type and a path of its own: the lint takes them for repetitions.
#![allow(clippy::duplicated_attributes)]

mod camera;
pub(crate) mod cel;
mod clock;
mod common;
pub mod condition;
pub(crate) mod duration;
mod incident_hold;
mod principal;
mod recording_policy;
pub(crate) mod schema;
mod site;

pub use self::duration::*;
pub use camera::*;
pub use clock::*;
pub use common::*;
pub use incident_hold::*;
pub use principal::*;
pub use recording_policy::*;
pub use site::*;

/// The API group of all four kinds.
pub const GROUP: &str = "toezicht.dev";
/// The API version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Type of a Secret with a camera's `username` and `password`.
pub const SECRET_TYPE_CAMERA: &str = "toezicht.dev/camera";
/// Type of a Secret with S3 credentials: `accessKeyId` and `secretAccessKey`.
pub const SECRET_TYPE_S3: &str = "toezicht.dev/s3";
/// Type of a Secret with a private certificate authority: `ca.crt` (PEM).
pub const SECRET_TYPE_CA: &str = "toezicht.dev/ca";
