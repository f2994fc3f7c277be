//! Logs: JSON for machines, text for people. Every line goes to standard error, so that what a command
//! prints can be piped.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading on a terminal.
    Text,
}

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// The most that libraries may log whatever `RUST_LOG` says, since beyond it they quote what may be secret:
/// kube's client the body of a response that it cannot read (a list of Secrets, say), the S3 client and the
/// HTTP libraries headers with signatures and tokens, the RTSP client what a camera answers.
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

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    /// `RUST_LOG` cannot be understood.
    #[error("RUST_LOG is not a filter: {0}")]
    Filter(#[from] ParseError),
    /// Somebody has set it up already.
    #[error("logs are set up already: {0}")]
    AlreadyInitialized(#[from] TryInitError),
}

/// Sets up logging for the process.
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

/// What is logged: what was asked for, but never what may quote a secret.
fn filter<S: Subscriber>(asked: Option<&str>) -> Result<impl Filter<S> + use<S>, LogSetupError> {
    let asked = asked.filter(|text| !text.is_empty()).unwrap_or(DEFAULT_FILTER);
    let safe = Targets::new().with_default(LevelFilter::TRACE).with_targets(LIBRARY_LEVEL_LIMITS);
    Ok(EnvFilter::try_new(asked)?.and(safe))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The targets of the events that come through.
    fn logged(asked: Option<&str>) -> Vec<String> {
        struct CapturedTargets(Arc<Mutex<Vec<String>>>);
        impl<S: Subscriber> Layer<S> for CapturedTargets {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                self.0.lock().unwrap().push(event.metadata().target().to_owned());
            }
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let subscriber =
            Registry::default().with(CapturedTargets(seen.clone()).with_filter(filter(asked).unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "kube_client::client", "body of a Secret");
            tracing::debug!(target: "aws_smithy_runtime::client", "signed headers");
            tracing::debug!(target: "hyper::proto", "headers");
            tracing::warn!(target: "retina::client", "what a camera said");
            tracing::debug!(target: "toezicht::storage", "ours, for those who look closely");
            tracing::info!(target: "toezicht", "ours");
        });
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[test]
    fn targets_that_may_quote_secrets_are_never_logged() {
        assert_eq!(logged(None), ["toezicht"]);
        assert_eq!(logged(Some("")), ["toezicht"]);
        for asked in [
            "trace",
            "debug",
            "info,toezicht=debug",
            "kube_client=trace,hyper=trace,toezicht=debug,retina=trace",
        ] {
            assert_eq!(logged(Some(asked)), ["toezicht::storage", "toezicht"], "{asked}");
        }
    }

    #[test]
    fn invalid_filter_is_rejected() {
        assert!(filter::<Registry>(Some("toezicht=loud")).is_err());
    }
}
