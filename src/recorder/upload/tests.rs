use std::sync::Mutex;

use jiff::Timestamp;

use super::*;
use crate::recorder::spool::{SegmentWriter, Spool};
use crate::rules::Window;
use crate::rules::hold::scope::tests::video_scope;

/// Time after which a test counts as hanging.
const TEST_TIMEOUT: Duration = Duration::from_mins(5);

/// A store with faults that tests set.
#[derive(Default)]
struct FakeSink {
    stored: Mutex<Vec<String>>,
    attempted: Mutex<Vec<String>>,
    running: Mutex<usize>,
    /// Most uploads that ran at the same time.
    most_running: Mutex<usize>,
    attempts: Mutex<u32>,
    is_down: Mutex<bool>,
    /// Camera whose uploads time out, as if the network failed.
    unreachable_camera: Mutex<Option<String>>,
    rejected_camera: Mutex<Option<String>>,
    should_panic: Mutex<bool>,
    /// The store's clock in its answers.
    server_date: Mutex<Option<Timestamp>>,
    tags: Mutex<Vec<RetentionTag>>,
}

#[async_trait]
impl SegmentSink for FakeSink {
    async fn put(&self, key: &Key, file: &Path, _: [u8; 32], tag: RetentionTag) -> UploadResult {
        self.tags.lock().unwrap().push(tag);
        self.attempted.lock().unwrap().push(key.to_string());
        if !file.exists() {
            return Err(PutError::File(io::ErrorKind::NotFound).into());
        }
        assert!(!std::mem::take(&mut *self.should_panic.lock().unwrap()), "a requested panic");
        *self.attempts.lock().unwrap() += 1;
        if *self.is_down.lock().unwrap()
            || self.unreachable_camera.lock().unwrap().as_deref() == Some(key.source())
        {
            return Err(UploadError::Timeout);
        }
        if self.rejected_camera.lock().unwrap().as_deref() == Some(key.source()) {
            return Err(UploadError::Key(KeyError::Form));
        }
        {
            let (mut running, mut most) = (self.running.lock().unwrap(), self.most_running.lock().unwrap());
            *running += 1;
            *most = running.max(*most);
        }
        sleep(Duration::from_millis(5)).await;
        *self.running.lock().unwrap() -= 1;
        self.stored.lock().unwrap().push(key.to_string());
        Ok(PutOutcome { already_exists: false, server_date: *self.server_date.lock().unwrap() })
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, wait).await.unwrap_or_else(|_| panic!("hangs: {what}"));
}

struct UploadFixture {
    context: RecorderContext,
    store: Arc<FakeSink>,
    drained: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    target: watch::Sender<Option<UploadTarget>>,
    folder: tempfile::TempDir,
}

impl UploadFixture {
    async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), FakeSink::default()).await
    }

    /// A recorder that finds the content of `folder`.
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
        let context = RecorderContext::new(spool, watch::channel(SignedDuration::ZERO).1);
        let drained = CancellationToken::new();
        let task = tokio::spawn(UploadQueue::new(context.clone(), target).run(drained.clone()));
        Self { context, store, drained, task, target: sender, folder }
    }

    async fn record(&self, camera: &str, ago: i64) {
        let start = Timestamp::now() - SignedDuration::from_secs(ago);
        let spool = Arc::clone(&self.context.spool);
        let writer = SegmentWriter::begin(spool, camera, start, vec![1; 100]).await.unwrap();
        writer.close(start, start + SignedDuration::from_secs(10)).await.unwrap();
    }

    fn attempts(&self) -> u32 {
        *self.store.attempts.lock().unwrap()
    }

    fn set_down(&self, is_down: bool) {
        *self.store.is_down.lock().unwrap() = is_down;
    }

    async fn wait_for_attempts(&self, least: u32) {
        wait_until("attempts", || self.attempts() >= least).await;
    }

    async fn wait_for_stored(&self) {
        wait_until("an upload", || !self.store.stored.lock().unwrap().is_empty()).await;
    }

    async fn wait_for_revision(&self, expected: Option<&str>) {
        wait_until("the revision", || self.context.state.uploads_revision().as_deref() == expected).await;
    }

    async fn drain(self) -> Vec<String> {
        self.drained.cancel();
        timeout(TEST_TIMEOUT, self.task).await.expect("drained in time").unwrap();
        assert_eq!(self.context.spool.status().segments, 0);
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
async fn unavailable_store_loses_nothing() {
    let bench = UploadFixture::new().await;
    bench.set_down(true);
    for ago in [300, 200, 100] {
        bench.record("hal", ago).await;
    }
    bench.wait_for_attempts(2).await;
    assert_eq!(bench.context.spool.status().segments, 3);
    bench.set_down(false);
    assert_eq!(bench.drain().await.len(), 3);
}

#[tokio::test]
async fn live_and_held_go_before_the_backlog() {
    let backlog: Vec<(&str, i64)> = (0..40).map(|n| ("hal", 5000 - n * 10)).collect();
    let store = FakeSink::default();
    *store.is_down.lock().unwrap() = true;
    let bench = restarted_recorder(&backlog, store).await;
    bench.wait_for_attempts(1).await;
    let held = Timestamp::now() - SignedDuration::from_secs(4800);
    let window = Window::new(held, Some(held + SignedDuration::from_secs(1)));
    let holds: Arc<[HoldScope]> = [video_scope(&["hal"], window)].into();
    bench.context.spool.set_holds(Arc::clone(&holds));
    bench.record("hal", 20).await;
    bench.record("deur", 20).await;
    bench.set_down(false);
    let store = Arc::clone(&bench.store);
    let position = |is_wanted: &dyn Fn(&Key) -> bool| {
        let stored = store.stored.lock().unwrap();
        stored.iter().position(|key| is_wanted(&key.parse().unwrap()))
    };
    wait_until("all uploads", || store.stored.lock().unwrap().len() == 42).await;
    // Each lane has its share of the uploads, so this takes a few of them.
    for (what, found) in [
        ("deur", position(&|key| key.source() == "deur")),
        ("the newest of hal", position(&|key| key.start() > held + SignedDuration::from_secs(4000))),
        ("the held one", position(&|key| holds.iter().any(|hold| hold.covers(&key.recording())))),
    ] {
        assert!(found.is_some_and(|position| position < 12), "{what}: {found:?}");
    }
    bench.task.abort();
}

#[tokio::test]
async fn rejected_segment_does_not_block_others() {
    let bench = UploadFixture::new().await;
    *bench.store.rejected_camera.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.record("deur", 100).await;
    bench.wait_for_stored().await;
    assert_eq!(bench.context.spool.waiting_segments("hal"), 1);
    bench.task.abort();
}

#[tokio::test]
async fn vanished_file_is_reported_and_forgotten() {
    let bench = UploadFixture::new().await;
    bench.context.state.add("hal", None, Timestamp::now()).await;
    bench.set_down(true);
    bench.record("hal", 300).await;
    bench.record("deur", 100).await;
    bench.wait_for_attempts(1).await;
    for file in std::fs::read_dir(bench.folder.path().join("video/hal")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    bench.set_down(false);
    let (state, spool) = (Arc::clone(&bench.context.state), Arc::clone(&bench.context.spool));
    assert_eq!(bench.drain().await.len(), 1);
    let gaps = &state.camera_reports(&spool)[0].gaps;
    assert!(gaps.iter().any(|gap| gap.cause == GapCause::SpoolLost && gap.until.is_some()), "{gaps:?}");
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
async fn fewer_uploads_run_after_timeouts() {
    let bench = UploadFixture::new().await;
    bench.set_down(true);
    for n in 0..6 {
        bench.record("hal", 300 - n * 10).await;
    }
    bench.wait_for_attempts(2).await;
    bench.set_down(false);
    wait_until("all uploads", || bench.store.stored.lock().unwrap().len() == 6).await;
    assert_eq!(*bench.store.most_running.lock().unwrap(), 1);
    bench.task.abort();
}

#[tokio::test]
async fn draining_retries_rejected_segment_immediately() {
    let bench = UploadFixture::new().await;
    *bench.store.rejected_camera.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.wait_for_attempts(1).await;
    *bench.store.rejected_camera.lock().unwrap() = None;
    // Without draining, a rejected segment waits for a minute.
    let drained = timeout(SEGMENT_RETRY_DELAY / 2, bench.drain());
    assert_eq!(drained.await.expect("immediately").len(), 1);
}

#[tokio::test]
async fn draining_keeps_retrying() {
    let bench = UploadFixture::new().await;
    bench.set_down(true);
    bench.record("hal", 300).await;
    bench.wait_for_attempts(3).await;
    bench.drained.cancel();
    // One second apart, whatever the backoff was: else these attempts would take minutes.
    let again = timeout(backoff::MAX * 2, bench.wait_for_attempts(bench.attempts() + 6));
    again.await.expect("retries");
    bench.set_down(false);
    assert_eq!(bench.drain().await.len(), 1);
}

#[tokio::test]
async fn panicking_upload_loses_nothing() {
    let bench = UploadFixture::new().await;
    *bench.store.should_panic.lock().unwrap() = true;
    bench.record("hal", 100).await;
    wait_until("an attempt", || !*bench.store.should_panic.lock().unwrap()).await;
    assert_eq!(bench.context.spool.waiting_segments("hal"), 1);
    bench.task.abort();
}

/// A recorder whose predecessor recorded these cameras, each so many seconds ago, by the wall clock.
async fn restarted_recorder(recordings: &[(&str, i64)], store: FakeSink) -> UploadFixture {
    let bench = UploadFixture::new().await;
    bench.set_down(true);
    for (camera, ago) in recordings {
        bench.record(camera, *ago).await;
    }
    bench.task.abort();
    UploadFixture::with(bench.folder, store).await
}

#[tokio::test]
async fn segment_past_ceiling_is_never_uploaded() {
    let store = FakeSink::default();
    *store.server_date.lock().unwrap() = Some(Timestamp::now());
    let bench = restarted_recorder(&[("hal", 25 * 3600), ("deur", 100)], store).await;
    let stored = bench.drain().await;
    assert_eq!(stored.len(), 1);
    assert!(stored.iter().all(|key| key.contains("/deur/")), "{stored:?}");
}

#[tokio::test]
async fn unconfirmed_clock_purges_nothing() {
    let store = FakeSink::default();
    *store.is_down.lock().unwrap() = true;
    // By the wall clock, one is past its ceiling of 24 hours. The store's clock is two hours behind.
    *store.server_date.lock().unwrap() = Some(Timestamp::now() - SignedDuration::from_hours(2));
    let bench = restarted_recorder(&[("hal", 25 * 3600), ("deur", 100)], store).await;
    bench.wait_for_attempts(2).await;
    assert_eq!(bench.context.spool.waiting_segments("hal"), 1);
    let attempted = bench.store.attempted.lock().unwrap().clone();
    assert!(attempted.iter().all(|key| key.contains("/deur/")), "{attempted:?}");
    bench.set_down(false);
    assert_eq!(bench.drain().await.len(), 2);
}

#[tokio::test]
async fn segment_of_this_process_survives_a_clock_step() {
    let store = FakeSink::default();
    *store.server_date.lock().unwrap() = Some(Timestamp::now());
    let bench = UploadFixture::with(tempfile::tempdir().unwrap(), store).await;
    bench.record("deur", 100).await;
    bench.wait_for_stored().await;
    // Recorded while the wall clock was a month behind, which the store's answer shows only now.
    bench.record("hal", 30 * 24 * 3600).await;
    let stored = bench.drain().await;
    assert!(stored.iter().any(|key| key.contains("/hal/")), "{stored:?}");
}

#[tokio::test]
async fn held_segment_is_sealed_and_earlier_uploads_are_in_doubt() {
    let bench = UploadFixture::new().await;
    bench.set_down(true);
    bench.record("hal", 100).await;
    bench.wait_for_attempts(1).await;
    // The first upload's outcome is unknown. It may still arrive without the hold's seal.
    bench.target.send_modify(|target| {
        if let Some(target) = target {
            let on_everything = video_scope(&[], Window::new(Timestamp::UNIX_EPOCH, None));
            (target.holds, target.revision) = (Arc::from([on_everything]), "2".to_owned());
        }
    });
    bench.wait_for_revision(None).await;
    bench.set_down(false);
    bench.wait_for_revision(Some("2")).await;
    let tags = bench.store.tags.lock().unwrap().clone();
    assert_eq!(tags.first(), Some(&RetentionTag::Video));
    assert_eq!(tags.last(), Some(&RetentionTag::Sealed));
}

#[tokio::test]
async fn uploads_of_previous_recorder_are_in_doubt() {
    let bench = UploadFixture::new().await;
    bench.set_down(true);
    bench.record("hal", 100).await;
    bench.wait_for_attempts(1).await;
    bench.task.abort();
    // Killed during an upload: the request may still arrive, with a tag that no recorder remembers.
    let store = FakeSink::default();
    *store.is_down.lock().unwrap() = true;
    let restarted = UploadFixture::with(bench.folder, store).await;
    restarted.wait_for_attempts(1).await;
    assert_eq!(restarted.context.state.uploads_revision(), None);
    restarted.set_down(false);
    restarted.wait_for_revision(Some("1")).await;
}
