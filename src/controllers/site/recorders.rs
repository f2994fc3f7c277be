//! The recorders of a Site: which pods there should be, how they are created, asked and ended.
//!
//! `plan` decides; `objects` and `pod` draw; `apply` writes; `query` asks; `drain` and `delete` end.

pub(crate) mod apply;
pub(crate) mod delete;
pub(crate) mod drain;
pub(crate) mod hold_widening;
pub(crate) mod identity;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod query;
pub mod shard;
pub(crate) mod workload;
