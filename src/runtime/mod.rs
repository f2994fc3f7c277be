//! Wiring: leader election, readiness, metrics, logs, shutdown.

pub mod bucket_metrics;
pub mod client;
pub mod hooks;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod operator;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
