//! Writes the frames of one connection into files. Checks the permission of every frame and adjusts the clock to it.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::clock::StreamClock;
use super::permission;
use crate::failure::Failure;
use crate::recorder::context::RecorderContext;
use crate::recorder::frame::{Frame, VideoParameters};
use crate::recorder::mp4::Mp4Error;
use crate::recorder::rtsp::{StreamError, VideoStream};
use crate::recorder::segment::{SegmentStep, Segmenter};
use crate::recorder::spool::{SegmentWriter, SpoolError};
use crate::recorder::stream_rates::FileTally;
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
    /// What the file in progress has.
    recorded: Option<(Arc<VideoParameters>, FileTally)>,
    closing: Option<ClosingFile>,
}

/// A file that a task completes, while the session reads frames and writes the next file. If the session is dropped, the task
/// completes it nevertheless.
struct ClosingFile {
    /// Capture time in its name.
    named_start: Timestamp,
    task: JoinHandle<Result<(), SpoolError>>,
}

impl<'a> RecordingSession<'a> {
    pub fn new(name: &'a str, context: &'a RecorderContext) -> Self {
        let segmenter = Segmenter::new(*context.segment_duration.borrow());
        Self {
            name,
            context,
            clock: StreamClock::default(),
            segmenter,
            writer: None,
            recorded: None,
            closing: None,
        }
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
        // Also after an error: the files before it are complete.
        let closed = self.join_closing().await;
        self.report_gap(&end);
        match (end, finished.and(closed.map_err(SessionEnd::from))) {
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
                    closed = self.join_closing(), if self.closing.is_some() => {
                        if let Err(error) = closed { return error.into() }
                    }
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
        for step in steps {
            let (state, metrics) = (&self.context.state, &self.context.metrics);
            match step {
                SegmentStep::Open { start, bytes, parameters } => {
                    let named_start = self.closing.as_ref().map(|closing| closing.named_start);
                    if named_start.is_some_and(|named| named.as_millisecond() == start.as_millisecond()) {
                        // Until it is complete, that file has the name of this one.
                        self.join_closing().await?;
                    }
                    self.recorded = Some((Arc::clone(&parameters), FileTally::new(bytes.len() as u64)));
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
                        if let Some((parameters, tally)) = &mut self.recorded {
                            tally.add(frames, length, from, until);
                            state.set_stream(self.name, tally.report(parameters), false);
                        }
                    }
                }
                SegmentStep::Close { start, end } => {
                    if let Some(writer) = self.writer.take() {
                        if let Some((parameters, tally)) = self.recorded.take() {
                            state.set_stream(self.name, tally.report(&parameters), true);
                        }
                        // One at a time: the spool gets the segments of a camera in their order.
                        let previous = self.join_closing().await;
                        self.closing = Some(self.begin_closing(writer, start, end));
                        previous?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Completes a file in a task: while the disk syncs it, the camera's frames must not pile up in the socket.
    fn begin_closing(&self, writer: SegmentWriter, start: Timestamp, end: Timestamp) -> ClosingFile {
        let (name, metrics) = (self.name.to_owned(), self.context.metrics.clone());
        let named_start = writer.named_start();
        let task = tokio::spawn(async move {
            let segment = writer.close(start, end).await?;
            metrics.count_segment(&name);
            tracing::debug!(camera = name, bytes = segment.bytes, "segment complete");
            Ok(())
        });
        ClosingFile { named_start, task }
    }

    /// Waits for the file that is being completed. If this future is dropped, the next call waits for it.
    async fn join_closing(&mut self) -> Result<(), SpoolError> {
        let Some(closing) = &mut self.closing else {
            return Ok(());
        };
        let result = (&mut closing.task).await;
        self.closing = None;
        result.map_err(io::Error::other)?
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures::poll;
    use jiff::SignedDuration;
    use tokio::time::timeout;

    use super::*;
    use crate::recorder::frame::{Arrival, Codec, TICKS_PER_SECOND, VideoParameters};
    use crate::recorder::segment::tests::sample_entry;
    use crate::recorder::spool::{OrphanRecovery, Spool};

    /// A multiple of the segment duration.
    const START_US: i64 = 1_780_000_000_000_000;
    /// Frames of one segment.
    const FRAMES: i64 = 10;

    async fn context() -> (tempfile::TempDir, RecorderContext) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        spool.set_limit(1 << 30);
        let duration = watch::channel(SignedDuration::from_secs(1)).1;
        (folder, RecorderContext::new(spool, duration))
    }

    fn camera() -> CameraConfig {
        let camera = serde_json::json!({
            "name": "hal", "shard": 0, "url": "rtsp://127.0.0.1:1/", "permitted": [{"from": "1970-01-01T00:00:00Z"}],
        });
        serde_json::from_value(camera).unwrap()
    }

    /// Returns a frame of ten a second, each a keyframe.
    fn frame(number: i64) -> Frame {
        let monotonic_us = number * 1_000_000 / FRAMES;
        let (codec, sample_entry) = (Codec::H264, sample_entry());
        Frame {
            data: vec![1; 100],
            is_keyframe: true,
            ticks: number * TICKS_PER_SECOND / FRAMES,
            arrival: Arrival { monotonic_us, wall_us: START_US + monotonic_us },
            lost_packets: 0,
            parameters: Arc::new(VideoParameters { codec, width: 320, height: 240, sample_entry }),
        }
    }

    async fn record(session: &mut RecordingSession<'_>, numbers: std::ops::Range<i64>) {
        let camera = camera();
        for number in numbers {
            let recorded = timeout(Duration::from_mins(1), session.record_frame(frame(number), &camera));
            recorded.await.expect("a frame waits for the disk").unwrap();
        }
    }

    #[tokio::test]
    async fn frames_are_recorded_while_previous_file_closes() {
        let (_folder, context) = context().await;
        let mut session = RecordingSession::new("hal", &context);
        let blocked = context.spool.block_syncs().await;
        record(&mut session, 0..FRAMES + 1).await;
        assert_eq!(context.spool.status().segments, 0, "the first file is not synced");
        record(&mut session, FRAMES + 1..2 * FRAMES).await;
        // The second file waits for the first.
        let camera = camera();
        {
            let mut recorded = pin!(session.record_frame(frame(2 * FRAMES), &camera));
            for _ in 0..10 {
                assert!(poll!(recorded.as_mut()).is_pending());
                sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(context.spool.status().segments, 0);
            drop(blocked);
            recorded.await.unwrap();
        }
        session.join_closing().await.unwrap();
        assert_eq!(context.spool.status().segments, 2);
        assert!(context.spool.paths().iter().all(|path| path.exists()));
    }

    #[tokio::test]
    async fn failed_close_is_reported_and_keeps_the_next_file() {
        let (folder, context) = context().await;
        let mut session = RecordingSession::new("hal", &context);
        let blocked = context.spool.block_syncs().await;
        record(&mut session, 0..FRAMES + 5).await;
        let first = folder.path().join(format!("video/hal/{:013}.part", START_US / 1000));
        std::fs::remove_file(first).unwrap();
        drop(blocked);
        let failed = session.join_closing().await;
        assert!(matches!(failed, Err(SpoolError::Io(_))), "{failed:?}");
        let steps = session.segmenter.finish().unwrap();
        session.apply_steps(steps).await.unwrap();
        session.join_closing().await.unwrap();
        assert_eq!(context.spool.status().segments, 1, "the next file");
        // As any file whose writer is gone.
        assert_eq!(context.spool.recover_orphan().await, Some(OrphanRecovery::Unreadable));
    }

    #[tokio::test]
    async fn dropped_session_completes_its_closing_file() {
        let (_folder, context) = context().await;
        let mut session = RecordingSession::new("hal", &context);
        let blocked = context.spool.block_syncs().await;
        record(&mut session, 0..FRAMES + 1).await;
        drop(session);
        drop(blocked);
        let complete = async {
            while context.spool.status().segments == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_mins(1), complete).await.unwrap();
    }
}
