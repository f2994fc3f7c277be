//! Every decision about holds, pure: scope, acceptance, expiry of versions, order of writes, and conditions for a claim or a
//! release. The operator, the model (`tests/model`) and the simulation (`tests/sim`) use these functions.

pub mod accept;
pub mod claim;
pub mod entry;
pub mod expiry;
pub mod resolution;
pub mod scope;
pub mod steps;
