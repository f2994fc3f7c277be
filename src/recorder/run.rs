//! Wires the recorder, and ends it in order: cameras, then uploads, then what is served.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::camera::Shared;
use super::config::{self, Current};
use super::fleet::Fleet;
use super::http::{health, status};
use super::metrics::Metrics;
use super::spool::{Adopted, Spool};
use super::upload::{Sink, Target, Uploads};
use crate::contract::{Covering, GapCause, RecorderConfig};
use crate::protocol::cover::Cover;
use crate::storage::segments::Uploader;

/// How often gaps are kept, and the spool is tidied.
const TIDY: Duration = Duration::from_secs(1);

/// How a recorder is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the configuration is mounted.
    pub config_dir: PathBuf,
    /// Where recordings are made and wait.
    pub spool: PathBuf,
    /// Which pod this is: it records the cameras of this shard.
    pub shard: u32,
    /// Where `/v1/status` is served.
    pub status_listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub health_listen: SocketAddr,
    /// How long completing and uploading may take when told to stop. What is not confirmed by then stays in
    /// the spool.
    pub grace: Duration,
}

/// Why a recorder could not run.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The spool cannot be used.
    #[error("the spool cannot be used: {}", .0.kind())]
    Spool(#[source] io::Error),
    /// A port cannot be served.
    #[error("cannot listen on {address}: {}", source.kind())]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A part of the recorder ended that must not. Another start is the remedy, and the cluster's to make.
    #[error("a part of the recorder ended badly")]
    Inside,
}

impl RecorderError {
    /// Bounded, for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Spool(_) => "spool",
            Self::Listen { .. } => "listen",
            Self::Inside => "inside",
        }
    }

    /// Holds no secret.
    pub fn safe_message(&self) -> String {
        self.to_string()
    }
}

/// Records until told to stop; then completes what is open and uploads what it can.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), RecorderError> {
    let started = Timestamp::now();
    let spool = Spool::open(options.spool.clone()).await.map_err(RecorderError::Spool)?;
    let mut registry = Registry::default();
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let board = Arc::new(Board::new(spool.root(), metrics.clone()));
    let (config_sender, mut config) = watch::channel(Current::default());

    // What is served and watched lives until everything else has ended.
    let last = CancellationToken::new();
    let _ends_them = last.clone().drop_guard();
    let health = health::Health {
        config: config.clone(),
        spool: Arc::clone(&spool),
        writable: health::Writable::default(),
        registry: Arc::new(registry),
    };
    let mut kept = JoinSet::new();
    kept.spawn(health::serve(listen(options.health_listen).await?, health, last.clone()));
    let status = status::Status {
        config: config.clone(),
        board: Arc::clone(&board),
        spool: Arc::clone(&spool),
        shard: options.shard,
        started,
    };
    kept.spawn(status::serve(listen(options.status_listen).await?, status, last.clone()));
    kept.spawn(config::follow(options.config_dir.clone(), config_sender, last.clone()));
    kept.spawn(tidy(Arc::clone(&spool), Arc::clone(&board), metrics.clone(), last.clone()));

    let (target_sender, target) = watch::channel(None);
    let (segment_sender, segment) = watch::channel(SignedDuration::from_secs(60));
    let drained = CancellationToken::new();
    let uploads =
        Uploads { spool: Arc::clone(&spool), board: Arc::clone(&board), metrics: metrics.clone(), target };
    let mut uploading = tokio::spawn(uploads.run(drained.clone()));
    let shared = Shared {
        spool: Arc::clone(&spool),
        board: Arc::clone(&board),
        metrics,
        segment,
        epoch: Instant::now(),
    };
    let mut fleet = Fleet::new(shared, options.shard);
    let mut settings = Settings { target: target_sender, segment: segment_sender, sink: None, known: None };

    let ended = tokio::select! {
        () = follow(&mut config, &mut settings, &mut fleet, &spool) => Err(RecorderError::Inside),
        ended = until_told(&shutdown, &mut kept, &mut uploading) => ended,
    };
    tracing::info!("stopping: completing and uploading what is recorded");
    let ending = async {
        fleet.stop().await;
        while adopt(&spool, &board).await {}
        keep(&board).await;
        drained.cancel();
        if !uploading.is_finished() {
            let _ = (&mut uploading).await;
        }
    };
    if timeout(options.grace, ending).await.is_err() {
        tracing::warn!(
            segments = spool.status().segments,
            "not all could be uploaded: it stays in the spool"
        );
    }
    uploading.abort();
    keep(&board).await;
    ended
}

/// Waits until it is told to stop, or a part ended: none does by itself, and without one of them a recorder
/// would look well and not be.
async fn until_told(
    shutdown: &CancellationToken,
    kept: &mut JoinSet<()>,
    uploading: &mut JoinHandle<()>,
) -> Result<(), RecorderError> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(_) = kept.join_next() => Err(RecorderError::Inside),
        _ = uploading => Err(RecorderError::Inside),
    }
}

/// Makes everything as the configuration says, whenever it changes; until nobody reads it any more.
async fn follow(
    config: &mut watch::Receiver<Current>,
    settings: &mut Settings,
    fleet: &mut Fleet,
    spool: &Spool,
) {
    loop {
        let current = config.borrow_and_update().config.clone();
        if let Some(current) = current {
            settings.apply(spool, &current);
            fleet.apply(&current);
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// What of the configuration concerns all cameras.
struct Settings {
    target: watch::Sender<Option<Target>>,
    segment: watch::Sender<SignedDuration>,
    sink: Option<Arc<dyn Sink>>,
    known: Option<Arc<RecorderConfig>>,
}

impl Settings {
    fn apply(&mut self, spool: &Spool, config: &Arc<RecorderConfig>) {
        let holds: Arc<[Cover]> = config.holds.values().map(Covering::cover).collect();
        spool.set_holds(Arc::clone(&holds));
        spool.set_limit(config.spool_bytes);
        self.segment.send_replace(millis(config.segment_duration_ms));
        let is_same = self.known.as_ref().is_some_and(|known| known.storage == config.storage);
        if !is_same {
            match Uploader::new(&config.storage) {
                Ok(uploader) => self.sink = Some(Arc::new(uploader)),
                // Recording goes on: what is recorded waits in the spool.
                Err(error) => tracing::error!("the storage in the configuration cannot be used: {error}"),
            }
        }
        if let Some(sink) = self.sink.clone() {
            self.target.send_replace(Some(Target {
                sink,
                ceiling: millis(config.video_ceiling_ms),
                holds,
                revision: config.revision.clone(),
            }));
        }
        self.known = Some(Arc::clone(config));
    }
}

fn millis(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RecorderError> {
    TcpListener::bind(address).await.map_err(|source| RecorderError::Listen { address, source })
}

/// Keeps gaps, completes what was left behind, and reports what had to go.
async fn tidy(spool: Arc<Spool>, board: Arc<Board>, metrics: Metrics, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(TIDY) => {}
            () = stop.cancelled() => return,
        }
        // One at a time: reading it all may take longer than what else is done here can wait.
        adopt(&spool, &board).await;
        for gone in spool.evicted() {
            metrics.discard("spool_full");
            tracing::error!(camera = gone.camera, start = %gone.start, "the spool is full: the oldest segment went");
            board.lost(&gone.camera, GapCause::SpoolFull, gone.start, gone.end());
            board.error(&gone.camera, "the spool is full: the oldest segments go unconfirmed");
        }
        metrics.spool(spool.status());
        keep(&board).await;
    }
}

/// Completes one file that was left behind, if there is one.
async fn adopt(spool: &Arc<Spool>, board: &Board) -> bool {
    let adopted = spool.adopt_orphan().await;
    if let Some(Adopted::Complete(closed)) = &adopted {
        board.found(&closed.camera, closed.end());
    }
    adopted.is_some()
}

async fn keep(board: &Board) {
    if let Err(error) = board.keep().await {
        tracing::warn!(error = %error.kind(), "gaps cannot be kept in the spool");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    async fn soon<T>(ended: impl Future<Output = T>) -> T {
        timeout(Duration::from_mins(5), ended).await.expect("noticed")
    }

    #[tokio::test]
    async fn a_part_that_ends_ends_the_recorder() {
        let shutdown = CancellationToken::new();
        let (mut fine, mut bad) = (JoinSet::new(), JoinSet::new());
        fine.spawn(pending());
        bad.spawn(pending());
        bad.spawn(async { panic!("a part that fails") });
        let (mut uploads, mut ended) = (tokio::spawn(pending()), tokio::spawn(async {}));
        let told = soon(until_told(&shutdown, &mut bad, &mut uploads)).await;
        assert!(matches!(told, Err(RecorderError::Inside)), "{told:?}");
        let told = soon(until_told(&shutdown, &mut fine, &mut ended)).await;
        assert!(matches!(told, Err(RecorderError::Inside)), "{told:?}");
        shutdown.cancel();
        soon(until_told(&shutdown, &mut fine, &mut uploads)).await.unwrap();
    }
}
