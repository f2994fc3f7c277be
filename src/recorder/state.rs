//! State of each camera. Its task writes it, the status API reads it, and its gaps are stored in the spool.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;

use super::camera::last_failure::LastFailure;
use super::gaps::GapLog;
use super::metrics::RecorderMetrics;
use super::spool::Spool;
use super::stream_rates::LatestStream;
use crate::sync::lock;
use crate::wire::{CameraFailure, CameraReport, CameraState, GapCause, SegmentReport, StreamReport};

const MAX_ERROR_CHARS: usize = 300;

#[derive(Debug)]
struct CameraEntry {
    /// Without `waiting`, `oldest_waiting`, `failure`, `stream` and `gaps`, which [`RecorderState::camera_reports`] adds.
    report: CameraReport,
    failure: LastFailure,
    stream: LatestStream,
    gaps: GapLog,
}

#[derive(Debug, Default)]
struct Inner {
    cameras: BTreeMap<String, CameraEntry>,
    /// Cameras whose gaps changed since they were last stored.
    unsaved: BTreeSet<String>,
    /// Cameras whose recording only has a later end. The segments in the spool have that end too.
    progressed: BTreeSet<String>,
    uploads_revision: Option<String>,
    storage_problem: Option<String>,
}

#[derive(Debug)]
pub struct RecorderState {
    gap_folder: PathBuf,
    metrics: RecorderMetrics,
    inner: Mutex<Inner>,
}

impl RecorderState {
    /// Stores gaps under `root`, the folder of the spool.
    pub fn new(root: &Path, metrics: RecorderMetrics) -> Self {
        Self { gap_folder: root.join("gaps"), metrics, inner: Mutex::default() }
    }

    /// Adds a camera. `recorded` is the end of its recordings in the spool.
    pub async fn add(&self, camera: &str, recorded: Option<Timestamp>, now: Timestamp) {
        let stored = tokio::fs::read(self.gap_file(camera)).await.ok();
        // A damaged file counts as none: the gap then begins at an unknown time, which is true.
        let mut gaps: GapLog =
            stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        gaps.resume(recorded);
        let last_frame = gaps.recorded_until();
        let report = CameraReport { last_frame, ..CameraReport::new(camera, CameraState::Connecting, now) };
        let mut inner = lock(&self.inner);
        inner.unsaved.insert(camera.to_owned());
        let (failure, stream) = (LastFailure::default(), LatestStream::default());
        inner.cameras.insert(camera.to_owned(), CameraEntry { report, failure, stream, gaps });
    }

    /// Removes a camera. The next [`Self::persist_gaps`] deletes its stored gaps: if the camera is added again, no recording
    /// is missing between.
    pub fn remove(&self, camera: &str) {
        let mut inner = lock(&self.inner);
        inner.cameras.remove(camera);
        inner.unsaved.insert(camera.to_owned());
        drop(inner);
        self.metrics.remove_camera(camera);
    }

    /// Marks the stored gaps of all other cameras for deletion by the next [`Self::persist_gaps`].
    pub async fn remove_all_except(&self, cameras: &BTreeSet<String>) {
        // Without the folder, no gaps are stored.
        let Ok(mut files) = tokio::fs::read_dir(&self.gap_folder).await else {
            return;
        };
        while let Ok(Some(file)) = files.next_entry().await {
            let name = file.file_name();
            let camera = name.to_str().and_then(|name| name.strip_suffix(".json"));
            if let Some(camera) = camera.filter(|camera| !cameras.contains(*camera)) {
                lock(&self.inner).unsaved.insert(camera.to_owned());
            }
        }
    }

    pub fn set_camera_state(&self, camera: &str, state: CameraState, now: Timestamp) {
        self.with_camera(camera, |entry| {
            // Another attempt of a camera that failed is no news until a frame arrives. Otherwise a camera without power would
            // change its status, and that of its Site, with each attempt.
            let is_attempt =
                state == CameraState::Connecting && entry.report.state == CameraState::Disconnected;
            if entry.report.state != state && !is_attempt {
                entry.report.state = state;
                entry.report.since = now;
                if state != CameraState::Disconnected {
                    entry.failure = LastFailure::default();
                }
                tracing::info!(camera, ?state, "camera");
            }
        });
    }

    /// Notes that no video is recorded from now on.
    pub fn interrupt(&self, camera: &str, state: CameraState, cause: GapCause) {
        let now = Timestamp::now();
        self.set_camera_state(camera, state, now);
        self.begin_gap(camera, cause, now);
    }

    pub fn begin_gap(&self, camera: &str, cause: GapCause, now: Timestamp) {
        if self.with_camera(camera, |entry| entry.gaps.begin(cause, now)) == Some(true) {
            self.metrics.count_gap(camera, cause);
            lock(&self.inner).unsaved.insert(camera.to_owned());
        }
    }

    pub fn set_last_error(&self, camera: &str, message: &str) {
        let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
        self.with_camera(camera, |entry| entry.report.last_error = Some(message));
    }

    /// Notes the failure of a camera that is, or is about to be, `Disconnected`.
    pub fn set_failure(&self, camera: &str, failure: CameraFailure) {
        self.with_camera(camera, |entry| entry.failure.observe(failure));
    }

    /// Notes that the camera has another configuration, so that its next failure may be another one.
    pub fn expect_another_failure(&self, camera: &str) {
        self.with_camera(camera, |entry| entry.failure.expect_another());
    }

    pub fn set_last_frame(&self, camera: &str, captured_at: Timestamp) {
        self.with_camera(camera, |entry| entry.report.last_frame = Some(captured_at));
    }

    pub fn set_codec(&self, camera: &str, codec: String) {
        self.with_camera(camera, |entry| entry.report.codec = Some(codec));
    }

    /// Notes the report of the file in progress, or of a complete one; `None`: the file is too short.
    pub fn set_stream(&self, camera: &str, report: Option<StreamReport>, is_complete: bool) {
        if let Some(report) = report {
            self.with_camera(camera, |entry| entry.stream.observe(report, is_complete));
        }
    }

    /// Notes that the frames from `from` to `until` are in the spool.
    pub fn mark_recorded(&self, camera: &str, from: Timestamp, until: Timestamp) {
        let ended = self.with_camera(camera, |entry| {
            let was_reported = entry.gaps.is_open();
            entry.gaps.record(from, until, Instant::now()).map(|gap| (gap, was_reported))
        });
        match ended {
            Some(Some((gap, was_reported))) => {
                tracing::info!(camera, cause = ?gap.cause, from = ?gap.from, until = ?gap.until, "gap ended");
                if !was_reported {
                    self.metrics.count_gap(camera, gap.cause);
                }
                lock(&self.inner).unsaved.insert(camera.to_owned());
            }
            Some(None) => {
                lock(&self.inner).progressed.insert(camera.to_owned());
            }
            None => {}
        }
    }

    /// Notes that the previous recorder had recorded until `end`.
    pub fn mark_recovered(&self, camera: &str, end: Timestamp) {
        self.with_camera(camera, |entry| entry.gaps.mark_recovered(end));
        lock(&self.inner).unsaved.insert(camera.to_owned());
    }

    /// Notes that a recording was lost.
    pub fn mark_lost(&self, camera: &str, cause: GapCause, from: Timestamp, until: Timestamp) {
        self.metrics.count_gap(camera, cause);
        self.with_camera(camera, |entry| entry.gaps.add_loss(cause, from, until));
        lock(&self.inner).unsaved.insert(camera.to_owned());
    }

    pub fn mark_uploaded(&self, camera: &str, segment: SegmentReport) {
        self.with_camera(camera, |entry| {
            let report = &mut entry.report;
            report.uploaded = report.uploaded.saturating_add(1);
            // Retries may confirm an older segment after a newer one. A segment of the future, by a clock that was set back
            // since, would count as the newest until that time.
            let now = Timestamp::now();
            let is_newest = |last: &SegmentReport| last.start <= segment.start || last.start > now;
            if report.last_segment.as_ref().is_none_or(is_newest) {
                self.metrics.set_last_segment(camera, segment.end());
                report.last_segment = Some(segment);
            }
        });
        // The segment leaves the spool, which no longer has its end.
        lock(&self.inner).unsaved.insert(camera.to_owned());
    }

    /// Sets the revision that all uploads use; `None`: at least one uses another.
    pub fn set_uploads_revision(&self, revision: Option<String>) {
        lock(&self.inner).uploads_revision = revision;
    }

    pub fn uploads_revision(&self) -> Option<String> {
        lock(&self.inner).uploads_revision.clone()
    }

    /// Sets the reason that the configured storage cannot be used; `None`: it can.
    pub fn set_storage_problem(&self, problem: Option<String>) {
        lock(&self.inner).storage_problem = problem;
    }

    pub fn storage_problem(&self) -> Option<String> {
        lock(&self.inner).storage_problem.clone()
    }

    pub fn camera_reports(&self, spool: &Spool) -> Vec<CameraReport> {
        let report = |camera: &CameraEntry| CameraReport {
            waiting: spool.waiting_segments(&camera.report.name),
            oldest_waiting: spool.oldest_start(&camera.report.name),
            failure: camera.failure.shown(),
            stream: camera.stream.report(),
            gaps: camera.gaps.latest(),
            ..camera.report.clone()
        };
        lock(&self.inner).cameras.values().map(report).collect()
    }

    /// Makes the next [`Self::persist_gaps`] also store the gaps of cameras whose recording only has a later end.
    pub fn flush_progress(&self) {
        let mut inner = lock(&self.inner);
        let mut progressed = std::mem::take(&mut inner.progressed);
        inner.unsaved.append(&mut progressed);
    }

    /// Stores changed gaps for the next recorder, and deletes those of removed cameras.
    ///
    /// After an error, those that are not stored yet are stored by the next call.
    pub async fn persist_gaps(&self) -> io::Result<()> {
        let changed = {
            let mut inner = lock(&self.inner);
            let changed = std::mem::take(&mut inner.unsaved);
            inner.progressed.retain(|camera| !changed.contains(camera));
            changed
        };
        let mut remaining = changed.clone();
        let stored = self.store_gaps(changed, &mut remaining).await;
        lock(&self.inner).unsaved.append(&mut remaining);
        stored
    }

    /// Stores the gaps of these cameras, and removes each that is stored from `remaining`.
    async fn store_gaps(
        &self,
        changed: BTreeSet<String>,
        remaining: &mut BTreeSet<String>,
    ) -> io::Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        tokio::fs::create_dir_all(&self.gap_folder).await?;
        for camera in changed {
            let gaps = lock(&self.inner).cameras.get(&camera).map(|camera| camera.gaps.clone());
            let (file, new) = (self.gap_file(&camera), self.gap_folder.join(format!("{camera}.new")));
            let Some(gaps) = gaps else {
                match tokio::fs::remove_file(file).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => remaining.remove(&camera),
                };
                continue;
            };
            // Written beside and renamed, so that a crash leaves the old file or the new one.
            tokio::fs::write(&new, serde_json::to_vec(&gaps).map_err(io::Error::other)?).await?;
            tokio::fs::rename(new, file).await?;
            remaining.remove(&camera);
        }
        Ok(())
    }

    fn gap_file(&self, camera: &str) -> PathBuf {
        self.gap_folder.join(format!("{camera}.json"))
    }

    fn with_camera<T>(&self, camera: &str, change: impl FnOnce(&mut CameraEntry) -> T) -> Option<T> {
        lock(&self.inner).cameras.get_mut(camera).map(change)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn gap_file_names(folder: &tempfile::TempDir) -> BTreeSet<String> {
        let names = std::fs::read_dir(folder.path().join("gaps")).unwrap();
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn removed_camera_leaves_no_gap_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        for camera in ["hal", "deur", "erf"] {
            state.add(camera, None, at(10)).await;
        }
        state.persist_gaps().await.unwrap();
        state.remove("hal");
        // A last report of its task.
        state.mark_recorded("hal", at(20), at(21));
        state.persist_gaps().await.unwrap();
        assert_eq!(gap_file_names(&folder), ["deur.json", "erf.json"].map(str::to_owned).into());

        // Another camera is removed while no recorder runs.
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        state.add("deur", None, at(30)).await;
        state.remove_all_except(&["deur".to_owned()].into()).await;
        state.persist_gaps().await.unwrap();
        assert_eq!(gap_file_names(&folder), ["deur.json".to_owned()].into());
    }

    #[tokio::test]
    async fn last_segment_is_not_one_of_the_future() {
        let folder = tempfile::tempdir().unwrap();
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        state.add("hal", None, at(0)).await;
        let future = Timestamp::now().as_second() + 3600;
        for (start, expected) in [(future, future), (20, 20), (10, 20), (30, 30)] {
            let segment = SegmentReport { key: "k".into(), start: at(start), duration_ms: 1, bytes: 1 };
            state.mark_uploaded("hal", segment);
            let last = state.camera_reports(&spool)[0].last_segment.clone().unwrap();
            assert_eq!(last.start, at(expected), "after {start}");
        }
    }

    #[tokio::test]
    async fn progress_alone_is_not_stored_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        state.add("hal", None, at(0)).await;
        state.mark_recorded("hal", at(0), at(1));
        state.persist_gaps().await.unwrap();
        let stored = || std::fs::read(folder.path().join("gaps/hal.json")).unwrap();
        let first = stored();
        for second in 1..10 {
            state.mark_recorded("hal", at(second), at(second + 1));
            state.persist_gaps().await.unwrap();
        }
        assert_eq!(stored(), first);
        state.flush_progress();
        state.persist_gaps().await.unwrap();
        let flushed = stored();
        assert_ne!(flushed, first);
        // A gap is stored at once.
        state.begin_gap("hal", GapCause::Disconnected, at(20));
        state.persist_gaps().await.unwrap();
        let with_gap = stored();
        assert_ne!(with_gap, flushed);
        // So is the end of the recording when a segment leaves the spool, which would else give a gap after a restart.
        state.mark_recorded("hal", at(30), at(31));
        state.persist_gaps().await.unwrap();
        state.mark_recorded("hal", at(31), at(32));
        let segment = SegmentReport { key: "k".into(), start: at(30), duration_ms: 2000, bytes: 1 };
        state.mark_uploaded("hal", segment);
        state.persist_gaps().await.unwrap();
        let log: GapLog = serde_json::from_slice(&stored()).unwrap();
        assert_eq!(log.recorded_until(), Some(at(32)));
    }

    #[tokio::test]
    async fn failed_camera_stays_disconnected_until_a_frame_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        state.add("hal", None, at(10)).await;
        for (next, expected) in [
            (CameraState::Connecting, CameraState::Connecting),
            (CameraState::Disconnected, CameraState::Disconnected),
            (CameraState::Connecting, CameraState::Disconnected),
            (CameraState::Recording, CameraState::Recording),
            (CameraState::Connecting, CameraState::Connecting),
            (CameraState::Disconnected, CameraState::Disconnected),
            (CameraState::Suspended, CameraState::Suspended),
            (CameraState::Connecting, CameraState::Connecting),
        ] {
            state.set_camera_state("hal", next, at(20));
            assert_eq!(state.camera_reports(&spool)[0].state, expected, "after {next:?}");
        }
    }

    #[tokio::test]
    async fn failure_is_reported_until_the_camera_records() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        state.add("hal", None, at(10)).await;
        let reported = || state.camera_reports(&spool)[0].failure;
        let fail = |failure| {
            state.set_camera_state("hal", CameraState::Disconnected, at(20));
            state.set_failure("hal", failure);
        };
        assert_eq!(reported(), None);
        fail(CameraFailure::Unauthorized);
        state.set_camera_state("hal", CameraState::Connecting, at(21));
        assert_eq!(reported(), Some(CameraFailure::Unauthorized));
        state.expect_another_failure("hal");
        fail(CameraFailure::PathNotFound);
        assert_eq!(reported(), Some(CameraFailure::PathNotFound));
        state.set_camera_state("hal", CameraState::Recording, at(22));
        assert_eq!(reported(), None);
        fail(CameraFailure::StreamEnded);
        assert_eq!(reported(), Some(CameraFailure::StreamEnded));
    }

    #[tokio::test]
    async fn gaps_that_could_not_be_stored_are_stored_later() {
        let folder = tempfile::tempdir().unwrap();
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        for camera in ["hal", "deur", "erf"] {
            state.add(camera, None, at(10)).await;
        }
        let gaps = folder.path().join("gaps");
        std::fs::create_dir_all(gaps.join("erf.json/occupied")).unwrap();
        state.persist_gaps().await.unwrap_err();
        std::fs::remove_dir_all(gaps.join("erf.json")).unwrap();
        state.remove("deur");
        state.persist_gaps().await.unwrap();
        assert_eq!(gap_file_names(&folder), ["erf.json", "hal.json"].map(str::to_owned).into());
    }

    #[tokio::test]
    async fn unreported_hole_is_counted_as_one_gap() {
        let (folder, mut registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let metrics = RecorderMetrics::default();
        metrics.register(&mut registry);
        let state = RecorderState::new(folder.path(), metrics);
        state.add("hal", None, at(0)).await;
        state.mark_recorded("hal", at(1), at(2));
        state.begin_gap("hal", GapCause::Disconnected, at(3));
        state.mark_recorded("hal", at(10), at(11));
        state.mark_recorded("hal", at(60), at(61));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("reason=\"Disconnected\"} 2\n"), "{text}");
    }
}
