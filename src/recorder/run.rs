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

use super::camera::context::RecorderContext;
use super::config::{self, ConfigState};
use super::fleet::Fleet;
use super::http::{health, status};
use super::metrics::RecorderMetrics;
use super::spool::{OrphanRecovery, Spool};
use super::state::RecorderState;
use super::upload::{SegmentSink, UploadQueue, UploadTarget};
use crate::rules::hold::scope::HoldScope;
use crate::storage::s3::segments::Uploader;
use crate::wire::{GapCause, HoldScopeConfig, RecorderConfig};

/// How often gaps are kept, and the spool is tidied.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct RecorderOptions {
    pub config_dir: PathBuf,
    /// Where recordings are made and wait.
    pub spool_dir: PathBuf,
    /// Which pod this is: it records the cameras of this shard.
    pub shard: u32,
    /// Where `/v1/status` is served.
    pub status_listen: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
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
    Listen { address: SocketAddr, source: io::Error },
    /// A part of the recorder ended that must not. Another start is the remedy, and the cluster's to make.
    #[error("a part of the recorder ended badly")]
    Internal,
}

/// Records until told to stop; then completes what is open and uploads what it can.
pub async fn run(options: RecorderOptions, shutdown: CancellationToken) -> Result<(), RecorderError> {
    let started = Timestamp::now();
    let spool = Spool::open(options.spool_dir.clone()).await.map_err(RecorderError::Spool)?;
    let mut registry = Registry::default();
    let metrics = RecorderMetrics::default();
    metrics.register(&mut registry);
    let state = Arc::new(RecorderState::new(spool.root(), metrics.clone()));
    let (config_sender, mut config) = watch::channel(ConfigState::default());

    // What is served and watched lives until everything else has ended.
    let services_stop = CancellationToken::new();
    let _services_guard = services_stop.clone().drop_guard();
    let health = health::Health {
        config: config.clone(),
        spool: Arc::clone(&spool),
        writable: health::WritableCache::default(),
        registry: Arc::new(registry),
    };
    let mut services = JoinSet::new();
    services.spawn(health::serve(listen(options.health_listen).await?, health, services_stop.clone()));
    let status = status::StatusSource {
        config: config.clone(),
        state: Arc::clone(&state),
        spool: Arc::clone(&spool),
        shard: options.shard,
        started,
    };
    services.spawn(status::serve(listen(options.status_listen).await?, status, services_stop.clone()));
    services.spawn(config::watch_file(options.config_dir.clone(), config_sender, services_stop.clone()));
    services.spawn(run_housekeeping(
        Arc::clone(&spool),
        Arc::clone(&state),
        metrics.clone(),
        services_stop.clone(),
    ));

    let (target_sender, target) = watch::channel(None);
    let (segment_sender, segment) = watch::channel(SignedDuration::from_secs(60));
    let drained = CancellationToken::new();
    let uploads = UploadQueue {
        spool: Arc::clone(&spool),
        state: Arc::clone(&state),
        metrics: metrics.clone(),
        target,
    };
    let mut uploading = tokio::spawn(uploads.run(drained.clone()));
    let shared = RecorderContext {
        spool: Arc::clone(&spool),
        state: Arc::clone(&state),
        metrics,
        segment_duration: segment,
        epoch: Instant::now(),
    };
    let mut fleet = Fleet::new(shared, options.shard);
    let mut settings =
        SharedSettings { target: target_sender, segment_duration: segment_sender, sink: None, applied: None };

    let result = tokio::select! {
        () = apply_config_changes(&mut config, &mut settings, &mut fleet, &spool) => Err(RecorderError::Internal),
        ended = wait_for_shutdown(&shutdown, &mut services, &mut uploading) => ended,
    };
    tracing::info!("stopping: completing and uploading what is recorded");
    let ending = async {
        fleet.stop().await;
        while recover_orphan(&spool, &state).await {}
        persist_gaps_or_warn(&state).await;
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
    persist_gaps_or_warn(&state).await;
    result
}

/// Waits until it is told to stop, or a part ended: none does by itself, and without one of them a recorder
/// would look well and not be.
async fn wait_for_shutdown(
    shutdown: &CancellationToken,
    services: &mut JoinSet<()>,
    uploading: &mut JoinHandle<()>,
) -> Result<(), RecorderError> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(_) = services.join_next() => Err(RecorderError::Internal),
        _ = uploading => Err(RecorderError::Internal),
    }
}

/// Makes everything as the configuration says, whenever it changes; until nobody reads it any more.
async fn apply_config_changes(
    config: &mut watch::Receiver<ConfigState>,
    settings: &mut SharedSettings,
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
struct SharedSettings {
    target: watch::Sender<Option<UploadTarget>>,
    segment_duration: watch::Sender<SignedDuration>,
    sink: Option<Arc<dyn SegmentSink>>,
    applied: Option<Arc<RecorderConfig>>,
}

impl SharedSettings {
    fn apply(&mut self, spool: &Spool, config: &Arc<RecorderConfig>) {
        let holds: Arc<[HoldScope]> = config.holds.values().map(HoldScopeConfig::scope).collect();
        spool.set_holds(Arc::clone(&holds));
        spool.set_limit(config.spool_bytes);
        self.segment_duration.send_replace(millis(config.segment_duration_ms));
        let is_same = self.applied.as_ref().is_some_and(|known| known.storage == config.storage);
        if !is_same {
            match Uploader::new(&config.storage) {
                Ok(uploader) => self.sink = Some(Arc::new(uploader)),
                // Recording goes on: what is recorded waits in the spool.
                Err(error) => tracing::error!("the storage in the configuration cannot be used: {error}"),
            }
        }
        if let Some(sink) = self.sink.clone() {
            self.target.send_replace(Some(UploadTarget {
                sink,
                ceiling: millis(config.video_ceiling_ms),
                holds,
                revision: config.revision.clone(),
            }));
        }
        self.applied = Some(Arc::clone(config));
    }
}

fn millis(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RecorderError> {
    TcpListener::bind(address).await.map_err(|source| RecorderError::Listen { address, source })
}

/// Keeps gaps, completes what was left behind, and reports what had to go.
async fn run_housekeeping(
    spool: Arc<Spool>,
    state: Arc<RecorderState>,
    metrics: RecorderMetrics,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = sleep(HOUSEKEEPING_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        // One at a time: reading it all may take longer than what else is done here can wait.
        recover_orphan(&spool, &state).await;
        for evicted in spool.take_evicted() {
            metrics.count_discarded("spool_full");
            tracing::error!(camera = evicted.camera, start = %evicted.start, "the spool is full: the oldest segment went");
            state.mark_lost(&evicted.camera, GapCause::SpoolFull, evicted.start, evicted.end());
            state.set_last_error(&evicted.camera, "the spool is full: the oldest segments go unconfirmed");
        }
        metrics.set_spool(spool.status());
        persist_gaps_or_warn(&state).await;
    }
}

/// Completes one file that was left behind, if there is one.
async fn recover_orphan(spool: &Arc<Spool>, state: &RecorderState) -> bool {
    let outcome = spool.recover_orphan().await;
    if let Some(OrphanRecovery::Recovered(closed)) = &outcome {
        state.mark_recovered(&closed.camera, closed.end());
    }
    outcome.is_some()
}

async fn persist_gaps_or_warn(state: &RecorderState) {
    if let Err(error) = state.persist_gaps().await {
        tracing::warn!(error = %error.kind(), "gaps cannot be kept in the spool");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    async fn within_timeout<T>(ended: impl Future<Output = T>) -> T {
        timeout(Duration::from_mins(5), ended).await.expect("noticed")
    }

    #[tokio::test]
    async fn recorder_ends_when_a_service_ends() {
        let shutdown = CancellationToken::new();
        let (mut fine, mut bad) = (JoinSet::new(), JoinSet::new());
        fine.spawn(pending());
        bad.spawn(pending());
        bad.spawn(async { panic!("a part that fails") });
        let (mut uploads, mut ended) = (tokio::spawn(pending()), tokio::spawn(async {}));
        let result = within_timeout(wait_for_shutdown(&shutdown, &mut bad, &mut uploads)).await;
        assert!(matches!(result, Err(RecorderError::Internal)), "{result:?}");
        let result = within_timeout(wait_for_shutdown(&shutdown, &mut fine, &mut ended)).await;
        assert!(matches!(result, Err(RecorderError::Internal)), "{result:?}");
        shutdown.cancel();
        within_timeout(wait_for_shutdown(&shutdown, &mut fine, &mut uploads)).await.unwrap();
    }
}
