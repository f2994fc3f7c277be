//! `toezicht operator`: from the command line to controllers that run while this process leads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::hooks::OperatorTelemetry;
use super::shutdown;
use crate::api::{GROUP, VERSION};
use crate::controllers;
use crate::controllers::ControllerEnded;
use crate::controllers::config::{OperatorConfig, OperatorConfigError};
use crate::controllers::context::Context;
use crate::controllers::handoff::SiteHandoff;
use crate::leader::client::ClientError;
use crate::leader::clock::{BootClock, Clock};
use crate::leader::fence::Fence;
use crate::leader::takeover::{TakeoverDelay, may_release_lease};
use crate::leader::{ElectionTiming, Elector, LeadershipLost, LeaseLock, client};
use crate::storage::recordings::hold::memory_budget::MemoryBudget;
use crate::telemetry::http;
use crate::telemetry::http::{HttpError, ProbeState};
use crate::telemetry::metrics::OperatorMetrics;
use crate::telemetry::readiness::{Readiness, ReadinessGate};

/// How often the API server is asked for what is not there yet.
const PREREQUISITE_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Reconciles under way get this long to finish after a signal; within the pod's grace period, and with time
/// left to let go of the lease.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

#[derive(Clone, Debug)]
pub struct OperatorOptions {
    pub config: PathBuf,
    /// Where probes and metrics are served.
    pub listen: SocketAddr,
    /// Namespace of the Lease; absent: that of the service account or of the kubeconfig's context.
    pub namespace: Option<String>,
    pub lease_name: String,
    /// What this process calls itself in the Lease and in events, such as its pod's name.
    pub instance: String,
    /// How much memory this process may have, in bytes.
    pub memory_limit: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] OperatorConfigError),
    /// There is no way to the API server.
    #[error("no way to a Kubernetes API server: {0}")]
    Kubeconfig(#[from] kube::config::InferConfigError),
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Probes cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(#[source] std::io::Error),
    /// Another leads, or may lead. The process ends so that it starts anew as a standby.
    #[error(transparent)]
    LeadershipLost(#[from] LeadershipLost),
    #[error(transparent)]
    Controllers(#[from] ControllerEnded),
}

/// Runs until a signal, or until leadership is lost.
pub async fn run(options: OperatorOptions) -> Result<(), OperatorError> {
    let stop = shutdown::on_signal().map_err(OperatorError::Signals)?;
    let config = OperatorConfig::load(&options.config)?;
    let identity = format!("{}_{:08x}", options.instance, rand::random::<u32>());
    let kubernetes = connection(&identity).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| kubernetes.default_namespace.clone());
    let unfenced =
        Client::try_from(kubernetes.clone()).map_err(|error| ClientError::Config(Box::new(error)))?;
    info!(version = env!("CARGO_PKG_VERSION"), %identity, %namespace, lease = %options.lease_name, "starting");

    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let fence = Fence::new(clock.clone());
    let lock = LeaseLock::new(unfenced.clone(), &namespace, &options.lease_name);
    let elector = Elector::new(lock, clock.clone(), fence.clone(), identity, ElectionTiming::default());
    let process = OperatorProcess {
        stop,
        fence,
        readiness: Readiness::requiring([ReadinessGate::CustomResources, ReadinessGate::Election]),
        metrics: Arc::new(OperatorMetrics::new()),
        budget: MemoryBudget::of_process(options.memory_limit),
    };
    let probes = ProbeState {
        readiness: process.readiness.clone(),
        metrics: process.metrics.clone(),
        election: elector.state(),
        clock,
    };
    let listener = http::listen(options.listen).await?;
    let probe_stop = CancellationToken::new();
    let probe_server = tokio::spawn(http::serve(listener, probes, probe_stop.clone()));

    let outcome = process.run_candidate(elector, &unfenced, &kubernetes, config, &options.instance).await;
    probe_stop.cancel();
    match probe_server.await {
        Ok(served) => outcome.and(served.map_err(OperatorError::Http)),
        Err(_) => outcome,
    }
}

/// How to reach the API server. The identity is part of the user agent, so that the audit log tells which
/// process wrote what.
async fn connection(identity: &str) -> Result<Config, OperatorError> {
    let mut config = Config::infer().await?;
    let agent = format!("toezicht/{} {identity}", env!("CARGO_PKG_VERSION"));
    if let Ok(agent) = ::http::HeaderValue::from_str(&agent) {
        config.headers.push((::http::header::USER_AGENT, agent));
    }
    Ok(config)
}

/// What the parts of the process share.
struct OperatorProcess {
    stop: CancellationToken,
    fence: Fence,
    readiness: Readiness,
    metrics: Arc<OperatorMetrics>,
    budget: MemoryBudget,
}

impl OperatorProcess {
    /// Stands by, leads when it is this process's turn, and lets go.
    async fn run_candidate(
        &self,
        mut elector: Elector<LeaseLock>,
        unfenced: &Client,
        kubernetes: &Config,
        config: OperatorConfig,
        instance: &str,
    ) -> Result<(), OperatorError> {
        let Some(cluster_id) = self.unless_stopped(wait_for_prerequisites(unfenced, &config)).await else {
            return Ok(());
        };
        self.readiness.open(ReadinessGate::CustomResources);
        self.open_election_gate(&elector);
        if !elector.acquire(&self.stop).await {
            return Ok(());
        }

        self.metrics.set_leader(true);
        let scopes = config.watch_namespaces.len().max(1);
        let telemetry =
            Arc::new(OperatorTelemetry::new(self.metrics.clone(), self.readiness.clone(), scopes));
        let client = client::fenced_client(kubernetes, &self.fence)?;
        let aftermath = TakeoverDelay::begin(Arc::new(BootClock), elector.took_over());
        let buckets = SiteHandoff::with_budget(self.budget.clone());
        let context = Context {
            handoff: buckets.clone(),
            ..Context::new(
                client,
                config,
                cluster_id,
                self.fence.clone(),
                telemetry,
                Some(instance.to_owned()),
                aftermath.clone(),
            )
        };
        let epoch = self.stop.child_token();
        let work = controllers::run(context, epoch.clone()).fuse();
        tokio::pin!(work);

        let outcome = tokio::select! {
            biased;
            lost = elector.renew_until_lost() => Err(lost.into()),
            ended = &mut work => ended.map_err(OperatorError::from),
            () = self.stop.cancelled() => Ok(()),
        };
        epoch.cancel();
        self.readiness.close(ReadinessGate::Running);
        if let Err(OperatorError::LeadershipLost(lost)) = outcome {
            // Nothing more can be written; whatever is under way is dropped with the process.
            self.metrics.set_leader(false);
            return Err(lost.into());
        }
        // The lease is kept while reconciles under way finish.
        let is_finished = tokio::select! {
            biased;
            lost = elector.renew_until_lost(), if !work.is_terminated() => return Err(lost.into()),
            _ = &mut work, if !work.is_terminated() => true,
            () = tokio::time::sleep(DRAIN_TIMEOUT), if !work.is_terminated() => false,
            else => true,
        };
        if !is_finished {
            warn!("some reconciles did not finish in time");
        }
        if may_release_lease(is_finished, aftermath.remaining().max(buckets.in_doubt_for())) {
            elector.release().await;
        } else {
            info!("requests of before may still land: the lease runs out by itself");
            self.fence.close();
        }
        self.metrics.set_leader(false);
        outcome
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// A standby is ready once the API server has answered its elector.
    fn open_election_gate(&self, elector: &Elector<LeaseLock>) {
        let mut election = elector.state();
        let readiness = self.readiness.clone();
        tokio::spawn(async move {
            if election.wait_for(|election| election.has_reached_api).await.is_ok() {
                readiness.open(ReadinessGate::Election);
            }
        });
    }
}

/// Waits for the four kinds, and finds out which cluster this is.
async fn wait_for_prerequisites(client: &Client, config: &OperatorConfig) -> String {
    let mut reported = None;
    loop {
        match check_prerequisites(client, config).await {
            Ok(cluster_id) => return cluster_id,
            Err(what) => {
                if reported.as_ref() != Some(&what) {
                    warn!(missing = %what, "waiting");
                    reported = Some(what);
                }
            }
        }
        tokio::time::sleep(PREREQUISITE_POLL_INTERVAL).await;
    }
}

/// The cluster's id, or what it still takes. The kinds are looked up in the API's discovery, which everybody
/// may read: definitions themselves are cluster-wide, and an operator of single namespaces may not.
async fn check_prerequisites(client: &Client, config: &OperatorConfig) -> Result<String, String> {
    let served = match client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(kube::Error::Api(status)) => return Err(format!("the API server answers {}", status.code)),
        Err(_) => return Err("the API server does not answer".into()),
    };
    let absent: Vec<&str> = ["recordingpolicies", "sites", "cameras", "incidentholds"]
        .into_iter()
        .filter(|plural| !served.iter().any(|name| name == plural))
        .collect();
    if !absent.is_empty() {
        return Err(format!("the custom resources {} of {GROUP}/{VERSION}", absent.join(", ")));
    }
    if let Some(configured) = &config.cluster_id {
        return Ok(configured.clone());
    }
    let namespace = Api::<Namespace>::all(client.clone()).get("kube-system").await;
    namespace
        .ok()
        .and_then(|namespace| namespace.uid())
        .ok_or_else(|| "leave to get the namespace kube-system (or set clusterId)".to_owned())
}
