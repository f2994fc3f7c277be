//! Proofs that a principal names the intended identity, before a policy depends on it.

pub(crate) mod machines;
pub(crate) mod people;
pub(crate) mod policy;
