//! Logs: JSON for machines, text for people. All lines go to standard error, so that the output of a command can be
//! piped.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading on a terminal.
    Text,
}

/// Filter if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "info";

/// Highest levels of libraries, whatever `RUST_LOG` says. Above these levels they log secrets. kube's client logs bodies
/// that it cannot read, such as a list of Secrets. The S3 client and the HTTP libraries log headers with signatures and
/// tokens. The RTSP client logs a camera's answers.
const LIBRARY_LEVEL_LIMITS: [(&str, LevelFilter); 12] = [
    ("kube_client", LevelFilter::OFF),
    ("aws_config", LevelFilter::WARN),
    ("aws_runtime", LevelFilter::WARN),
    ("aws_sdk_s3", LevelFilter::WARN),
    ("aws_sigv4", LevelFilter::WARN),
    ("aws_smithy", LevelFilter::WARN),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("tower", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("retina", LevelFilter::ERROR),
];

#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    #[error("RUST_LOG is not a filter: {0}")]
    Filter(#[from] ParseError),
    #[error("logs are already set up: {0}")]
    AlreadyInitialized(#[from] TryInitError),
}

pub fn init(format: LogFormat) -> Result<(), LogSetupError> {
    let filter = filter(std::env::var(EnvFilter::DEFAULT_ENV).ok().as_deref())?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    Ok(Registry::default().with(lines.with_filter(filter)).try_init()?)
}

/// Returns the requested filter, limited so that no library logs a secret.
fn filter<S: Subscriber>(requested: Option<&str>) -> Result<impl Filter<S> + use<S>, LogSetupError> {
    let requested = requested.filter(|text| !text.is_empty()).unwrap_or(DEFAULT_FILTER);
    let safe = Targets::new().with_default(LevelFilter::TRACE).with_targets(LIBRARY_LEVEL_LIMITS);
    Ok(EnvFilter::try_new(requested)?.and(safe))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Returns the targets of the events that pass the filter.
    fn logged(requested: Option<&str>) -> Vec<String> {
        struct CapturedTargets(Arc<Mutex<Vec<String>>>);
        impl<S: Subscriber> Layer<S> for CapturedTargets {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                self.0.lock().unwrap().push(event.metadata().target().to_owned());
            }
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let subscriber =
            Registry::default().with(CapturedTargets(seen.clone()).with_filter(filter(requested).unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "kube_client::client", "body of a Secret");
            tracing::debug!(target: "aws_smithy_runtime::client", "signed headers");
            tracing::debug!(target: "hyper::proto", "headers");
            tracing::warn!(target: "retina::client", "a camera's answer");
            tracing::debug!(target: "toezicht::storage", "details of the operator");
            tracing::info!(target: "toezicht", "an event of the operator");
        });
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[test]
    fn targets_that_may_quote_secrets_are_never_logged() {
        assert_eq!(logged(None), ["toezicht"]);
        assert_eq!(logged(Some("")), ["toezicht"]);
        for requested in [
            "trace",
            "debug",
            "info,toezicht=debug",
            "kube_client=trace,hyper=trace,toezicht=debug,retina=trace",
        ] {
            assert_eq!(logged(Some(requested)), ["toezicht::storage", "toezicht"], "{requested}");
        }
    }

    #[test]
    fn invalid_filter_is_rejected() {
        assert!(filter::<Registry>(Some("toezicht=loud")).is_err());
    }
}
