//! Every decision about holds, pure: scope, acceptance, expiry of versions, order of writes, and conditions for a claim or a
//! release. The operator, the model (`tests/model`) and the simulation (`tests/sim`) use these functions.

pub mod accept;
pub(crate) mod claim;
pub mod entry;
pub(crate) mod expiry;
pub(crate) mod resolution;
pub mod scope;
pub(crate) mod steps;
