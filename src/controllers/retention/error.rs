//! Errors of a retention pass.

use crate::controllers::kubernetes::ApiError;
use crate::leader::fence::NotLeader;
use crate::storage::HoldError;
use crate::storage::recordings::sweep::state::SweepError;

/// Reason that a retention pass failed.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum RetentionPassError {
    /// The API server rejected or failed a request.
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    /// The ledger or a place or release pass failed.
    #[error(transparent)]
    #[strum(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    #[strum(transparent)]
    Sweep(#[from] SweepError),
    /// This replica is no longer the leader.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}
