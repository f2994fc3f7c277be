//! Wiring: leader election, readiness, metrics, logs, shutdown.

pub mod client;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
