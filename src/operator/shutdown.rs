//! Signals: SIGTERM and SIGINT stop the process gracefully.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Returns a token that the first SIGTERM or SIGINT cancels. A second signal ends the process immediately.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for nth in 0.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if nth > 0 {
                info!(signal = name, "stopping immediately");
                // A hanging shutdown must not need SIGKILL.
                std::process::exit(130);
            }
            info!(signal = name, "stopping");
            token.cancel();
        }
    });
    Ok(stop)
}
