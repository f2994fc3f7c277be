//! Assembles the recorder and ends it in order: cameras, uploads, services.

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

use super::config;
use super::config::ConfigState;
use super::context::RecorderContext;
use super::fleet::Fleet;
use super::http::health::{Health, WritableCache};
use super::http::status::StatusSource;
use super::http::{health, status};
use super::spool::{OrphanRecovery, Spool};
use super::state::RecorderState;
use super::upload::{SegmentSink, UploadQueue, UploadTarget};
use crate::rules::HoldScope;
use crate::storage::s3::segments::Uploader;
use crate::telemetry::serve::serve;
use crate::wire::{GapCause, HEALTH_PORT, RecorderConfig, STATUS_PORT};

const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which incomplete recordings that could not be read are tried again.
const UNREADABLE_RETRY_INTERVAL: Duration = Duration::from_mins(10);
/// Time to complete files and to end uploads, with a persistent spool.
const PERSISTENT_CLOSING_PERIOD: Duration = Duration::from_secs(5);
/// Interval at which the ends of recordings are stored while no gap begins or ends.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

// A doc comment here would replace the help of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct RecorderOptions {
    /// Mount point of the configuration Secret.
    #[arg(long, value_name = "DIR", default_value = "/etc/toezicht")]
    pub config_dir: PathBuf,
    /// Folder in which segments are written and wait for upload.
    #[arg(long, value_name = "DIR", default_value = "/var/spool/toezicht")]
    pub spool_dir: PathBuf,
    /// Index of this pod among the site's recorder pods, from 0. It records the cameras of this shard.
    #[arg(long, env = "TOEZICHT_SHARD")]
    pub shard: u32,
    /// Address and port of /v1/status, with TLS and token authentication.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], STATUS_PORT)))]
    pub status_listen: SocketAddr,
    /// Address and port of /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], HEALTH_PORT)))]
    pub health_listen: SocketAddr,
    /// Maximum time to complete and upload segments after a signal, in seconds. Other segments stay in the spool.
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    pub grace_period_seconds: u64,
    /// Capacity of the spool in bytes. Without it, the recorder uses that of its first configuration.
    #[arg(long, value_name = "BYTES", env = "TOEZICHT_SPOOL_BYTES")]
    pub spool_bytes: Option<u64>,
    /// The spool outlasts this pod. After a signal, segments are completed and left to the next recorder.
    #[arg(long)]
    pub persistent_spool: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    #[error("the spool cannot be used: {}", .0.kind())]
    Spool(#[source] io::Error),
    #[error("cannot listen on {address}: {}", source.kind())]
    Listen { address: SocketAddr, source: io::Error },
    /// A task that must not end has ended. The cluster restarts the recorder.
    #[error("internal error: a task of the recorder ended")]
    Internal,
}

/// Records until `shutdown`. Then completes open files and uploads as much as the grace period allows.
///
/// It does not record on while it uploads: the operator gives no new suspension to a pod that terminates. A persistent spool waits
/// for the next recorder instead: each second of waiting would be a second without recording.
pub async fn run(options: RecorderOptions, shutdown: CancellationToken) -> Result<(), RecorderError> {
    let started = Timestamp::now();
    let spool = Spool::open(options.spool_dir).await.map_err(RecorderError::Spool)?;
    let (segment_sender, segment_duration) = watch::channel(SignedDuration::from_secs(60));
    if let Some(bytes) = options.spool_bytes {
        spool.set_initial_limit(bytes);
    }
    let context = RecorderContext::new(spool, segment_duration);
    let mut registry = Registry::default();
    context.metrics.register(&mut registry);
    let (config_sender, mut config) = watch::channel(ConfigState::default());

    // Services end last, so that the operator sees the status of a recorder that still uploads.
    let services_stop = CancellationToken::new();
    let _services_guard = services_stop.clone().drop_guard();
    let health = Health {
        config: config.clone(),
        spool: Arc::clone(&context.spool),
        writable: WritableCache::default(),
        registry: Arc::new(registry),
    };
    let status =
        StatusSource { config: config.clone(), context: context.clone(), shard: options.shard, started };
    let (health_port, status_port) =
        (listen(options.health_listen).await?, listen(options.status_listen).await?);
    let mut services = JoinSet::new();
    services.spawn(serve(health_port, health::router(health), services_stop.clone()));
    services.spawn(status::serve(status_port, status, services_stop.clone()));
    services.spawn(config::watch_file(options.config_dir, config_sender, services_stop.clone()));
    services.spawn(run_housekeeping(context.clone(), services_stop));

    let (target_sender, target) = watch::channel(None);
    let drained = CancellationToken::new();
    let mut uploading = tokio::spawn(UploadQueue::new(context.clone(), target).run(drained.clone()));
    let mut fleet = Fleet::new(context.clone(), options.shard);
    let mut settings =
        SharedSettings { target: target_sender, segment_duration: segment_sender, sink: None, applied: None };

    let result = tokio::select! {
        () = apply_config_changes(&mut config, &mut settings, &mut fleet, &context) => Err(RecorderError::Internal),
        ended = wait_for_shutdown(&shutdown, &mut services, &mut uploading) => ended,
    };
    let grace = Duration::from_secs(options.grace_period_seconds);
    let limit = if options.persistent_spool { grace.min(PERSISTENT_CLOSING_PERIOD) } else { grace };
    tracing::info!("stopping: completing and uploading segments");
    // Cameras and orphans still add segments, so `drained` comes last: the queue ends once the spool is empty.
    let ending = async {
        fleet.stop().await;
        while recover_orphan(&context).await {}
        context.state.flush_progress();
        persist_gaps_or_warn(&context.state).await;
        drained.cancel();
        if !uploading.is_finished() {
            let _ = (&mut uploading).await;
        }
    };
    if timeout(limit, ending).await.is_err() {
        let segments = context.spool.status().segments;
        tracing::warn!(segments, "stopping before all uploads: segments stay in the spool");
    }
    uploading.abort();
    // Again, since the timeout may have dropped `ending` before its own call.
    context.state.flush_progress();
    persist_gaps_or_warn(&context.state).await;
    result
}

/// Waits for `shutdown`, or for the end of a task. No task ends before a shutdown, and without one of them a recorder
/// would seem healthy and lose recordings.
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

/// Applies each new configuration. Returns if the task that reads them ends.
async fn apply_config_changes(
    config: &mut watch::Receiver<ConfigState>,
    settings: &mut SharedSettings,
    fleet: &mut Fleet,
    context: &RecorderContext,
) {
    loop {
        let current = config.borrow_and_update().config.clone();
        if let Some(current) = current {
            settings.apply(context, &current);
            fleet.apply(&current);
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// The part of the configuration that concerns all cameras.
struct SharedSettings {
    target: watch::Sender<Option<UploadTarget>>,
    segment_duration: watch::Sender<SignedDuration>,
    sink: Option<Arc<dyn SegmentSink>>,
    applied: Option<Arc<RecorderConfig>>,
}

impl SharedSettings {
    fn apply(&mut self, context: &RecorderContext, config: &Arc<RecorderConfig>) {
        let RecorderContext { spool, state, .. } = context;
        let holds: Arc<[HoldScope]> = config.holds.values().cloned().collect();
        spool.set_holds(Arc::clone(&holds));
        spool.set_initial_limit(config.spool_bytes);
        self.segment_duration.send_replace(millis(config.segment_duration_ms));
        // A new uploader starts without connections, and without knowing whether the store supports conditional puts.
        let is_same = self.applied.as_ref().is_some_and(|known| known.storage == config.storage);
        if !is_same {
            match Uploader::new(&config.storage) {
                Ok(uploader) => {
                    self.sink = Some(Arc::new(uploader));
                    state.set_storage_problem(None);
                }
                // Recording continues, and uploads with the previous storage.
                Err(error) => {
                    tracing::error!("the configured storage is unusable: {error}");
                    state.set_storage_problem(Some(error.to_string()));
                }
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

/// Stores gaps, completes orphaned files and reports evicted segments.
async fn run_housekeeping(context: RecorderContext, stop: CancellationToken) {
    let RecorderContext { spool, state, metrics, clock, .. } = &context;
    let mut progress_stored_at = Instant::now();
    let mut retried_at = Instant::now();
    loop {
        tokio::select! {
            () = sleep(HOUSEKEEPING_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        if retried_at.elapsed() >= UNREADABLE_RETRY_INTERVAL {
            retried_at = Instant::now();
            spool.retry_unreadable().await;
        }
        // One orphan per round: reading all of them could delay the reports below.
        recover_orphan(&context).await;
        for evicted in spool.take_evicted() {
            let (camera, start) = (&evicted.camera, evicted.start);
            metrics.count_discarded("spool_full");
            tracing::error!(camera, %start, "the spool is full: the oldest segment is lost");
            state.mark_lost(camera, GapCause::SpoolFull, start, evicted.end());
            state.set_last_error(camera, "the spool is full: the oldest segments are lost unconfirmed");
        }
        metrics.set_spool(spool.status());
        if let Some(lead) = clock.lead() {
            metrics.set_clock_offset(lead);
        }
        if progress_stored_at.elapsed() >= PROGRESS_INTERVAL {
            progress_stored_at = Instant::now();
            state.flush_progress();
        }
        persist_gaps_or_warn(state).await;
    }
}

/// Completes one orphaned file, and returns whether one existed.
async fn recover_orphan(RecorderContext { spool, state, .. }: &RecorderContext) -> bool {
    let outcome = spool.recover_orphan().await;
    if let Some(OrphanRecovery::Recovered(closed)) = &outcome {
        state.mark_recovered(&closed.camera, closed.end());
    }
    outcome.is_some()
}

async fn persist_gaps_or_warn(state: &RecorderState) {
    if let Err(error) = state.persist_gaps().await {
        tracing::warn!(error = %error.kind(), "gaps cannot be stored in the spool");
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
        bad.spawn(async { panic!("a failing service") });
        let (mut uploads, mut ended) = (tokio::spawn(pending()), tokio::spawn(async {}));
        let result = within_timeout(wait_for_shutdown(&shutdown, &mut bad, &mut uploads)).await;
        assert!(matches!(result, Err(RecorderError::Internal)), "{result:?}");
        let result = within_timeout(wait_for_shutdown(&shutdown, &mut fine, &mut ended)).await;
        assert!(matches!(result, Err(RecorderError::Internal)), "{result:?}");
        shutdown.cancel();
        within_timeout(wait_for_shutdown(&shutdown, &mut fine, &mut uploads)).await.unwrap();
    }
}
