//! What sweep, audit, placing and releasing cost beside their peers: both sides on the same work, on the same store, in
//! one run, in turn, several times. `make bench-storage` and `make bench-holds` run it in the test bed.
//!
//! Every contender is a process of its own, so that none inherits another's connections or memory.

// A benchmark that cannot be run says so by panicking, as a test does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures
)]
// Counts and seconds are far below what a float holds exactly.
#![allow(clippy::cast_precision_loss)]

mod bed;
mod declared;
mod loops;
mod ours;
#[path = "../shared/page.rs"]
mod page;
mod races;
mod replay;
mod report;
#[allow(dead_code, clippy::disallowed_methods, clippy::mod_module_files)]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use bed::TestBed;
use clap::{Parser, Subcommand};
use races::{bench_holds, bench_storage};
use serde::{Deserialize, Serialize};
use toezicht::wire::StorageTarget;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: BenchCommand,
    /// What `cargo bench` adds.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Sweep and audit.
    Storage(BenchSize),
    /// Placing and releasing.
    Holds(BenchSize),
    /// One contender, once; what it took is printed.
    #[command(hide = true)]
    Run { contender: String, bucket: String },
}

/// How much, and how often.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct BenchSize {
    /// Segments that are swept, or held; the audit has twice as many.
    #[arg(long, default_value_t = 8000)]
    pub segments: usize,
    /// How often each contender has its turn.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// What one contender did, and what it took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// From its first request to its last answer.
    pub seconds: f64,
    /// Versions that it dealt with: deleted, listed, held or released.
    pub versions: usize,
    /// The most memory that its process ever had (`VmHWM`).
    #[serde(default)]
    pub peak_kib: u64,
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Args::parse().command {
        BenchCommand::Storage(size) => bench_storage(size).await,
        BenchCommand::Holds(size) => bench_holds(size).await,
        BenchCommand::Run { contender, bucket } => {
            // In a task of its own, as a reconcile is.
            let run = async move { run(&contender, &TestBed::from_settings().target(&bucket)).await };
            let took = tokio::spawn(run).await.unwrap();
            println!("{}", serde_json::to_string(&took).unwrap());
        }
    }
}

async fn run(contender: &str, target: &StorageTarget) -> Measurement {
    let took = match contender {
        "sweep" => ours::sweep_all(target).await,
        "audit" => ours::audit_all(target).await,
        "place" => ours::place_all(target).await,
        "release" => ours::release_all(target).await,
        "loop-list" => loops::list_all(target, false).await,
        "loop-read" => loops::list_all(target, true).await,
        "raw-delete" => replay::replay_deletions(target, false).await,
        "raw-sweep" => replay::replay_deletions(target, true).await,
        "raw-place" => replay::replay_protection(target, true, true).await,
        "raw-release" => replay::replay_protection(target, false, true).await,
        "raw-place-marks" => replay::replay_protection(target, true, false).await,
        "raw-release-marks" => replay::replay_protection(target, false, false).await,
        other => panic!("no contender {other}"),
    };
    Measurement { peak_kib: peak_kib(), ..took }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap().split_whitespace().next();
    words.unwrap().parse().unwrap()
}
