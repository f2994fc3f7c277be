//! Logs, metrics, readiness, and the server that shows them.

pub mod bucket_metrics;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod readiness;
