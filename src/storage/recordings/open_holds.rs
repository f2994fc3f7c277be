//! The open holds that the API server knows.

use async_trait::async_trait;

use crate::rules::hold::scope::HoldScope;

/// The holds that the API server knows of now, asked immediately before anything is deleted.
#[async_trait]
pub trait OpenHolds: Send + Sync {
    /// What they cover. An error stops the sweep.
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError>;
}

/// It could not be found out which holds are open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the open holds cannot be read: {0}")]
pub struct OpenHoldsError(pub String);
