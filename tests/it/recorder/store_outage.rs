//! Outages of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::wire::{CameraReport, CameraState, GapCause};
use tokio::net::{TcpListener, TcpStream};

use super::cameras::testbed_camera;
use super::fixture::{RecorderFixture, camera};
use crate::support::recorded::{UNWRITTEN, ensure_complete, segments};

/// Tolerance between reported gaps and the ends of segments.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(500);

/// A TCP connection to the store that a test can interrupt.
struct BreakableConnection {
    port: u16,
    is_up: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl BreakableConnection {
    async fn open(endpoint: &str) -> Self {
        let url = url::Url::parse(endpoint).unwrap();
        let target = (url.host_str().unwrap().to_owned(), url.port_or_known_default().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_up = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn({
            let is_up = Arc::clone(&is_up);
            async move {
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    let (target, is_up) = (target.clone(), Arc::clone(&is_up));
                    tokio::spawn(async move {
                        let Ok(mut store) = TcpStream::connect(target).await else {
                            return;
                        };
                        let cut = async {
                            while is_up.load(Ordering::Relaxed) {
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
        Self { port, is_up, task }
    }

    fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }
}

impl Drop for BreakableConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn recorder_behind_breakable_connection(
    cameras: Vec<serde_json::Value>,
) -> (RecorderFixture, BreakableConnection) {
    let mut fixture = RecorderFixture::new(cameras).await;
    let connection = BreakableConnection::open(&fixture.bucket.server.endpoint.clone()).await;
    fixture.reconfigure(|config| {
        config["storage"]["endpoint"] = json!(format!("http://127.0.0.1:{}", connection.port));
        config["segmentDurationMs"] = json!(2000);
    });
    (fixture, connection)
}

/// During an outage the spool fills. Afterwards everything is uploaded once and nothing is missing.
#[tokio::test]
async fn store_outage_loses_nothing() {
    let (mut fixture, connection) = recorder_behind_breakable_connection(vec![
        testbed_camera("een", "h264/10"),
        testbed_camera("twee", "h265/10"),
    ])
    .await;
    fixture.start();
    fixture.wait_for_uploads(1).await;
    connection.set_up(false);
    fixture.wait_for_status("a filled spool", |status| (status.spool.segments >= 6).then_some(())).await;
    let status = fixture.status().await.unwrap();
    assert!(status.cameras.iter().all(|camera| camera.state == CameraState::Recording), "{status:?}");
    assert!(status.cameras.iter().any(|camera| camera.last_error.is_some()), "{status:?}");
    connection.set_up(true);
    fixture.wait_for_status("an empty spool", |status| (status.spool.segments <= 1).then_some(())).await;
    let stopped = Timestamp::now();
    fixture.stop_cleanly().await;
    for name in ["een", "twee"] {
        let recorded = segments(&fixture.bucket, name).await;
        let gaps = ensure_complete(name, &recorded, &[], stopped - UNWRITTEN).unwrap();
        assert!(recorded.len() >= 4 && gaps.is_empty(), "{name}: {gaps:?}");
    }
}

/// Its spool outlasts it, so waiting for the store would only cost footage. The grace period is five minutes.
#[tokio::test]
async fn recorder_with_a_volume_does_not_wait_for_the_store() {
    let (mut fixture, connection) =
        recorder_behind_breakable_connection(vec![testbed_camera("een", "h264/10")]).await;
    fixture.has_volume = true;
    fixture.start();
    fixture.wait_for_uploads(1).await;
    connection.set_up(false);
    fixture.wait_for_status("a filled spool", |status| (status.spool.segments >= 2).then_some(())).await;
    let (began, stopped) = (Instant::now(), Timestamp::now());
    assert!(fixture.stop().await.success(), "{}", fixture.log());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let ended = Timestamp::now();
    connection.set_up(true);
    fixture.start();
    // The segments of before may all be uploaded before the camera serves the first frame.
    let is_newer =
        |report: &CameraReport| report.last_segment.as_ref().is_some_and(|last| last.start > ended);
    fixture
        .wait_for_status("a segment of after the restart", |status| {
            camera(status, "een").filter(|report| is_newer(report)).map(|_| ())
        })
        .await;
    fixture.wait_for_status("an empty spool", |status| (status.spool.segments <= 1).then_some(())).await;
    assert!(fixture.stop().await.success(), "{}", fixture.log());
    let recorded = segments(&fixture.bucket, "een").await;
    let gaps = ensure_complete("een", &recorded, &[[stopped, ended]], ended).unwrap();
    assert!(
        recorded.len() >= 4 && gaps.len() == 1,
        "only the restart: {} segments, {gaps:?}",
        recorded.len()
    );
}

/// With a disk that goes with the pod, the recorder uses its grace period.
#[tokio::test]
async fn recorder_without_a_volume_waits_for_the_store() {
    let (mut fixture, connection) =
        recorder_behind_breakable_connection(vec![testbed_camera("een", "h264/10")]).await;
    fixture.start();
    fixture.wait_for_uploads(1).await;
    connection.set_up(false);
    fixture.wait_for_status("a filled spool", |status| (status.spool.segments >= 2).then_some(())).await;
    let stopped = Timestamp::now();
    let store_returns = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        connection.set_up(true);
    };
    tokio::join!(fixture.stop_cleanly(), store_returns);
    let recorded = segments(&fixture.bucket, "een").await;
    let gaps = ensure_complete("een", &recorded, &[], stopped - UNWRITTEN).unwrap();
    assert!(recorded.len() >= 3 && gaps.is_empty(), "{gaps:?}");
}

/// A full spool discards its oldest segments, reports that, and never exceeds its limit.
#[tokio::test]
async fn full_spool_discards_oldest_segments() {
    let (mut fixture, connection) =
        recorder_behind_breakable_connection(vec![testbed_camera("een", "h264/11")]).await;
    fixture.reconfigure(|config| config["spoolBytes"] = json!(1_500_000));
    connection.set_up(false);
    fixture.start();
    let lost = fixture
        .wait_for_status("a gap with cause SpoolFull", |status| {
            assert!(status.spool.bytes <= status.spool.limit, "{:?}", status.spool);
            camera(status, "een")?.gaps.iter().find(|gap| gap.cause == GapCause::SpoolFull).cloned()
        })
        .await;
    let metrics = reqwest::get(format!("http://127.0.0.1:{}/metrics", fixture.health)).await.unwrap();
    assert!(
        metrics
            .text()
            .await
            .unwrap()
            .contains("toezicht_recorder_discarded_segments_total{reason=\"spool_full\"}")
    );
    connection.set_up(true);
    fixture.wait_for_uploads(2).await;
    let status = fixture.status().await.unwrap();
    fixture.stop_cleanly().await;
    let (segments, gaps) = fixture.segments_with_gaps("een").await;
    let reported_gaps = &camera(&status, "een").unwrap().gaps;
    let reported: Vec<_> = reported_gaps
        .iter()
        .filter(|gap| gap.cause == GapCause::SpoolFull)
        .map(|gap| (gap.from.unwrap() - TOLERANCE, gap.until.unwrap() + TOLERANCE))
        .collect();
    // A segment whose upload was in progress may be older than the discarded ones.
    assert!(gaps.len() <= 1, "{gaps:?}");
    for frame_gap in &gaps {
        let is_reported =
            reported.iter().any(|(from, until)| *from <= frame_gap.from && frame_gap.until <= *until);
        assert!(is_reported, "{frame_gap:?} is not in {reported:?}");
    }
    // An upload that the outage interrupted is in doubt: its bytes may arrive after the spool has discarded the
    // segment.
    let is_lost = |key: &toezicht::rules::recording::key::Key| {
        key.start() >= lost.from.unwrap() && key.end() <= lost.until.unwrap()
    };
    let arrived: Vec<_> = segments.iter().map(|segment| &segment.key).filter(|key| is_lost(key)).collect();
    assert!(arrived.len() <= 1, "in the bucket but reported as lost: {arrived:?}, {lost:?}");
}
