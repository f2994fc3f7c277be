//! The bucket policy: its statements, the words that a store understands, and its form.

pub(crate) mod actions;
pub mod dialect;
pub mod document;
pub mod iam;
pub(crate) mod partition;
pub mod principals;
pub(crate) mod size;
pub mod statements;
