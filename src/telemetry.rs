//! Logs, metrics and readiness, and a bounded server for them.

pub mod bucket_metrics;
pub mod logs;
pub mod metrics;
pub mod probes;
pub mod readiness;
pub mod serve;
