//! What is known of each camera: written by the tasks, read by the status API, and its gaps kept in the spool.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::gaps::GapLog;
use super::metrics::RecorderMetrics;
use super::spool::Spool;
use crate::wire::{CameraReport, CameraState, GapCause, SegmentReport};

const MAX_ERROR_CHARS: usize = 300;

#[derive(Debug)]
struct CameraEntry {
    state: CameraState,
    since: Timestamp,
    codec: Option<String>,
    last_frame: Option<Timestamp>,
    last_segment: Option<SegmentReport>,
    uploaded: u64,
    last_error: Option<String>,
    gaps: GapLog,
}

#[derive(Debug, Default)]
struct Inner {
    cameras: BTreeMap<String, CameraEntry>,
    /// Cameras whose gaps changed since they were last kept.
    unsaved: BTreeSet<String>,
    clock_offset_ms: Option<i64>,
    uploads_revision: Option<String>,
}

#[derive(Debug)]
pub struct RecorderState {
    gap_folder: PathBuf,
    metrics: RecorderMetrics,
    inner: Mutex<Inner>,
}

impl RecorderState {
    /// Keeps gaps under the spool's root.
    pub fn new(root: &Path, metrics: RecorderMetrics) -> Self {
        Self { gap_folder: root.join("gaps"), metrics, inner: Mutex::default() }
    }

    /// A camera is to be recorded from now on. `recorded` is where the spool says that its recording ended.
    pub async fn add(&self, camera: &str, recorded: Option<Timestamp>, now: Timestamp) {
        let known = tokio::fs::read(self.gap_file(camera)).await.ok();
        // A damaged file is as good as none: the gap then begins at an unknown time, which is the truth.
        let mut gaps: GapLog =
            known.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        gaps.resume(recorded);
        let entry = CameraEntry {
            state: CameraState::Connecting,
            since: now,
            codec: None,
            last_frame: gaps.recorded_until(),
            last_segment: None,
            uploaded: 0,
            last_error: None,
            gaps,
        };
        let mut inner = self.inner();
        inner.unsaved.insert(camera.to_owned());
        inner.cameras.insert(camera.to_owned(), entry);
    }

    /// A camera is not to be recorded any more. Were it added again, nothing was missed in between: what is kept
    /// of it goes with the next [`Self::persist_gaps`].
    pub fn remove(&self, camera: &str) {
        let mut inner = self.inner();
        inner.cameras.remove(camera);
        inner.unsaved.insert(camera.to_owned());
        drop(inner);
        self.metrics.remove_camera(camera);
    }

    /// What is kept of any camera but these goes with the next [`Self::persist_gaps`], unless it is added meanwhile.
    pub async fn remove_all_except(&self, cameras: &BTreeSet<String>) {
        // Where there is no folder, nothing is kept.
        let Ok(mut files) = tokio::fs::read_dir(&self.gap_folder).await else {
            return;
        };
        while let Ok(Some(file)) = files.next_entry().await {
            let name = file.file_name();
            let camera = name.to_str().and_then(|name| name.strip_suffix(".json"));
            if let Some(camera) = camera.filter(|camera| !cameras.contains(*camera)) {
                self.inner().unsaved.insert(camera.to_owned());
            }
        }
    }

    /// What a camera's task does now.
    pub fn set_camera_state(&self, camera: &str, state: CameraState, now: Timestamp) {
        self.with_camera(camera, |entry| {
            if entry.state != state {
                entry.state = state;
                entry.since = now;
                tracing::info!(camera, ?state, "camera");
            }
        });
    }

    /// There is no picture, for this cause.
    pub fn begin_gap(&self, camera: &str, cause: GapCause, now: Timestamp) {
        if self.with_camera(camera, |entry| entry.gaps.begin(cause, now)) == Some(true) {
            self.metrics.count_gap(camera, cause);
            self.inner().unsaved.insert(camera.to_owned());
        }
    }

    pub fn set_last_error(&self, camera: &str, message: &str) {
        let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
        self.with_camera(camera, |entry| entry.last_error = Some(message));
    }

    /// A picture that was taken at `taken` goes into a file.
    pub fn set_last_frame(&self, camera: &str, captured_at: Timestamp) {
        self.with_camera(camera, |entry| entry.last_frame = Some(captured_at));
    }

    /// How the camera's pictures are coded.
    pub fn set_codec(&self, camera: &str, codec: String) {
        self.with_camera(camera, |entry| entry.codec = Some(codec));
    }

    /// The pictures from `from` to `until` are in the spool.
    pub fn mark_recorded(&self, camera: &str, from: Timestamp, until: Timestamp) {
        let ended = self.with_camera(camera, |entry| {
            let was_reported = entry.gaps.is_open();
            entry.gaps.record(from, until).map(|gap| (gap, was_reported))
        });
        if let Some(Some((gap, was_reported))) = ended {
            tracing::info!(camera, cause = ?gap.cause, from = ?gap.from, until = ?gap.until, "gap ended");
            if !was_reported {
                self.metrics.count_gap(camera, gap.cause);
            }
        }
        self.inner().unsaved.insert(camera.to_owned());
    }

    /// The recorder before had recorded up to `end`.
    pub fn mark_recovered(&self, camera: &str, end: Timestamp) {
        self.with_camera(camera, |entry| entry.gaps.mark_recovered(end));
        self.inner().unsaved.insert(camera.to_owned());
    }

    /// What had been recorded had to go.
    pub fn mark_lost(&self, camera: &str, cause: GapCause, from: Timestamp, until: Timestamp) {
        self.metrics.count_gap(camera, cause);
        self.with_camera(camera, |entry| entry.gaps.add_loss(cause, from, until));
        self.inner().unsaved.insert(camera.to_owned());
    }

    /// The store confirmed a segment, and told its time.
    pub fn mark_uploaded(&self, camera: &str, segment: SegmentReport) {
        self.with_camera(camera, |entry| {
            entry.uploaded = entry.uploaded.saturating_add(1);
            if entry.last_segment.as_ref().is_none_or(|last| last.start <= segment.start) {
                entry.last_segment = Some(segment);
            }
        });
    }

    /// Which revision of the configuration all uploads under way follow; `None`: some began before it.
    pub fn set_uploads_revision(&self, revision: Option<String>) {
        self.inner().uploads_revision = revision;
    }

    /// See [`Self::set_uploads_revision`].
    pub fn uploads_revision(&self) -> Option<String> {
        self.inner().uploads_revision.clone()
    }

    /// How far this clock is ahead of the store's.
    pub fn set_clock_offset(&self, ms: i64) {
        self.inner().clock_offset_ms = Some(ms);
        self.metrics.set_clock_offset(ms);
    }

    /// How far this clock is ahead of the store's, as far as it is known.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.inner().clock_offset_ms
    }

    pub fn camera_reports(&self, spool: &Spool) -> Vec<CameraReport> {
        let inner = self.inner();
        let report = |(name, camera): (&String, &CameraEntry)| CameraReport {
            name: name.clone(),
            state: camera.state,
            since: camera.since,
            codec: camera.codec.clone(),
            last_frame: camera.last_frame,
            last_segment: camera.last_segment.clone(),
            uploaded: camera.uploaded,
            waiting: spool.waiting_segments(name),
            last_error: camera.last_error.clone(),
            gaps: camera.gaps.latest(),
        };
        inner.cameras.iter().map(report).collect()
    }

    /// Keeps what changed, so that a recorder that is started again knows it; of cameras that were removed
    /// nothing stays.
    pub async fn persist_gaps(&self) -> io::Result<()> {
        let changed: Vec<(String, Option<GapLog>)> = {
            let mut inner = self.inner();
            let changed = std::mem::take(&mut inner.unsaved);
            let with_log = |name: String| {
                let log = inner.cameras.get(&name).map(|camera| camera.gaps.clone());
                (name, log)
            };
            changed.into_iter().map(with_log).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        tokio::fs::create_dir_all(&self.gap_folder).await?;
        for (camera, gaps) in changed {
            let (file, new) = (self.gap_file(&camera), self.gap_folder.join(format!("{camera}.new")));
            let Some(gaps) = gaps else {
                match tokio::fs::remove_file(file).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => continue,
                }
            };
            tokio::fs::write(&new, serde_json::to_vec(&gaps).map_err(io::Error::other)?).await?;
            tokio::fs::rename(new, file).await?;
        }
        Ok(())
    }

    fn gap_file(&self, camera: &str) -> PathBuf {
        self.gap_folder.join(format!("{camera}.json"))
    }

    fn with_camera<T>(&self, camera: &str, change: impl FnOnce(&mut CameraEntry) -> T) -> Option<T> {
        self.inner().cameras.get_mut(camera).map(change)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds it can leave it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Its task says a last thing.
        state.mark_recorded("hal", at(20), at(21));
        state.persist_gaps().await.unwrap();
        assert_eq!(gap_file_names(&folder), ["deur.json", "erf.json"].map(str::to_owned).into());

        // While no recorder runs, another is removed.
        let state = RecorderState::new(folder.path(), RecorderMetrics::default());
        state.add("deur", None, at(30)).await;
        state.remove_all_except(&["deur".to_owned()].into()).await;
        state.persist_gaps().await.unwrap();
        assert_eq!(gap_file_names(&folder), ["deur.json".to_owned()].into());
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
