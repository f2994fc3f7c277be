//! The protocol's rules as pure functions: no I/O, no clock. Each returns reason and message, so that the
//! same rule decides and explains.
