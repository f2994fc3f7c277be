//! One connection's pictures into files: the gate is asked for every picture, and the clock learns from it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::camera::{Shared, until_then};
use super::clock::StreamClock;
use super::frame::Frame;
use super::gate;
use super::mp4::Mp4Error;
use super::segment::{Segmenter, Step};
use super::spool::{SpoolError, Writer};
use super::stream::{Source, Stream, StreamError};
use crate::contract::{CameraConfig, CameraState, GapCause};

/// How often the gate is asked although no picture comes.
const LOOK: Duration = Duration::from_secs(10);

/// Why a recording ended.
#[derive(Debug)]
pub enum End {
    /// The recorder stops, or the camera went from its configuration.
    Stop,
    /// The camera may not record now.
    Gate,
    /// The camera is to be reached otherwise.
    Reconfigured,
    /// Nothing more can be kept.
    Full,
    /// The disk or the format would not.
    Disk {
        /// Bounded, for metrics.
        category: &'static str,
        /// Holds no secret.
        message: String,
    },
    /// The stream ended.
    Failed(StreamError),
}

/// What an upset in writing says of the recording.
impl From<SpoolError> for End {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Full => Self::Full,
            SpoolError::Io(_) => Self::Disk { category: error.category(), message: error.safe_message() },
        }
    }
}

impl From<Mp4Error> for End {
    fn from(error: Mp4Error) -> Self {
        Self::Disk { category: error.category(), message: format!("a picture cannot be written: {error}") }
    }
}

/// One connection's recording.
pub struct Recording<'a> {
    name: &'a str,
    shared: &'a Shared,
    clock: StreamClock,
    segmenter: Segmenter,
    writer: Option<Writer>,
}

impl<'a> Recording<'a> {
    /// Nothing recorded yet.
    pub fn new(name: &'a str, shared: &'a Shared) -> Self {
        let segmenter = Segmenter::new(*shared.segment.borrow());
        Self { name, shared, clock: StreamClock::default(), segmenter, writer: None }
    }

    /// Records until something ends it, and completes the file.
    pub async fn run(
        mut self,
        mut stream: Stream,
        source: &Source,
        config: &mut watch::Receiver<CameraConfig>,
        stop: &CancellationToken,
    ) -> End {
        let end = self.record(&mut stream, source, config, stop).await;
        // The camera hears first that it may stop; the disk can take its time.
        drop(stream);
        let finished = match self.segmenter.finish() {
            Ok(steps) => self.take(steps).await,
            Err(error) => Err(error.into()),
        };
        self.begin_gap(&end);
        match (end, finished) {
            (End::Failed(_), Err(worse)) => worse,
            (end, _) => end,
        }
    }

    async fn record(
        &mut self,
        stream: &mut Stream,
        source: &Source,
        config: &mut watch::Receiver<CameraConfig>,
        stop: &CancellationToken,
    ) -> End {
        loop {
            let camera = config.borrow_and_update().clone();
            if Source::from(&camera) != *source {
                return End::Reconfigured;
            }
            let now = Timestamp::now();
            let gate = gate::at(&camera, now);
            if gate.closed.is_some() {
                return End::Gate;
            }
            let closing = sleep(gate.until.map_or(LOOK, |until| until_then(until, now)).min(LOOK));
            tokio::pin!(closing);
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return End::Stop,
                    () = &mut closing => break,
                    changed = config.changed() => if changed.is_err() { return End::Stop } else { break },
                    frame = stream.next() => match frame {
                        Ok(frame) => if let Err(end) = self.frame(frame, &camera).await { return end },
                        Err(error) => return End::Failed(error),
                    },
                }
            }
        }
    }

    async fn frame(&mut self, frame: Frame, camera: &CameraConfig) -> Result<(), End> {
        if frame.lost > 0 {
            self.shared.metrics.lost(self.name, frame.lost);
        }
        let continuity = self.clock.observe(frame.ticks, frame.arrived);
        let taken = self.clock.wall(frame.ticks);
        // A picture that was taken outside a window is not written, whenever it arrives.
        if gate::closed(camera, taken).is_some() {
            let closed = gate::closed(camera, Timestamp::now()).is_some();
            return if closed { Err(End::Gate) } else { Ok(()) };
        }
        self.segmenter.set_duration(*self.shared.segment.borrow());
        let clock = &self.clock;
        let steps = self.segmenter.push(frame, continuity, &|ticks| clock.wall(ticks))?;
        if self.segmenter.is_open() {
            self.shared.board.frame(self.name, taken);
        }
        self.take(steps).await
    }

    async fn take(&mut self, steps: Vec<Step>) -> Result<(), End> {
        let (board, metrics) = (&self.shared.board, &self.shared.metrics);
        for step in steps {
            match step {
                Step::Open { start, bytes, parameters } => {
                    self.writer = Some(self.shared.spool.begin(self.name, start, bytes).await?);
                    board.set_codec(self.name, parameters.codec.to_string());
                    board.set_state(self.name, CameraState::Recording, Timestamp::now());
                }
                Step::Append { bytes, pictures, from, until } => {
                    if let Some(writer) = &mut self.writer {
                        let length = bytes.len() as u64;
                        if let Err(error) = writer.append(bytes).await {
                            // What is whole is worth keeping; the next `close` would claim more than there is.
                            self.writer = None;
                            return Err(error.into());
                        }
                        metrics.written(self.name, pictures, length);
                        board.recorded(self.name, from, until);
                    }
                }
                Step::Close { start, end } => {
                    if let Some(writer) = self.writer.take() {
                        let closed = writer.close(start, end).await?;
                        metrics.segment(self.name);
                        tracing::debug!(camera = self.name, bytes = closed.bytes, "segment complete");
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_gap(&self, end: &End) {
        let now = Timestamp::now();
        match end {
            End::Full => {
                self.shared.board.set_state(self.name, CameraState::SpoolFull, now);
                self.shared.board.gap(self.name, GapCause::SpoolFull, now);
            }
            End::Reconfigured => self.shared.board.gap(self.name, GapCause::Disconnected, now),
            // These say for themselves why there is no picture.
            End::Stop | End::Gate | End::Disk { .. } | End::Failed(_) => {}
        }
    }
}
