//! `toezicht operator`: runs the controllers while this process leads.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, Config, ResourceExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::shutdown;
use crate::api::{GROUP, IncidentHold, VERSION};
use crate::controllers;
use crate::controllers::WorkEnded;
use crate::controllers::config::{OperatorConfig, OperatorConfigError};
use crate::controllers::context::Context;
use crate::controllers::handoff::SiteHandoff;
use crate::leader::clock::{BootClock, Clock};
use crate::leader::fence::Fence;
use crate::leader::takeover::{TakeoverDelay, may_release_lease};
use crate::leader::{Elector, LeadershipLost, LeaseLock, client};
use crate::storage::recordings::hold::memory_budget::MemoryBudget;
use crate::telemetry::metrics::OperatorTelemetry;
use crate::telemetry::probes;
use crate::telemetry::probes::Probes;
use crate::telemetry::readiness::ReadinessGate;
use crate::telemetry::serve::serve;

/// Interval at which a standby checks again for missing prerequisites.
const PREREQUISITE_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Time for one check of the prerequisites: the API server may accept the connection and answer nothing.
const PREREQUISITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for reconciles to finish after a signal. It is within the pod's grace period, with time left to release the
/// Lease.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

// A doc comment here would replace the help of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct OperatorOptions {
    /// Configuration file with grants, ceilings and the recorder image.
    #[arg(long, value_name = "FILE", default_value = "/etc/toezicht/operator.yaml")]
    pub config: PathBuf,
    /// Address and port of /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Namespace of the Lease [default: namespace of the service account or of the kubeconfig's context].
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease for leader election.
    #[arg(long, value_name = "NAME", default_value = "toezicht")]
    pub lease_name: String,
    /// Name of this process in the Lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub instance: String,
    /// Memory limit of this process in bytes. The cache of held versions uses at most half of it.
    #[arg(long, value_name = "BYTES", env = "MEMORY_LIMIT", default_value_t = 512 << 20)]
    pub memory_limit: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    Config(#[from] OperatorConfigError),
    #[error("no configuration of a Kubernetes client: {0}")]
    Kubeconfig(#[from] kube::config::InferConfigError),
    /// The kubeconfig or the service account is unusable.
    #[error("the connection to Kubernetes cannot be set up: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("signals cannot be received: {0}")]
    Signals(#[source] io::Error),
    /// Another process leads, or may lead. This process ends, so that it restarts as a standby.
    #[error(transparent)]
    LeadershipLost(#[from] LeadershipLost),
    #[error(transparent)]
    WorkEnded(#[from] WorkEnded),
}

fn client_error(error: kube::Error) -> OperatorError {
    OperatorError::Client(Box::new(error))
}

/// Runs until a signal, or until leadership is lost.
pub async fn run(options: OperatorOptions) -> Result<(), OperatorError> {
    let stop = shutdown::on_signal().map_err(OperatorError::Signals)?;
    let config = OperatorConfig::load(&options.config)?;
    // The random part distinguishes a restarted container from its previous process, whose Lease it must not renew.
    let identity = format!("{}_{:08x}", options.instance, rand::random::<u32>());
    let kubernetes = connection(&identity).await?;
    let namespace = options.lease_namespace.clone().unwrap_or_else(|| kubernetes.default_namespace.clone());
    let unfenced = Client::try_from(kubernetes.clone()).map_err(client_error)?;
    info!(version = env!("CARGO_PKG_VERSION"), %identity, %namespace, lease = %options.lease_name, "starting");

    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let fence = Fence::new(clock.clone());
    let lock = LeaseLock::new(unfenced.clone(), &namespace, &options.lease_name);
    let elector = Elector::new(lock, clock.clone(), fence.clone(), identity);
    let process = OperatorProcess {
        stop,
        fence,
        telemetry: Arc::default(),
        budget: MemoryBudget::of_process(options.memory_limit),
        instance: options.instance,
    };
    let probes = Probes { telemetry: process.telemetry.clone(), election: elector.state(), clock };
    let address = options.listen;
    // Bound before the election, so that a port in use is an error at the start.
    let listener =
        TcpListener::bind(address).await.map_err(|source| OperatorError::Listen { address, source })?;
    let probe_stop = CancellationToken::new();
    let _probe_guard = probe_stop.clone().drop_guard();
    tokio::spawn(serve(listener, probes::router(probes), probe_stop));

    process.run_candidate(elector, &unfenced, &kubernetes, config).await
}

/// Returns how to reach the API server. The user agent contains the identity, so that the audit log shows which process
/// wrote an object.
async fn connection(identity: &str) -> Result<Config, OperatorError> {
    let mut config = Config::infer().await?;
    let agent = format!("toezicht/{} {identity}", env!("CARGO_PKG_VERSION"));
    if let Ok(agent) = http::HeaderValue::from_str(&agent) {
        config.headers.push((http::header::USER_AGENT, agent));
    }
    Ok(config)
}

/// State that the parts of the process share.
struct OperatorProcess {
    stop: CancellationToken,
    fence: Fence,
    telemetry: Arc<OperatorTelemetry>,
    budget: MemoryBudget,
    instance: String,
}

impl OperatorProcess {
    /// Stands by, leads once elected, and releases leadership at the end.
    async fn run_candidate(
        &self,
        mut elector: Elector<LeaseLock>,
        unfenced: &Client,
        kubernetes: &Config,
        config: OperatorConfig,
    ) -> Result<(), OperatorError> {
        let Some(cluster_id) = self.unless_stopped(wait_for_prerequisites(unfenced, &config)).await else {
            return Ok(());
        };
        self.telemetry.readiness.open(ReadinessGate::CustomResources);
        self.open_election_gate(&elector);
        if !elector.acquire(&self.stop).await {
            return Ok(());
        }
        self.telemetry.begin_leading(config.watch_namespaces.len().max(1));
        let client = client::fenced_client(kubernetes, &self.fence).map_err(client_error)?;
        let takeover_delay = TakeoverDelay::begin(Arc::new(BootClock), elector.took_over());
        let context = Context {
            handoff: SiteHandoff::with_budget(self.budget.clone()),
            ..Context::new(
                client,
                config,
                cluster_id,
                self.fence.clone(),
                self.telemetry.clone(),
                Some(self.instance.clone()),
                takeover_delay,
            )
        };
        let outcome = self.lead(&mut elector, context).await;
        self.telemetry.end_leading();
        outcome
    }

    /// Runs the controllers until a signal or the end of leadership. After a signal, lets them finish.
    async fn lead(&self, elector: &mut Elector<LeaseLock>, context: Context) -> Result<(), OperatorError> {
        let (handoff, takeover_delay) = (context.handoff.clone(), context.takeover_delay.clone());
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
        self.telemetry.readiness.close(ReadinessGate::Running);
        if let Err(OperatorError::LeadershipLost(_)) = outcome {
            // The fence is closed, so unfinished reconciles end with the process and write nothing.
            return outcome;
        }
        // The Lease is renewed while reconciles finish: without it, another operator would write beside them.
        let is_finished = tokio::select! {
            biased;
            lost = elector.renew_until_lost(), if !work.is_terminated() => return Err(lost.into()),
            // One that ended by an error was dropped amid its requests.
            ended = &mut work, if !work.is_terminated() => ended.is_ok(),
            () = tokio::time::sleep(DRAIN_TIMEOUT), if !work.is_terminated() => false,
            // The controllers ended on their own: every other branch is off.
            else => true,
        };
        if !is_finished {
            warn!("some reconciles did not finish in time");
        }
        // Work that ended by an error was dropped amid its requests.
        let is_finished = is_finished && outcome.is_ok();
        if may_release_lease(is_finished, takeover_delay.remaining().max(handoff.in_doubt_for())) {
            elector.release().await;
        } else {
            info!("earlier requests may still land: the Lease expires without a release");
            self.fence.close();
        }
        outcome
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Makes a standby ready once the API server has answered its elector.
    fn open_election_gate(&self, elector: &Elector<LeaseLock>) {
        let mut election = elector.state();
        let telemetry = self.telemetry.clone();
        tokio::spawn(async move {
            if election.wait_for(|election| election.has_reached_api).await.is_ok() {
                telemetry.readiness.open(ReadinessGate::Election);
            }
        });
    }
}

/// Waits for the four kinds, and returns the cluster's id.
async fn wait_for_prerequisites(client: &Client, config: &OperatorConfig) -> String {
    let mut reported = None;
    loop {
        let check = tokio::time::timeout(PREREQUISITE_TIMEOUT, check_prerequisites(client, config)).await;
        match check.unwrap_or_else(|_| Err("an answer of the API server".into())) {
            Ok(cluster_id) => return cluster_id,
            Err(missing) => {
                if reported.as_ref() != Some(&missing) {
                    warn!(%missing, "waiting");
                    reported = Some(missing);
                }
            }
        }
        tokio::time::sleep(PREREQUISITE_POLL_INTERVAL).await;
    }
}

/// Checks that the API server selects holds by their Site. One without selectable fields of custom resources answers 400, and no
/// hold would be placed or released.
async fn check_selectable_fields(client: &Client, namespace: Option<&str>) -> Result<(), String> {
    let api: Api<IncidentHold> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let none = ListParams::default().fields("spec.siteRef.name=-").limit(1);
    match api.list_metadata(&none).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 400 => Err(
            "an API server that selects IncidentHolds by spec.siteRef.name (Kubernetes 1.32 or newer, with the definitions of this version)"
                .into(),
        ),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Err("permission to list incidentholds".into())
        }
        Err(_) => Err("an answer of the API server to a list of incidentholds".into()),
    }
}

/// Returns the cluster's id, or the missing prerequisite. It looks the kinds up in the API's discovery, which every
/// account may read. Their definitions are cluster-wide, so an operator of single namespaces may not read them.
async fn check_prerequisites(client: &Client, config: &OperatorConfig) -> Result<String, String> {
    let served = match client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(kube::Error::Api(status)) => {
            return Err(format!("a usable answer of the API server (it answered {})", status.code));
        }
        Err(_) => return Err("an answer of the API server".into()),
    };
    let absent: Vec<&str> = ["recordingpolicies", "sites", "cameras", "incidentholds"]
        .into_iter()
        .filter(|plural| !served.iter().any(|name| name == plural))
        .collect();
    if !absent.is_empty() {
        return Err(format!("the custom resources {} of {GROUP}/{VERSION}", absent.join(", ")));
    }
    let scopes: Vec<Option<&String>> = match config.watch_namespaces.as_slice() {
        [] => vec![None],
        namespaces => namespaces.iter().map(Some).collect(),
    };
    for scope in scopes {
        check_selectable_fields(client, scope.map(String::as_str)).await?;
    }
    if let Some(configured) = &config.cluster_id {
        return Ok(configured.clone());
    }
    let namespace = Api::<Namespace>::all(client.clone()).get("kube-system").await;
    namespace
        .ok()
        .and_then(|namespace| namespace.uid())
        .ok_or_else(|| "permission to get the namespace kube-system (or set clusterId)".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing;

    /// Answers as an API server that gives a list with a field selector this status code.
    fn api_server(code_of_selection: u16) -> Client {
        testing::api_server(move |_, uri, _| {
            let kinds = ["recordingpolicies", "sites", "cameras", "incidentholds"];
            let kinds = kinds.map(|name| json!({"name": name, "kind": "K", "namespaced": true, "singularName": "", "verbs": []}));
            let is_selection =
                uri.query().is_some_and(|query| query.contains("fieldSelector=spec.siteRef.name"));
            match uri.path().rsplit('/').next().unwrap() {
                "v1alpha1" => (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "toezicht.dev/v1alpha1", "resources": kinds}),
                ),
                "incidentholds" if is_selection && code_of_selection == 200 => testing::list_response(&[]),
                "incidentholds" => testing::error_response(code_of_selection, &json!({})),
                _ => (
                    200,
                    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-system", "uid": "u-1"}}),
                ),
            }
        })
    }

    /// An API server without selectable fields of custom resources answers 400: Kubernetes before 1.30, or before 1.31 by default.
    #[tokio::test]
    async fn api_server_that_is_too_old_is_named() {
        let config = OperatorConfig::parse(r#"{"recorderImage": "i"}"#).unwrap();
        let check = async |code| check_prerequisites(&api_server(code), &config).await;
        assert_eq!(check(200).await, Ok("u-1".to_owned()));
        let too_old = check(400).await.unwrap_err();
        assert!(too_old.contains("Kubernetes 1.32 or newer"), "{too_old}");
        assert_eq!(check(403).await, Err("permission to list incidentholds".to_owned()));
    }
}
