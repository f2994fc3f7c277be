use std::sync::Mutex;

use super::*;
use crate::recorder::spool::SegmentWriter;

/// A test that waits longer hangs.
const TEST_TIMEOUT: Duration = Duration::from_mins(5);

/// A store that does as it is told.
#[derive(Default)]
struct FakeSink {
    stored: Mutex<Vec<String>>,
    attempts: Mutex<u32>,
    is_down: Mutex<bool>,
    /// Whose recordings never get through, as if it were the network's fault.
    unreachable_camera: Mutex<Option<String>>,
    rejected_camera: Mutex<Option<String>>,
    should_panic: Mutex<bool>,
    tags: Mutex<Vec<RetentionTag>>,
}

#[async_trait]
impl SegmentSink for FakeSink {
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        _: [u8; 32],
        tag: RetentionTag,
    ) -> Result<UploadConfirmation, UploadError> {
        self.tags.lock().unwrap().push(tag);
        assert!(file.exists());
        assert!(!std::mem::take(&mut *self.should_panic.lock().unwrap()), "told to");
        *self.attempts.lock().unwrap() += 1;
        if *self.is_down.lock().unwrap()
            || self.unreachable_camera.lock().unwrap().as_deref() == Some(key.source())
        {
            return Err(UploadError::Timeout);
        }
        if self.rejected_camera.lock().unwrap().as_deref() == Some(key.source()) {
            return Err(UploadError::Key(KeyError::Form));
        }
        self.stored.lock().unwrap().push(key.to_string());
        Ok(UploadConfirmation { already_there: false, server_date: None })
    }
}

struct UploadFixture {
    spool: Arc<Spool>,
    store: Arc<FakeSink>,
    drained: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    target: watch::Sender<Option<UploadTarget>>,
    state: Arc<RecorderState>,
    folder: tempfile::TempDir,
}

impl UploadFixture {
    async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), FakeSink::default()).await
    }

    /// A recorder with what is in `folder` already.
    async fn with(folder: tempfile::TempDir, store: FakeSink) -> Self {
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        spool.set_limit(1 << 20);
        let store = Arc::new(store);
        let ceiling = SignedDuration::from_hours(24);
        let (sender, target) = watch::channel(Some(UploadTarget {
            sink: store.clone(),
            ceiling,
            holds: Arc::from([]),
            revision: "1".to_owned(),
        }));
        let metrics = RecorderMetrics::default();
        let state = Arc::new(RecorderState::new(spool.root(), metrics.clone()));
        let drained = CancellationToken::new();
        let uploads = UploadQueue { spool: spool.clone(), state: state.clone(), metrics, target };
        let task = tokio::spawn(uploads.run(drained.clone()));
        Self { spool, store, drained, task, target: sender, state, folder }
    }

    async fn record(&self, camera: &str, ago: i64) {
        let start = Timestamp::now() - SignedDuration::from_secs(ago);
        let writer =
            SegmentWriter::begin(Arc::clone(&self.spool), camera, start, vec![1; 100]).await.unwrap();
        writer.close(start, start + SignedDuration::from_secs(10)).await.unwrap();
    }

    /// Waits until the store was tried so often.
    async fn wait_for_attempts(&self, least: u32) {
        let wait = async {
            while *self.store.attempts.lock().unwrap() < least {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, wait).await.expect("tried again");
    }

    async fn wait_for_stored(&self) {
        let wait = async {
            while self.store.stored.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, wait).await.expect("an upload");
    }

    async fn drain(self) -> Vec<String> {
        self.drained.cancel();
        timeout(TEST_TIMEOUT, self.task).await.expect("drained in time").unwrap();
        assert_eq!(self.spool.status().segments, 0);
        self.store.stored.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn complete_segment_is_uploaded_and_removed() {
    let bench = UploadFixture::new().await;
    bench.record("hal", 100).await;
    bench.record("deur", 90).await;
    assert_eq!(bench.drain().await.len(), 2);
}

#[tokio::test]
async fn unavailable_store_loses_nothing_and_oldest_uploads_first() {
    let bench = UploadFixture::new().await;
    *bench.store.is_down.lock().unwrap() = true;
    for ago in [300, 200, 100] {
        bench.record("hal", ago).await;
    }
    bench.wait_for_attempts(2).await;
    assert_eq!(bench.spool.status().segments, 3);
    *bench.store.is_down.lock().unwrap() = false;
    let stored = bench.drain().await;
    let mut sorted = stored.clone();
    sorted.sort();
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[0], sorted[0]);
}

#[tokio::test]
async fn rejected_segment_does_not_block_others() {
    let bench = UploadFixture::new().await;
    *bench.store.rejected_camera.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.record("deur", 100).await;
    bench.wait_for_stored().await;
    assert_eq!(bench.spool.waiting_segments("hal"), 1);
    bench.task.abort();
}

#[tokio::test]
async fn timed_out_segment_does_not_block_others() {
    let bench = UploadFixture::new().await;
    *bench.store.unreachable_camera.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.record("deur", 100).await;
    bench.wait_for_stored().await;
    bench.task.abort();
}

#[tokio::test]
async fn draining_retries_rejected_segment_immediately() {
    let bench = UploadFixture::new().await;
    *bench.store.rejected_camera.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.wait_for_attempts(1).await;
    *bench.store.rejected_camera.lock().unwrap() = None;
    // What was refused for itself waits for a minute.
    let drained = timeout(SEGMENT_RETRY_DELAY / 2, bench.drain());
    assert_eq!(drained.await.expect("at once").len(), 1);
}

#[tokio::test]
async fn draining_keeps_retrying() {
    let bench = UploadFixture::new().await;
    *bench.store.is_down.lock().unwrap() = true;
    bench.record("hal", 300).await;
    bench.wait_for_attempts(3).await;
    bench.drained.cancel();
    // A second apart, however long it had waited before: else these would take minutes.
    let so_far = *bench.store.attempts.lock().unwrap();
    let again = timeout(BACKOFF_RANGE.1 * 2, bench.wait_for_attempts(so_far + 6));
    again.await.expect("tried again and again");
    *bench.store.is_down.lock().unwrap() = false;
    assert_eq!(bench.drain().await.len(), 1);
}

#[tokio::test]
async fn panicking_upload_loses_nothing() {
    let bench = UploadFixture::new().await;
    *bench.store.should_panic.lock().unwrap() = true;
    bench.record("hal", 100).await;
    let wait = async {
        while *bench.store.should_panic.lock().unwrap() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, wait).await.expect("tried");
    assert_eq!(bench.spool.waiting_segments("hal"), 1);
    bench.task.abort();
}

#[tokio::test]
async fn segment_past_ceiling_is_never_uploaded() {
    let bench = UploadFixture::new().await;
    *bench.store.is_down.lock().unwrap() = true;
    bench.record("hal", 25 * 3600).await;
    bench.record("deur", 100).await;
    *bench.store.is_down.lock().unwrap() = false;
    let stored = bench.drain().await;
    assert!(stored.iter().all(|key| key.contains("/deur/")), "{stored:?}");
}

fn hold_on_everything() -> Arc<[HoldScope]> {
    let window = crate::rules::Window::new(Timestamp::UNIX_EPOCH, None);
    let sources = crate::rules::hold::scope::CameraSelector::All;
    Arc::from([HoldScope { cameras: sources, calls: false, window }])
}

#[tokio::test]
async fn held_segment_is_sealed_and_earlier_uploads_are_in_doubt() {
    let bench = UploadFixture::new().await;
    *bench.store.is_down.lock().unwrap() = true;
    bench.record("hal", 100).await;
    bench.wait_for_attempts(1).await;
    let reaches_revision = async |expected: Option<&str>| {
        let wait = async {
            while bench.state.uploads_revision().as_deref() != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, wait).await.expect("followed");
    };
    // The answer to the first is not known: it may still arrive, as something that no hold covers.
    bench.target.send_modify(|target| {
        if let Some(target) = target {
            (target.holds, target.revision) = (hold_on_everything(), "2".to_owned());
        }
    });
    reaches_revision(None).await;
    *bench.store.is_down.lock().unwrap() = false;
    reaches_revision(Some("2")).await;
    let tags = bench.store.tags.lock().unwrap().clone();
    assert_eq!(tags.first(), Some(&RetentionTag::Video));
    assert_eq!(tags.last(), Some(&RetentionTag::Sealed));
}

#[tokio::test]
async fn uploads_of_previous_recorder_are_in_doubt() {
    let bench = UploadFixture::new().await;
    *bench.store.is_down.lock().unwrap() = true;
    bench.record("hal", 100).await;
    bench.wait_for_attempts(1).await;
    bench.task.abort();
    // Killed in the middle: what it had sent may still arrive, with a tag that nobody knows of any more.
    let store = FakeSink::default();
    *store.is_down.lock().unwrap() = true;
    let restarted = UploadFixture::with(bench.folder, store).await;
    restarted.wait_for_attempts(1).await;
    assert_eq!(restarted.state.uploads_revision(), None);
    *restarted.store.is_down.lock().unwrap() = false;
    let wait = async {
        while restarted.state.uploads_revision().as_deref() != Some("1") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, wait).await.expect("confirmed");
}
