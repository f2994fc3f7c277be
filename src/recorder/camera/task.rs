//! The task of one camera: connects while recording is permitted, and retries. An error here affects no other camera.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::permission;
use super::session::{RecordingSession, SessionEnd};
use crate::failure::Failure;
use crate::recorder::context::RecorderContext;
use crate::recorder::rtsp::{StreamError, VideoStream};
use crate::wire::{CameraConfig, CameraFailure, CameraSource, CameraState, GapCause};

const SPOOL_FULL_RETRY_DELAY: Duration = Duration::from_secs(2);
/// Free bytes that recording needs: the start of a file and one fragment.
const MIN_SPOOL_ROOM: u64 = 1 << 20;
/// Duration after which a session counts as healthy, so that the next failure is not one of a series.
const HEALTHY_SESSION: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WakeReason {
    Elapsed,
    ConfigChanged,
    Stopped,
}

pub struct CameraTask {
    pub name: String,
    pub context: RecorderContext,
    /// Current configuration; the task applies changes.
    pub config: watch::Receiver<CameraConfig>,
    /// Ends the task after its file is complete.
    pub stop: CancellationToken,
}

impl CameraTask {
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let config = self.config.borrow_and_update().clone();
            let now = Timestamp::now();
            let permission = permission::recording_window(&config, now);
            let wake = match permission.denial {
                Some(cause) => {
                    self.interrupt(cause, config.is_rejected);
                    self.wait(permission.recheck_in(now)).await
                }
                None => self.run_connection(&config.source, &mut backoff).await,
            };
            match wake {
                WakeReason::Stopped => return,
                // The new configuration may fix the cause of the failures.
                WakeReason::ConfigChanged => {
                    backoff.reset();
                    self.context.state.expect_another_failure(&self.name);
                }
                WakeReason::Elapsed => {}
            }
        }
    }

    /// Notes that nothing may be recorded, or that nobody knows whether it may.
    fn interrupt(&self, cause: GapCause, is_rejected: bool) {
        let RecorderContext { state, .. } = &self.context;
        let camera_state = match cause {
            GapCause::Suspended => CameraState::Suspended,
            _ if is_rejected => {
                state.set_last_error(&self.name, "its part of the configuration is rejected");
                state.set_failure(&self.name, CameraFailure::ConfigurationRejected);
                CameraState::Disconnected
            }
            _ => CameraState::NotPermitted,
        };
        state.interrupt(&self.name, camera_state, cause);
    }

    async fn run_connection(&mut self, source: &CameraSource, backoff: &mut Backoff) -> WakeReason {
        let (state, name) = (Arc::clone(&self.context.state), self.name.clone());
        // Before the connection: a full spool cannot take the frames of the camera.
        if !self.context.spool.has_room(MIN_SPOOL_ROOM) {
            state.interrupt(&name, CameraState::SpoolFull, GapCause::SpoolFull);
            return self.wait(SPOOL_FULL_RETRY_DELAY).await;
        }
        state.set_camera_state(&name, CameraState::Connecting, Timestamp::now());
        self.context.metrics.count_connection_attempt(&name);
        let connecting = VideoStream::connect(source, self.context.epoch);
        let stream = tokio::select! {
            stream = connecting => stream,
            () = self.stop.cancelled() => return WakeReason::Stopped,
            changed = self.config.changed() => return if changed.is_err() { WakeReason::Stopped } else { WakeReason::ConfigChanged },
        };
        let session_start = Instant::now();
        let end = match stream {
            Ok(stream) => {
                RecordingSession::new(&self.name, &self.context)
                    .run(stream, source, &mut self.config, &self.stop)
                    .await
            }
            Err(error) => SessionEnd::StreamFailed(error),
        };
        match end {
            SessionEnd::Stopped => WakeReason::Stopped,
            SessionEnd::NotPermitted | SessionEnd::Reconfigured => WakeReason::ConfigChanged,
            SessionEnd::SpoolFull => {
                state.set_last_error(&name, "the spool is full");
                self.wait(SPOOL_FULL_RETRY_DELAY).await
            }
            SessionEnd::WriteFailed { category, message } => {
                self.report_failure(CameraFailure::RecorderFailed, category, &message);
                self.wait(backoff.next_delay()).await
            }
            SessionEnd::StreamFailed(error) => {
                if session_start.elapsed() >= HEALTHY_SESSION {
                    backoff.reset();
                }
                self.report_failure(error.camera_failure(), error.category(), &error.to_string());
                // Some cameras end each session after a fixed time. Without a wait, the gap stays short.
                if matches!(error, StreamError::Ended) && session_start.elapsed() >= HEALTHY_SESSION {
                    return WakeReason::Elapsed;
                }
                self.wait(backoff.next_delay()).await
            }
        }
    }

    fn report_failure(&self, failure: CameraFailure, category: &'static str, message: &str) {
        tracing::warn!(camera = self.name, category, "{message}");
        self.context.report_failure(&self.name, failure, category, message);
    }

    async fn wait(&mut self, time: Duration) -> WakeReason {
        tokio::select! {
            () = sleep(time) => WakeReason::Elapsed,
            () = self.stop.cancelled() => WakeReason::Stopped,
            changed = self.config.changed() => if changed.is_err() { WakeReason::Stopped } else { WakeReason::ConfigChanged },
        }
    }
}
