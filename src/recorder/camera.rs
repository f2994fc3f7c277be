//! One camera: opens and closes its gate, keeps a stream, makes files of it. Whatever goes wrong here ends
//! here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::board::Board;
use super::gate::{self, Gate};
use super::metrics::Metrics;
use super::session::{End, Recording};
use super::spool::Spool;
use super::stream::{Source, Stream, StreamError};
use crate::contract::{CameraConfig, CameraState, GapCause};

/// The wall clock may be set while we wait for an instant of it, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(10);
/// How often a full spool is looked at.
const FULL: Duration = Duration::from_secs(2);
/// Room for a beginning and a fragment, before recording goes on.
const ROOM: u64 = 1 << 20;
/// Waits between attempts at a camera that does not answer.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A stream that lasted so long was a healthy one.
const HEALTHY: Duration = Duration::from_secs(30);

/// What all cameras share.
#[derive(Clone)]
pub struct Shared {
    /// Where recordings are made.
    pub spool: Arc<Spool>,
    /// Where everything is reported.
    pub board: Arc<Board>,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// How long a segment is.
    pub segment: watch::Receiver<SignedDuration>,
    /// Where the steady clock counts from.
    pub epoch: Instant,
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Time,
    Config,
    Stop,
}

/// The task of one camera.
pub struct Camera {
    /// Its name.
    pub name: String,
    /// What all cameras share.
    pub shared: Shared,
    /// How it is configured; changes without the task ending.
    pub config: watch::Receiver<CameraConfig>,
    /// Ends the task, its file completed.
    pub stop: CancellationToken,
}

impl Camera {
    /// Records until told to stop.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            let config = self.config.borrow_and_update().clone();
            let now = Timestamp::now();
            let gate = gate::at(&config, now);
            let wake = match gate.closed {
                Some(cause) => self.stay_closed(cause, gate, now).await,
                None => self.connect(&Source::from(&config), &mut backoff).await,
            };
            match wake {
                Wake::Stop => return,
                // Another configuration deserves an attempt at once.
                Wake::Config => backoff.reset(),
                Wake::Time => {}
            }
        }
    }

    async fn stay_closed(&mut self, cause: GapCause, gate: Gate, now: Timestamp) -> Wake {
        let state =
            if cause == GapCause::Suspended { CameraState::Suspended } else { CameraState::NotPermitted };
        self.shared.board.set_state(&self.name, state, now);
        self.shared.board.gap(&self.name, cause, now);
        let left = gate.until.map_or(LOOK, |until| until_then(until, now));
        self.wait(left.min(LOOK)).await
    }

    /// One connection, from first to last.
    async fn connect(&mut self, source: &Source, backoff: &mut Backoff) -> Wake {
        let (board, name) = (Arc::clone(&self.shared.board), self.name.clone());
        if !self.shared.spool.has_room(ROOM) {
            board.set_state(&name, CameraState::SpoolFull, Timestamp::now());
            board.gap(&name, GapCause::SpoolFull, Timestamp::now());
            return self.wait(FULL).await;
        }
        board.set_state(&name, CameraState::Connecting, Timestamp::now());
        self.shared.metrics.connect(&name);
        let connecting = Stream::connect(source, self.shared.epoch);
        let stream = tokio::select! {
            stream = connecting => stream,
            () = self.stop.cancelled() => return Wake::Stop,
            changed = self.config.changed() => return if changed.is_err() { Wake::Stop } else { Wake::Config },
        };
        let begun = Instant::now();
        let end = match stream {
            Ok(stream) => {
                Recording::new(&self.name, &self.shared)
                    .run(stream, source, &mut self.config, &self.stop)
                    .await
            }
            Err(error) => End::Failed(error),
        };
        match end {
            End::Stop => Wake::Stop,
            End::Gate | End::Reconfigured => Wake::Config,
            End::Full => {
                board.error(&name, "the spool is full");
                self.wait(FULL).await
            }
            End::Disk { category, message } => {
                self.failed(category, &message);
                self.wait(backoff.wait()).await
            }
            End::Failed(error) => {
                if begun.elapsed() >= HEALTHY {
                    backoff.reset();
                }
                self.failed(error.category(), &error.safe_message());
                if matches!(error, StreamError::Ended) && begun.elapsed() >= HEALTHY {
                    return Wake::Time;
                }
                self.wait(backoff.wait()).await
            }
        }
    }

    fn failed(&self, category: &'static str, message: &str) {
        let now = Timestamp::now();
        tracing::warn!(camera = self.name, category, "{message}");
        self.shared.metrics.failure(&self.name, category);
        self.shared.board.error(&self.name, message);
        self.shared.board.set_state(&self.name, CameraState::Disconnected, now);
        self.shared.board.gap(&self.name, GapCause::Disconnected, now);
    }

    async fn wait(&mut self, time: Duration) -> Wake {
        tokio::select! {
            () = sleep(time) => Wake::Time,
            () = self.stop.cancelled() => Wake::Stop,
            changed = self.config.changed() => if changed.is_err() { Wake::Stop } else { Wake::Config },
        }
    }
}

/// From `now` to an instant; a millisecond more, so that it has come then.
pub fn until_then(instant: Timestamp, now: Timestamp) -> Duration {
    let ms = instant.as_millisecond().saturating_sub(now.as_millisecond()).saturating_add(1);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
