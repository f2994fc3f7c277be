//! State that all parts of a recorder share.

use std::sync::Arc;
use std::time::Instant;

use jiff::SignedDuration;
use tokio::sync::watch;

use super::confirmed_clock::ConfirmedClock;
use super::metrics::RecorderMetrics;
use super::spool::Spool;
use super::state::RecorderState;
use crate::wire::{CameraFailure, CameraState, GapCause};

#[derive(Clone)]
pub struct RecorderContext {
    pub spool: Arc<Spool>,
    pub state: Arc<RecorderState>,
    pub metrics: RecorderMetrics,
    pub clock: Arc<ConfirmedClock>,
    pub segment_duration: watch::Receiver<SignedDuration>,
    /// Origin of the monotonic clock of frames.
    pub epoch: Instant,
}

impl RecorderContext {
    pub fn new(spool: Arc<Spool>, segment_duration: watch::Receiver<SignedDuration>) -> Self {
        let metrics = RecorderMetrics::default();
        let state = Arc::new(RecorderState::new(spool.root(), metrics.clone()));
        Self { spool, state, metrics, clock: Arc::default(), segment_duration, epoch: Instant::now() }
    }

    /// Reports that no video of a camera is recorded. `category` names the error in metrics, `failure` in the status.
    pub fn report_failure(
        &self,
        camera: &str,
        failure: CameraFailure,
        category: &'static str,
        message: &str,
    ) {
        self.metrics.count_connection_failure(camera, category);
        self.state.set_last_error(camera, message);
        // Before the state, so that no reader sees `Disconnected` without its failure.
        self.state.set_failure(camera, failure);
        self.state.interrupt(camera, CameraState::Disconnected, GapCause::Disconnected);
    }
}
