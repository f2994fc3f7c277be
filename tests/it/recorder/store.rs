//! The store goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use toezicht::wire::{CameraState, GapCause};
use tokio::net::{TcpListener, TcpStream};

use super::bench::{Bench, camera};
use super::cameras::testbed_camera;

/// A segment begins and ends within some frames of what was before and came after it.
const FRAMES: SignedDuration = SignedDuration::from_millis(500);

/// A line to the store that can be cut.
struct Line {
    port: u16,
    up: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    async fn to(endpoint: &str) -> Self {
        let url = url::Url::parse(endpoint).unwrap();
        let target = (url.host_str().unwrap().to_owned(), url.port_or_known_default().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let up = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn({
            let up = Arc::clone(&up);
            async move {
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    let (target, up) = (target.clone(), Arc::clone(&up));
                    tokio::spawn(async move {
                        let Ok(mut store) = TcpStream::connect(target).await else {
                            return;
                        };
                        let cut = async {
                            while up.load(Ordering::Relaxed) {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                        };
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut client, &mut store) => {}
                            () = cut => {}
                        }
                    });
                }
            }
        });
        Self { port, up, task }
    }

    fn set(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn recorder_behind_breakable_connection(cameras: Vec<serde_json::Value>) -> (Bench, Line) {
    let mut bench = Bench::new(cameras).await;
    let line = Line::to(&bench.bucket.server.endpoint.clone()).await;
    bench.reconfigure(|config| {
        config["storage"]["endpoint"] = json!(format!("http://127.0.0.1:{}", line.port));
        config["segmentDurationMs"] = json!(2000);
    });
    (bench, line)
}

/// While the store is away the spool fills; when it is back everything is uploaded, once, and nothing is
/// missing.
#[tokio::test]
async fn store_outage_loses_nothing() {
    let (mut bench, line) = recorder_behind_breakable_connection(vec![
        testbed_camera("een", "h264/10"),
        testbed_camera("twee", "h265/10"),
    ])
    .await;
    bench.start();
    bench.uploaded(1).await;
    line.set(false);
    bench.until("a filled spool", |status| (status.spool.segments >= 6).then_some(())).await;
    let status = bench.status().await.unwrap();
    assert!(status.cameras.iter().all(|camera| camera.state == CameraState::Recording), "{status:?}");
    assert!(status.cameras.iter().any(|camera| camera.last_error.is_some()), "{status:?}");
    line.set(true);
    bench.until("an empty spool", |status| (status.spool.segments <= 1).then_some(())).await;
    bench.stop_cleanly().await;
    for name in ["een", "twee"] {
        let (segments, holes) = bench.recorded(name).await;
        assert!(segments.len() >= 4 && holes.is_empty(), "{name}: {holes:?}");
    }
}

/// A full spool lets the oldest go, says so, and never holds more than it may.
#[tokio::test]
async fn full_spool_discards_oldest_segments() {
    let (mut bench, line) =
        recorder_behind_breakable_connection(vec![testbed_camera("een", "h264/11")]).await;
    bench.reconfigure(|config| config["spoolBytes"] = json!(1_500_000));
    line.set(false);
    bench.start();
    let lost = bench
        .until("a gap for want of room", |status| {
            assert!(status.spool.bytes <= status.spool.limit, "{:?}", status.spool);
            camera(status, "een")?.gaps.iter().find(|gap| gap.cause == GapCause::SpoolFull).cloned()
        })
        .await;
    let metrics = reqwest::get(format!("http://127.0.0.1:{}/metrics", bench.health)).await.unwrap();
    assert!(
        metrics
            .text()
            .await
            .unwrap()
            .contains("toezicht_recorder_discarded_segments_total{reason=\"spool_full\"}")
    );
    line.set(true);
    bench.uploaded(2).await;
    let status = bench.status().await.unwrap();
    bench.stop_cleanly().await;
    let (segments, holes) = bench.recorded("een").await;
    let gaps = &camera(&status, "een").unwrap().gaps;
    let told: Vec<_> = gaps
        .iter()
        .filter(|gap| gap.cause == GapCause::SpoolFull)
        .map(|gap| (gap.from.unwrap() - FRAMES, gap.until.unwrap() + FRAMES))
        .collect();
    // One that was on its way just then may be older than what went.
    assert!(holes.len() <= 1, "{holes:?}");
    for hole in &holes {
        let is_told = told.iter().any(|(from, until)| *from <= hole.from && hole.until <= *until);
        assert!(is_told, "{hole:?} is not in {told:?}");
    }
    // An upload that the outage interrupted is in doubt: its bytes may arrive after the spool has given it up.
    let is_lost = |key: &toezicht::rules::recording::key::Key| {
        key.start() >= lost.from.unwrap() && key.end() <= lost.until.unwrap()
    };
    let arrived: Vec<_> = segments.iter().map(|segment| &segment.key).filter(|key| is_lost(key)).collect();
    assert!(arrived.len() <= 1, "in the bucket, and reported as lost: {arrived:?}, {lost:?}");
}
