//! The tests against real peers: API servers, a kubelet, S3 servers, RTSP cameras.
//!
//! `make test-integration` runs them in the test bed; with `KUBECONFIG` and the settings named in `support::settings` they
//! run against any cluster and S3 endpoint.

// Whatever is not as expected is a failure of the test, and a panic is how a test fails: in helpers, too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::match_wild_err_arm
)]
// A test's future is polled once in its life, and limits are read in seconds.
#![allow(
    clippy::large_futures,
    clippy::duration_suboptimal_units,
    clippy::redundant_closure_for_method_calls
)]
// The peers here are our own, and what they answer is short.
#![allow(clippy::disallowed_methods)]
// Benchmarks load `support` by its path, and then only a `mod.rs` finds what is below it.
#![allow(clippy::mod_module_files)]

mod admission;
mod lifecycle;
mod line;
mod operator;
mod recorder;
mod storage;
mod support;
