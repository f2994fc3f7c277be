//! The `toezicht` binary.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use toezicht::contract::{HEALTH_PORT, STATUS_PORT};
use toezicht::recorder;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
enum Command {
    /// Record.
    Recorder {
        #[arg(long)]
        config_dir: PathBuf,
        #[arg(long)]
        spool: PathBuf,
        #[arg(long, env = "TOEZICHT_SHARD")]
        shard: u32,
        #[arg(long, default_value_t = ([0, 0, 0, 0], STATUS_PORT).into())]
        status_listen: std::net::SocketAddr,
        #[arg(long, default_value_t = ([0, 0, 0, 0], HEALTH_PORT).into())]
        health_listen: std::net::SocketAddr,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter("info,retina=error")
        .init();
    let Command::Recorder {
        config_dir,
        spool,
        shard,
        status_listen,
        health_listen,
    } = Command::parse();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            term.recv().await;
            stop.cancel();
        }
    });
    let grace = Duration::from_secs(25);
    let options = recorder::Options {
        config_dir,
        spool,
        shard,
        status_listen,
        health_listen,
        grace,
    };
    match recorder::run(options, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
