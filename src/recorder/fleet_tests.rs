use std::future::Future;
use std::time::Instant;

use jiff::SignedDuration;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::recorder::board::Board;
use crate::recorder::metrics::Metrics;
use crate::recorder::spool::Spool;

/// A test that waits longer hangs.
const HANG: Duration = Duration::from_mins(5);

async fn fleet() -> (tempfile::TempDir, Arc<Board>, Fleet) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let spool = Spool::open(folder.path().to_owned()).await.unwrap();
    let board = Arc::new(Board::new(spool.root(), metrics.clone()));
    let shared = Shared {
        spool,
        board: Arc::clone(&board),
        metrics,
        segment: watch::channel(SignedDuration::from_secs(60)).1,
        epoch: Instant::now(),
    };
    (folder, board, Fleet::new(shared, 0))
}

/// Cameras that may never record, so that none is looked for.
fn config(cameras: &[&str]) -> RecorderConfig {
    let camera = |name| {
        serde_json::json!({
            "name": name, "shard": 0, "url": "rtsp://127.0.0.1:1/", "permitted": [],
        })
    };
    serde_json::from_value(serde_json::json!({
        "format": 1, "revision": "r1", "namespace": "test", "site": "test",
        "storage": {
            "region": "x", "bucket": "x", "pathStyle": true, "accessKeyId": "x", "secretAccessKey": "x",
        },
        "segmentDurationMs": 60_000, "videoCeilingMs": 60_000, "spoolBytes": 1000,
        "cameras": cameras.iter().map(camera).collect::<Vec<_>>(),
        "statusApi": {"certPem": "", "keyPem": "", "token": ""},
    }))
    .unwrap()
}

/// A camera whose task does not end when it is told to, until the sender goes.
fn hang(fleet: &mut Fleet, name: &str) -> oneshot::Sender<()> {
    let (release, held) = oneshot::channel();
    let member = Member {
        config: watch::channel(config(&[name]).cameras.remove(0)).0,
        stop: CancellationToken::new(),
        task: tokio::spawn(async { drop(held.await) }),
    };
    fleet.members.insert(name.to_owned(), member);
    release
}

async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let seen = timeout(HANG, async {
        while !look().await {
            sleep(Duration::from_millis(5)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("it hangs: {what}"));
}

fn state(board: &Board, spool: &Spool, name: &str) -> Option<CameraState> {
    let reports = board.report(spool);
    reports.into_iter().find(|report| report.name == name).map(|report| report.state)
}

#[tokio::test]
async fn one_that_does_not_leave_holds_up_nobody_but_its_namesake() {
    let (_folder, board, mut fleet) = fleet().await;
    let spool = Arc::clone(&fleet.shared.spool);
    let release = hang(&mut fleet, "hal");
    fleet.apply(&config(&["deur"]));
    let closed = |name| state(&board, &spool, name) == Some(CameraState::NotPermitted);
    until("another camera begins", async || closed("deur")).await;

    fleet.apply(&config(&["deur", "hal", "gang"]));
    until("one that is added with it begins", async || closed("gang")).await;
    assert!(!closed("hal"), "two tasks of one camera");
    drop(release);
    until("it begins when the one before has ended", async || closed("hal")).await;

    fleet.apply(&config(&["deur"]));
    until("a camera that was removed is not reported", async || state(&board, &spool, "hal").is_none()).await;
    timeout(HANG, fleet.stop()).await.expect("it ends");
}

#[tokio::test]
async fn the_end_waits_for_those_who_still_leave() {
    let (_folder, _board, mut fleet) = fleet().await;
    let release = hang(&mut fleet, "hal");
    fleet.apply(&config(&[]));
    let ending = tokio::spawn(fleet.stop());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!ending.is_finished(), "the file of a camera that was removed is not waited for");
    drop(release);
    let ended = timeout(HANG, ending).await;
    ended.expect("it ends").unwrap();
}
