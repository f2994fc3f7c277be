//! Cost of the operator in a large cluster: many Sites and Cameras on a real API server. One process plays the StatefulSet
//! controller, the kubelets and the recorders. `make bench-scale` runs it in the test bed.

// A benchmark that cannot be run says so by panicking, as a test does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Counts and seconds are far below what a float holds exactly.
#![allow(clippy::cast_precision_loss)]

mod api_server;
mod objects;
mod operator;
#[path = "../shared/page.rs"]
mod page;
mod phases;
mod recorders;
mod report;
#[allow(dead_code, clippy::disallowed_methods, clippy::mod_module_files)]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use clap::Parser;

/// Size of the cluster.
#[derive(Parser, Clone, Copy, Debug)]
struct Args {
    /// Number of Sites.
    #[arg(long, default_value_t = 1000)]
    sites: usize,
    /// Number of Cameras, the same for each Site.
    #[arg(long, default_value_t = 10_000)]
    cameras: usize,
    /// Length of the period at rest over which requests are counted, in seconds. A multiple of 900, the period in which the statuses
    /// of Cameras are refreshed: a shorter count has all of these refreshes or none. Those of Sites are refreshed every 300 seconds.
    #[arg(long, default_value_t = 900)]
    rest: u64,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    phases::run(Args::parse()).await;
}
