//! Integration tests against real API servers, a kubelet, S3 servers and RTSP cameras.
//!
//! `make test-integration` runs them in the test bed. With `KUBECONFIG` and the variables read by `support::settings`
//! they run against any cluster and S3 endpoint.

// A test fails by panicking, in helpers too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::match_wild_err_arm
)]
// Test futures may be large: each runs once. Timeouts are easier to read in seconds.
#![allow(
    clippy::large_futures,
    clippy::duration_suboptimal_units,
    clippy::redundant_closure_for_method_calls
)]
// Responses come from the test bed's own servers and are short, so reading them without a limit is safe.
#![allow(clippy::disallowed_methods)]
// The benchmarks include `support` by path, and only a `mod.rs` finds its submodules then.
#![allow(clippy::mod_module_files)]

mod admission;
mod admission_policies;
mod chaos;
mod helm_upgrade;
mod lifecycle;
mod line;
mod lost_node;
mod operator;
mod recorder;
mod storage;
mod support;
