//! What every camera task of a recorder shares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::recorder::metrics::RecorderMetrics;
use crate::recorder::spool::Spool;
use crate::recorder::state::RecorderState;

#[derive(Clone)]
pub struct RecorderContext {
    pub spool: Arc<Spool>,
    pub state: Arc<RecorderState>,
    pub metrics: RecorderMetrics,
    pub segment_duration: watch::Receiver<SignedDuration>,
    /// Where the steady clock counts from.
    pub epoch: Instant,
}

/// From `now` to an instant; a millisecond more, so that it has come then.
pub fn duration_until(instant: Timestamp, now: Timestamp) -> Duration {
    let ms = instant.as_millisecond().saturating_sub(now.as_millisecond()).saturating_add(1);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
