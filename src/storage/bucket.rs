//! The configuration of a Site's bucket: its specification (`spec`, `desired`), its state as read (`observe`, `state`), the
//! differences (`drift`), the writes (`apply`, `sync`), and the attempts to break it (`probe`). `subresources` has the parts beside
//! lock, versioning, lifecycle and policy. `enforce` runs them in order.

pub(crate) mod adoption;
pub(crate) mod apply;
pub mod desired;
pub(crate) mod drift;
pub(crate) mod enforce;
pub(crate) mod error;
pub(crate) mod fitness;
pub(crate) mod foreign_objects;
pub mod lifecycle;
pub(crate) mod lifecycle_write;
pub(crate) mod observe;
pub(crate) mod owner;
pub mod policy;
pub mod probe;
pub mod proof;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod subresources;
pub(crate) mod sync;
