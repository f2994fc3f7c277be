//! The `toezicht` binary.

fn main() {}
