//! Writes the frames of one connection into files. Checks the permission of every frame and adjusts the clock to it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::clock::StreamClock;
use super::permission;
use crate::failure::Failure;
use crate::recorder::context::RecorderContext;
use crate::recorder::frame::Frame;
use crate::recorder::mp4::Mp4Error;
use crate::recorder::rtsp::{StreamError, VideoStream};
use crate::recorder::segment::{SegmentStep, Segmenter};
use crate::recorder::spool::{SegmentWriter, SpoolError};
use crate::wire::{CameraConfig, CameraSource, CameraState, GapCause};

#[derive(Debug)]
pub enum SessionEnd {
    /// The recorder stops, or the camera was removed.
    Stopped,
    NotPermitted,
    /// The camera has another URL, login or certificate authority.
    Reconfigured,
    SpoolFull,
    /// The disk or the muxer failed.
    WriteFailed {
        /// The error's category.
        category: &'static str,
        message: String,
    },
    StreamFailed(StreamError),
}

impl From<SpoolError> for SessionEnd {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Full => Self::SpoolFull,
            SpoolError::Io(_) => Self::WriteFailed { category: error.category(), message: error.to_string() },
        }
    }
}

impl From<Mp4Error> for SessionEnd {
    fn from(error: Mp4Error) -> Self {
        Self::WriteFailed {
            category: error.category(),
            message: format!("a frame cannot be written: {error}"),
        }
    }
}

pub struct RecordingSession<'a> {
    name: &'a str,
    context: &'a RecorderContext,
    clock: StreamClock,
    segmenter: Segmenter,
    writer: Option<SegmentWriter>,
}

impl<'a> RecordingSession<'a> {
    pub fn new(name: &'a str, context: &'a RecorderContext) -> Self {
        let segmenter = Segmenter::new(*context.segment_duration.borrow());
        Self { name, context, clock: StreamClock::default(), segmenter, writer: None }
    }

    /// Records until the session ends, and completes the file.
    pub async fn run(
        mut self,
        mut stream: VideoStream,
        source: &CameraSource,
        config: &mut watch::Receiver<CameraConfig>,
        stop: &CancellationToken,
    ) -> SessionEnd {
        let end = self.record(&mut stream, source, config, stop).await;
        // First, so that the camera stops sending while the disk is slow.
        drop(stream);
        let finished = match self.segmenter.finish() {
            Ok(steps) => self.apply_steps(steps).await,
            Err(error) => Err(error.into()),
        };
        self.report_gap(&end);
        match (end, finished) {
            // The end of the file is lost, which is more serious than the end of the stream.
            (SessionEnd::StreamFailed(_), Err(worse)) => worse,
            (end, _) => end,
        }
    }

    async fn record(
        &mut self,
        stream: &mut VideoStream,
        source: &CameraSource,
        config: &mut watch::Receiver<CameraConfig>,
        stop: &CancellationToken,
    ) -> SessionEnd {
        loop {
            let camera = config.borrow_and_update().clone();
            if camera.source != *source {
                return SessionEnd::Reconfigured;
            }
            let now = Timestamp::now();
            let permission = permission::recording_window(&camera, now);
            if permission.denial.is_some() {
                return SessionEnd::NotPermitted;
            }
            let recheck = sleep(permission.recheck_in(now));
            tokio::pin!(recheck);
            loop {
                tokio::select! {
                    // In this order: frames that arrive without a pause must not delay a stop or the end of a
                    // permission.
                    biased;
                    () = stop.cancelled() => return SessionEnd::Stopped,
                    () = &mut recheck => break,
                    changed = config.changed() => if changed.is_err() { return SessionEnd::Stopped } else { break },
                    frame = stream.next() => match frame {
                        Ok(frame) => if let Err(end) = self.record_frame(frame, &camera).await { return end },
                        Err(error) => return SessionEnd::StreamFailed(error),
                    },
                }
            }
        }
    }

    async fn record_frame(&mut self, frame: Frame, camera: &CameraConfig) -> Result<(), SessionEnd> {
        if frame.lost_packets > 0 {
            self.context.metrics.add_lost_packets(self.name, frame.lost_packets);
        }
        let continuity = self.clock.observe(frame.ticks, frame.arrival);
        let captured_at = self.clock.capture_time(frame.ticks);
        // The capture time decides: a frame from outside a window is not written, even if it arrives inside one.
        if permission::denial_at(camera, captured_at).is_some() {
            let is_denied = permission::denial_at(camera, Timestamp::now()).is_some();
            return if is_denied { Err(SessionEnd::NotPermitted) } else { Ok(()) };
        }
        self.segmenter.set_duration(*self.context.segment_duration.borrow());
        let clock = &self.clock;
        let steps = self.segmenter.push(frame, continuity, &|ticks| clock.capture_time(ticks))?;
        if self.segmenter.is_open() {
            self.context.state.set_last_frame(self.name, captured_at);
        }
        self.apply_steps(steps).await
    }

    async fn apply_steps(&mut self, steps: Vec<SegmentStep>) -> Result<(), SessionEnd> {
        let (state, metrics) = (&self.context.state, &self.context.metrics);
        for step in steps {
            match step {
                SegmentStep::Open { start, bytes, parameters } => {
                    self.writer = Some(
                        SegmentWriter::begin(Arc::clone(&self.context.spool), self.name, start, bytes)
                            .await?,
                    );
                    state.set_codec(self.name, parameters.codec.to_string());
                    state.set_camera_state(self.name, CameraState::Recording, Timestamp::now());
                }
                SegmentStep::Append { bytes, frames, from, until } => {
                    if let Some(writer) = &mut self.writer {
                        let length = bytes.len() as u64;
                        if let Err(error) = writer.append(bytes).await {
                            // The writer is dropped, so that recovery keeps the whole fragments. `close` would name the
                            // file as complete.
                            self.writer = None;
                            return Err(error.into());
                        }
                        metrics.add_written(self.name, frames, length);
                        state.mark_recorded(self.name, from, until);
                    }
                }
                SegmentStep::Close { start, end } => {
                    if let Some(writer) = self.writer.take() {
                        let segment = writer.close(start, end).await?;
                        metrics.count_segment(self.name);
                        tracing::debug!(camera = self.name, bytes = segment.bytes, "segment complete");
                    }
                }
            }
        }
        Ok(())
    }

    fn report_gap(&self, end: &SessionEnd) {
        let state = &self.context.state;
        match end {
            SessionEnd::SpoolFull => state.interrupt(self.name, CameraState::SpoolFull, GapCause::SpoolFull),
            SessionEnd::Reconfigured => {
                state.begin_gap(self.name, GapCause::Disconnected, Timestamp::now());
            }
            // The camera's task reports these.
            SessionEnd::Stopped
            | SessionEnd::NotPermitted
            | SessionEnd::WriteFailed { .. }
            | SessionEnd::StreamFailed(_) => {}
        }
    }
}
