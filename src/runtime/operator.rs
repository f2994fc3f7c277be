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

use super::client::{self, ClientError};
use super::hooks::OperatorHooks;
use super::http::{self, HttpError, Probes};
use super::lease::{Elector, LeaseLock, Lost, Timing};
use super::metrics::Metrics;
use super::readiness::{Gate, Readiness};
use super::shutdown;
use crate::api::{GROUP, VERSION};
use crate::controllers::buckets::Buckets;
use crate::controllers::config::{ConfigError, OperatorConfig};
use crate::controllers::kit::aftermath::{Aftermath, may_let_go};
use crate::controllers::kit::clock::{BootClock, Clock};
use crate::controllers::kit::context::Context;
use crate::controllers::kit::fence::Fence;
use crate::controllers::{self, ControllerEnded};
use crate::storage::hold::room::Budget;

/// How often the API server is asked for what is not there yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Reconciles under way get this long to finish after a signal; within the pod's grace period, and with time
/// left to let go of the lease.
const DRAIN: Duration = Duration::from_secs(25);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where probes and metrics are served.
    pub listen: SocketAddr,
    /// Namespace of the Lease; absent: that of the service account or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// Name of the Lease.
    pub lease_name: String,
    /// What this process calls itself in the Lease and in events, such as its pod's name.
    pub instance: String,
    /// How much memory this process may have, in bytes.
    pub memory_limit: u64,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    Lost(#[from] Lost),
    /// A controller ended by itself.
    #[error(transparent)]
    Controllers(#[from] ControllerEnded),
}

/// Runs until a signal, or until leadership is lost.
pub async fn run(options: Options) -> Result<(), OperatorError> {
    let stop = shutdown::on_signal().map_err(OperatorError::Signals)?;
    let config = OperatorConfig::load(&options.config)?;
    let identity = format!("{}_{:08x}", options.instance, rand::random::<u32>());
    let kubernetes = connection(&identity).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| kubernetes.default_namespace.clone());
    let plain = Client::try_from(kubernetes.clone()).map_err(|error| ClientError::Config(Box::new(error)))?;
    info!(version = env!("CARGO_PKG_VERSION"), %identity, %namespace, lease = %options.lease_name, "starting");

    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let fence = Fence::new(clock.clone());
    let lock = LeaseLock::new(plain.clone(), &namespace, &options.lease_name);
    let elector = Elector::new(lock, clock.clone(), fence.clone(), identity, Timing::default());
    let process = Process {
        stop,
        fence,
        readiness: Readiness::requiring([Gate::CustomResources, Gate::Election]),
        metrics: Arc::new(Metrics::new()),
        budget: Budget::of_process(options.memory_limit),
    };
    let probes = Probes {
        readiness: process.readiness.clone(),
        metrics: process.metrics.clone(),
        standing: elector.standing(),
        clock,
    };
    let listener = http::listen(options.listen).await?;
    let ended = CancellationToken::new();
    let probe_server = tokio::spawn(http::serve(listener, probes, ended.clone()));

    let outcome = process.stand(elector, &plain, &kubernetes, config, &options.instance).await;
    ended.cancel();
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
struct Process {
    stop: CancellationToken,
    fence: Fence,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    budget: Budget,
}

impl Process {
    /// Stands by, leads when it is this process's turn, and lets go.
    async fn stand(
        &self,
        mut elector: Elector<LeaseLock>,
        plain: &Client,
        kubernetes: &Config,
        config: OperatorConfig,
        instance: &str,
    ) -> Result<(), OperatorError> {
        let Some(cluster_id) = self.unless_stopped(prepare(plain, &config)).await else {
            return Ok(());
        };
        self.readiness.open(Gate::CustomResources);
        self.open_when_heard(&elector);
        if !elector.acquire(&self.stop).await {
            return Ok(());
        }

        self.metrics.set_leader(true);
        let scopes = config.watch_namespaces.len().max(1);
        let hooks = Arc::new(OperatorHooks::new(self.metrics.clone(), self.readiness.clone(), scopes));
        let client = client::fenced(kubernetes, &self.fence)?;
        let aftermath = Aftermath::begin(Arc::new(BootClock), elector.took_over());
        let buckets = Buckets::within(self.budget.clone());
        let context = Context {
            buckets: buckets.clone(),
            ..Context::new(
                client,
                config,
                cluster_id,
                self.fence.clone(),
                hooks,
                Some(instance.to_owned()),
                aftermath.clone(),
            )
        };
        let epoch = self.stop.child_token();
        let work = controllers::run(context, epoch.clone()).fuse();
        tokio::pin!(work);

        let outcome = tokio::select! {
            biased;
            lost = elector.keep() => Err(lost.into()),
            ended = &mut work => ended.map_err(OperatorError::from),
            () = self.stop.cancelled() => Ok(()),
        };
        epoch.cancel();
        self.readiness.shut(Gate::Running);
        if let Err(OperatorError::Lost(lost)) = outcome {
            // Nothing more can be written; whatever is under way is dropped with the process.
            self.metrics.set_leader(false);
            return Err(lost.into());
        }
        // The lease is kept while reconciles under way finish.
        let is_finished = tokio::select! {
            biased;
            lost = elector.keep(), if !work.is_terminated() => return Err(lost.into()),
            _ = &mut work, if !work.is_terminated() => true,
            () = tokio::time::sleep(DRAIN), if !work.is_terminated() => false,
            else => true,
        };
        if !is_finished {
            warn!("some reconciles did not finish in time");
        }
        if may_let_go(is_finished, aftermath.left().max(buckets.may_land())) {
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
    fn open_when_heard(&self, elector: &Elector<LeaseLock>) {
        let mut standing = elector.standing();
        let readiness = self.readiness.clone();
        tokio::spawn(async move {
            if standing.wait_for(|standing| standing.heard).await.is_ok() {
                readiness.open(Gate::Election);
            }
        });
    }
}

/// Waits for the four kinds, and finds out which cluster this is.
async fn prepare(client: &Client, config: &OperatorConfig) -> String {
    let mut told = None;
    loop {
        match missing(client, config).await {
            Ok(cluster_id) => return cluster_id,
            Err(what) => {
                if told.as_ref() != Some(&what) {
                    warn!(missing = %what, "waiting");
                    told = Some(what);
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The cluster's id, or what it still takes. The kinds are looked up in the API's discovery, which everybody
/// may read: definitions themselves are cluster-wide, and an operator of single namespaces may not.
async fn missing(client: &Client, config: &OperatorConfig) -> Result<String, String> {
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
