//! Kubernetes for all controllers: server-side apply, status, events, metadata, Secrets that a spec names.

pub mod apply;
pub mod cached;
pub mod diff;
pub mod error;
pub mod event;
pub mod meta;
pub mod prune;
pub mod quantity;
pub mod secret_ref;
pub mod status;

pub use self::apply::ApplyError;
pub use self::error::ApiError;
