//! Every decision about holds, pure: what a hold covers, whether it can be accepted, what it does to a version, in which
//! order a version is protected and released, and when something may be claimed or released.
//!
//! The code, the model (`tests/model`) and the simulation (`tests/sim`) use these same functions.

pub mod accept;
pub(crate) mod claim;
pub mod entry;
pub(crate) mod expiry;
pub(crate) mod resolution;
pub mod scope;
pub(crate) mod steps;
