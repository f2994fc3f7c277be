//! The recorder's servers: health and metrics for the cluster, the status for the operator.

pub mod health;
pub mod status;
pub mod tls;
