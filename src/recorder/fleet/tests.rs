use jiff::SignedDuration;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::recorder::spool::Spool;
use crate::recorder::state::RecorderState;
use crate::wire::CameraState;

/// Time after which a test counts as hanging.
const TEST_TIMEOUT: Duration = Duration::from_mins(5);

async fn fleet() -> (tempfile::TempDir, Arc<RecorderState>, Fleet) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().to_owned()).await.unwrap();
    let context = RecorderContext::new(spool, watch::channel(SignedDuration::from_secs(60)).1);
    (folder, Arc::clone(&context.state), Fleet::new(context, 0))
}

/// Cameras that may never record, so that no task connects.
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

/// Adds a camera whose task ignores its stop token, until the sender is dropped.
fn add_hanging_camera(fleet: &mut Fleet, name: &str) -> oneshot::Sender<()> {
    let (release, held) = oneshot::channel();
    let member = CameraHandle {
        config: watch::channel(config(&[name]).cameras.remove(0)).0,
        stop: CancellationToken::new(),
        task: tokio::spawn(async { drop(held.await) }),
    };
    fleet.members.insert(name.to_owned(), member);
    release
}

async fn wait_until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let seen = timeout(TEST_TIMEOUT, async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("hangs: {what}"));
}

fn camera_state(recorder_state: &RecorderState, spool: &Spool, name: &str) -> Option<CameraState> {
    let reports = recorder_state.camera_reports(spool);
    reports.into_iter().find(|report| report.name == name).map(|report| report.state)
}

#[tokio::test]
async fn hanging_camera_task_delays_only_its_replacement() {
    let (_folder, state, mut fleet) = fleet().await;
    let spool = Arc::clone(&fleet.context.spool);
    let release = add_hanging_camera(&mut fleet, "hal");
    fleet.apply(&config(&["deur"]));
    let closed = |name| camera_state(&state, &spool, name) == Some(CameraState::NotPermitted);
    wait_until("another camera starts", async || closed("deur")).await;

    fleet.apply(&config(&["deur", "hal", "gang"]));
    wait_until("a camera added at the same time starts", async || closed("gang")).await;
    assert!(!closed("hal"), "two tasks of one camera");
    drop(release);
    wait_until("the replacement starts once the previous task has ended", async || closed("hal")).await;

    fleet.apply(&config(&["deur"]));
    wait_until("a removed camera is not reported", async || camera_state(&state, &spool, "hal").is_none())
        .await;
    timeout(TEST_TIMEOUT, fleet.stop()).await.expect("the fleet stops");
}

#[tokio::test]
async fn stop_waits_for_removed_cameras() {
    let (_folder, _state, mut fleet) = fleet().await;
    let release = add_hanging_camera(&mut fleet, "hal");
    fleet.apply(&config(&[]));
    let ending = tokio::spawn(fleet.stop());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!ending.is_finished(), "the stop does not wait for the removed camera's file");
    drop(release);
    let ended = timeout(TEST_TIMEOUT, ending).await;
    ended.expect("the fleet stops").unwrap();
}
