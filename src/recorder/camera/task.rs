//! One camera: opens and closes its gate, keeps a stream, makes files of it. Whatever goes wrong here ends
//! here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::permission;
use super::permission::RecordingPermission;
use super::session::{RecordingSession, SessionEnd};
use crate::failure::Failure;
use crate::recorder::camera::context::{RecorderContext, duration_until};
use crate::recorder::rtsp::{StreamError, StreamSource, VideoStream};
use crate::wire::{CameraConfig, CameraState, GapCause};

/// The wall clock may be set while we wait for an instant of it, so it is looked at this often.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often a full spool is looked at.
const SPOOL_FULL_RETRY_DELAY: Duration = Duration::from_secs(2);
/// Room for a beginning and a fragment, before recording goes on.
const MIN_SPOOL_ROOM: u64 = 1 << 20;
/// Waits between attempts at a camera that does not answer.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A stream that lasted so long was a healthy one.
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
    /// How it is configured; changes without the task ending.
    pub config: watch::Receiver<CameraConfig>,
    /// Ends the task, its file completed.
    pub stop: CancellationToken,
}

impl CameraTask {
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF_RANGE.0, BACKOFF_RANGE.1);
        loop {
            let config = self.config.borrow_and_update().clone();
            let now = Timestamp::now();
            let permission = permission::recording_window(&config, now);
            let wake = match permission.denial {
                Some(cause) => self.wait_until_permitted(cause, permission, now).await,
                None => self.run_connection(&StreamSource::from(&config), &mut backoff).await,
            };
            match wake {
                WakeReason::Stopped => return,
                // Another configuration deserves an attempt at once.
                WakeReason::ConfigChanged => backoff.reset(),
                WakeReason::Elapsed => {}
            }
        }
    }

    async fn wait_until_permitted(
        &mut self,
        cause: GapCause,
        permission: RecordingPermission,
        now: Timestamp,
    ) -> WakeReason {
        let state =
            if cause == GapCause::Suspended { CameraState::Suspended } else { CameraState::NotPermitted };
        self.context.state.set_camera_state(&self.name, state, now);
        self.context.state.begin_gap(&self.name, cause, now);
        let left = permission.until.map_or(CLOCK_CHECK_INTERVAL, |until| duration_until(until, now));
        self.wait(left.min(CLOCK_CHECK_INTERVAL)).await
    }

    /// One connection, from first to last.
    async fn run_connection(&mut self, source: &StreamSource, backoff: &mut Backoff) -> WakeReason {
        let (state, name) = (Arc::clone(&self.context.state), self.name.clone());
        if !self.context.spool.has_room(MIN_SPOOL_ROOM) {
            state.set_camera_state(&name, CameraState::SpoolFull, Timestamp::now());
            state.begin_gap(&name, GapCause::SpoolFull, Timestamp::now());
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
                self.report_failure(category, &message);
                self.wait(backoff.next_delay()).await
            }
            SessionEnd::StreamFailed(error) => {
                if session_start.elapsed() >= HEALTHY_SESSION {
                    backoff.reset();
                }
                self.report_failure(error.category(), &error.to_string());
                if matches!(error, StreamError::Ended) && session_start.elapsed() >= HEALTHY_SESSION {
                    return WakeReason::Elapsed;
                }
                self.wait(backoff.next_delay()).await
            }
        }
    }

    fn report_failure(&self, category: &'static str, message: &str) {
        let now = Timestamp::now();
        tracing::warn!(camera = self.name, category, "{message}");
        self.context.metrics.count_connection_failure(&self.name, category);
        self.context.state.set_last_error(&self.name, message);
        self.context.state.set_camera_state(&self.name, CameraState::Disconnected, now);
        self.context.state.begin_gap(&self.name, GapCause::Disconnected, now);
    }

    async fn wait(&mut self, time: Duration) -> WakeReason {
        tokio::select! {
            () = sleep(time) => WakeReason::Elapsed,
            () = self.stop.cancelled() => WakeReason::Stopped,
            changed = self.config.changed() => if changed.is_err() { WakeReason::Stopped } else { WakeReason::ConfigChanged },
        }
    }
}
