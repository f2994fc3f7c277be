//! Logs: JSON for machines, text for people. Every line goes to standard error, so that what a command
//! prints can be piped.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading on a terminal.
    Text,
}

/// What is logged unless `RUST_LOG` says otherwise. kube's client logs failed requests with their response,
/// which our own lines report by code; the S3 client's debug lines hold signed headers and are never on by
/// default; the RTSP client's warnings quote what a camera says.
const DEFAULT_FILTER: &str = "info,kube_client=off,aws_config=warn,aws_smithy_runtime=warn,retina=error";

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` cannot be understood.
    #[error("RUST_LOG is not a filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody has set it up already.
    #[error("logs are set up already: {0}")]
    Already(#[from] TryInitError),
}

/// Sets up logging for the process.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::try_new(DEFAULT_FILTER)?,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init()?,
        LogFormat::Text => lines
            .with_ansi(std::io::stderr().is_terminal())
            .finish()
            .try_init()?,
    }
    Ok(())
}
