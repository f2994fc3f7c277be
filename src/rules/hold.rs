//! Every decision about holds, pure: scope, acceptance, expiry of versions, order of writes, what proves a placement, and what
//! allows a release. The operator, the model (`tests/model`) and the simulation (`tests/sim`) use these functions.

pub mod accept;
pub mod entry;
pub mod expiry;
pub mod proof;
pub mod resolution;
pub mod scope;
pub mod steps;
