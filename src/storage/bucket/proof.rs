//! Proofs that a principal names the identity it should, made before a policy relies on it.

pub(crate) mod machines;
pub(crate) mod people;
pub(crate) mod policy;
