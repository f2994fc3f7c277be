//! The bucket policy: its statements, the dialect of the store, and its canonical form.

pub(crate) mod actions;
pub mod dialect;
pub mod document;
pub mod iam;
pub(crate) mod partition;
pub mod principals;
pub mod statements;
