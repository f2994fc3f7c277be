//! What the recorder serves: health and metrics to the cluster, its status to the operator.

mod accept;
pub mod health;
pub mod status;
pub mod tls;
