//! Access to the open holds of the API server.

use async_trait::async_trait;

use crate::rules::HoldScope;

/// Open holds of the API server, read immediately before each deletion.
#[async_trait]
pub trait OpenHolds: Send + Sync {
    /// Returns their scopes. An error stops the deletion.
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError>;
}

/// The open holds cannot be determined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the open holds cannot be read: {0}")]
pub struct OpenHoldsError(pub String);
