//! What the recorder serves: health and metrics to the cluster, its status to the operator.

pub mod health;
pub mod status;
pub mod tls;
