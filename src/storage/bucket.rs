//! The configuration of a Site's bucket: what it should be (`spec`, `desired`), what it is (`observe`, `subresources`), what
//! differs (`drift`), how that is written (`apply`, `sync`), and whether the store keeps it (`probe`). `enforce` runs them in order.

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
pub(crate) mod limitations;
pub(crate) mod observe;
pub(crate) mod owner;
pub mod policy;
pub mod probe;
pub mod proof;
pub(crate) mod spec;
pub(crate) mod subresources;
pub(crate) mod sync;
