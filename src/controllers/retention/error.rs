//! Errors of a retention pass.

use crate::controllers::kubernetes::error::ApiError;
use crate::leader::fence::NotLeader;
use crate::storage::recordings::error::HoldError;
use crate::storage::recordings::sweep::state::SweepError;

/// Why a site's retention could not be looked after.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum RetentionPassError {
    /// The API server did not do it.
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    /// The ledger, or a pass over held versions.
    #[error(transparent)]
    #[strum(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    #[strum(transparent)]
    Sweep(#[from] SweepError),
    /// This replica does not lead any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}
