//! Adoption.
