use std::sync::Mutex;

use super::*;

/// A test that waits longer hangs.
const HANG: Duration = Duration::from_mins(5);

/// A store that does as it is told.
#[derive(Default)]
struct Store {
    stored: Mutex<Vec<String>>,
    tried: Mutex<u32>,
    down: Mutex<bool>,
    /// Whose recordings never get through, as if it were the network's fault.
    chokes: Mutex<Option<String>>,
    refuses: Mutex<Option<String>>,
    panics: Mutex<bool>,
    tags: Mutex<Vec<RetentionTag>>,
}

#[async_trait]
impl Sink for Store {
    async fn put(
        &self,
        key: &Key,
        file: &Path,
        _: [u8; 32],
        tag: RetentionTag,
    ) -> Result<Confirmed, UploadError> {
        self.tags.lock().unwrap().push(tag);
        assert!(file.exists());
        assert!(!std::mem::take(&mut *self.panics.lock().unwrap()), "told to");
        *self.tried.lock().unwrap() += 1;
        if *self.down.lock().unwrap() || self.chokes.lock().unwrap().as_deref() == Some(key.source()) {
            return Err(UploadError::Timeout);
        }
        if self.refuses.lock().unwrap().as_deref() == Some(key.source()) {
            return Err(UploadError::Key(KeyError::Form));
        }
        self.stored.lock().unwrap().push(key.to_string());
        Ok(Confirmed { already_there: false, server_date: None })
    }
}

struct Bench {
    spool: Arc<Spool>,
    store: Arc<Store>,
    drained: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    target: watch::Sender<Option<Target>>,
    board: Arc<Board>,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Store::default()).await
    }

    /// A recorder with what is in `folder` already.
    async fn with(folder: tempfile::TempDir, store: Store) -> Self {
        let spool = Spool::open(folder.path().to_owned()).await.unwrap();
        spool.set_limit(1 << 20);
        let store = Arc::new(store);
        let ceiling = SignedDuration::from_hours(24);
        let (sender, target) = watch::channel(Some(Target {
            sink: store.clone(),
            ceiling,
            holds: Arc::from([]),
            revision: "1".to_owned(),
        }));
        let metrics = Metrics::default();
        let board = Arc::new(Board::new(spool.root(), metrics.clone()));
        let drained = CancellationToken::new();
        let uploads = Uploads { spool: spool.clone(), board: board.clone(), metrics, target };
        let task = tokio::spawn(uploads.run(drained.clone()));
        Self { spool, store, drained, task, target: sender, board, folder }
    }

    async fn record(&self, camera: &str, ago: i64) {
        let start = Timestamp::now() - SignedDuration::from_secs(ago);
        let writer = self.spool.begin(camera, start, vec![1; 100]).await.unwrap();
        writer.close(start, start + SignedDuration::from_secs(10)).await.unwrap();
    }

    /// Waits until the store was tried so often.
    async fn tries(&self, least: u32) {
        let wait = async {
            while *self.store.tried.lock().unwrap() < least {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(HANG, wait).await.expect("tried again");
    }

    async fn stores_something(&self) {
        let wait = async {
            while self.store.stored.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(HANG, wait).await.expect("an upload");
    }

    async fn drain(self) -> Vec<String> {
        self.drained.cancel();
        timeout(HANG, self.task).await.expect("drained in time").unwrap();
        assert_eq!(self.spool.status().segments, 0);
        self.store.stored.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn what_is_complete_is_uploaded_and_goes() {
    let bench = Bench::new().await;
    bench.record("hal", 100).await;
    bench.record("deur", 90).await;
    assert_eq!(bench.drain().await.len(), 2);
}

#[tokio::test]
async fn a_store_that_is_down_loses_nothing_and_the_oldest_is_first_when_it_is_back() {
    let bench = Bench::new().await;
    *bench.store.down.lock().unwrap() = true;
    for ago in [300, 200, 100] {
        bench.record("hal", ago).await;
    }
    bench.tries(2).await;
    assert_eq!(bench.spool.status().segments, 3);
    *bench.store.down.lock().unwrap() = false;
    let stored = bench.drain().await;
    let mut sorted = stored.clone();
    sorted.sort();
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[0], sorted[0]);
}

#[tokio::test]
async fn one_that_is_refused_does_not_hold_up_the_others() {
    let bench = Bench::new().await;
    *bench.store.refuses.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.record("deur", 100).await;
    bench.stores_something().await;
    assert_eq!(bench.spool.waiting("hal"), 1);
    bench.task.abort();
}

#[tokio::test]
async fn one_that_never_gets_through_does_not_hold_up_the_others() {
    let bench = Bench::new().await;
    *bench.store.chokes.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.record("deur", 100).await;
    bench.stores_something().await;
    bench.task.abort();
}

#[tokio::test]
async fn the_last_chance_is_at_once_however_long_it_would_have_waited() {
    let bench = Bench::new().await;
    *bench.store.refuses.lock().unwrap() = Some("hal".into());
    bench.record("hal", 300).await;
    bench.tries(1).await;
    *bench.store.refuses.lock().unwrap() = None;
    // What was refused for itself waits for a minute.
    let drained = timeout(ALONE / 2, bench.drain());
    assert_eq!(drained.await.expect("at once").len(), 1);
}

#[tokio::test]
async fn the_last_chance_is_not_the_last_try() {
    let bench = Bench::new().await;
    *bench.store.down.lock().unwrap() = true;
    bench.record("hal", 300).await;
    bench.tries(3).await;
    bench.drained.cancel();
    // A second apart, however long it had waited before: else these would take minutes.
    let so_far = *bench.store.tried.lock().unwrap();
    let again = timeout(WAITS.1 * 2, bench.tries(so_far + 6));
    again.await.expect("tried again and again");
    *bench.store.down.lock().unwrap() = false;
    assert_eq!(bench.drain().await.len(), 1);
}

#[tokio::test]
async fn a_fault_of_ours_loses_nothing() {
    let bench = Bench::new().await;
    *bench.store.panics.lock().unwrap() = true;
    bench.record("hal", 100).await;
    let wait = async {
        while *bench.store.panics.lock().unwrap() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, wait).await.expect("tried");
    assert_eq!(bench.spool.waiting("hal"), 1);
    bench.task.abort();
}

#[tokio::test]
async fn older_than_the_ceiling_is_never_uploaded() {
    let bench = Bench::new().await;
    *bench.store.down.lock().unwrap() = true;
    bench.record("hal", 25 * 3600).await;
    bench.record("deur", 100).await;
    *bench.store.down.lock().unwrap() = false;
    let stored = bench.drain().await;
    assert!(stored.iter().all(|key| key.contains("/deur/")), "{stored:?}");
}

fn all() -> Arc<[Cover]> {
    let window = crate::protocol::Window::new(Timestamp::UNIX_EPOCH, None);
    let sources = crate::protocol::cover::Sources::All;
    Arc::from([Cover { sources, calls: false, window }])
}

#[tokio::test]
async fn what_a_hold_covers_is_sealed_and_uploads_that_began_before_are_told_apart() {
    let bench = Bench::new().await;
    *bench.store.down.lock().unwrap() = true;
    bench.record("hal", 100).await;
    bench.tries(1).await;
    let follows = async |expected: Option<&str>| {
        let wait = async {
            while bench.board.uploads_follow().as_deref() != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(HANG, wait).await.expect("followed");
    };
    // The answer to the first is not known: it may still arrive, as something that no hold covers.
    bench.target.send_modify(|target| {
        if let Some(target) = target {
            (target.holds, target.revision) = (all(), "2".to_owned());
        }
    });
    follows(None).await;
    *bench.store.down.lock().unwrap() = false;
    follows(Some("2")).await;
    let tags = bench.store.tags.lock().unwrap().clone();
    assert_eq!(tags.first(), Some(&RetentionTag::Video));
    assert_eq!(tags.last(), Some(&RetentionTag::Sealed));
}

#[tokio::test]
async fn what_the_recorder_before_may_have_begun_to_upload_is_told_apart() {
    let bench = Bench::new().await;
    *bench.store.down.lock().unwrap() = true;
    bench.record("hal", 100).await;
    bench.tries(1).await;
    bench.task.abort();
    // Killed in the middle: what it had sent may still arrive, with a tag that nobody knows of any more.
    let store = Store::default();
    *store.down.lock().unwrap() = true;
    let anew = Bench::with(bench.folder, store).await;
    anew.tries(1).await;
    assert_eq!(anew.board.uploads_follow(), None);
    *anew.store.down.lock().unwrap() = false;
    let wait = async {
        while anew.board.uploads_follow().as_deref() != Some("1") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, wait).await.expect("confirmed");
}
