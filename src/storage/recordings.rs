//! Recordings in a bucket: ledger, place, release, sweep and audit.

pub mod audit;
pub(crate) mod day_filter;
pub mod error;
#[cfg(test)]
mod failing_tests;
pub mod hold;
pub mod ledger;
pub mod open_holds;
pub(crate) mod sources;
pub mod sweep;

pub(crate) use self::error::SourceDay;
pub use self::error::{HoldError, Incomplete, PassErrors};
pub use self::open_holds::{OpenHolds, OpenHoldsError};
