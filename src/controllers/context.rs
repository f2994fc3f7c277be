//! Clients, configuration and shared state of every reconciler.

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use super::config::OperatorConfig;
use super::discard_log::DiscardLog;
use super::handoff::SiteHandoff;
use super::recorder_client::RecorderClient;
use super::rollout_turns::RolloutTurns;
use super::site::recorders::lagging::LaggingRecorders;
use super::site::recorders::unanswered::UnansweredQueries;
use super::watch_cache::WatchCache;
use crate::leader::fence::Fence;
use crate::leader::takeover::TakeoverDelay;
pub use crate::telemetry::metrics::{ControllerKind, OperatorTelemetry, ReconcileOutcome};

/// Name under which the operator reports events.
const REPORTING_CONTROLLER: &str = "toezicht.dev/operator";

/// Clients, configuration and shared state of a reconciler. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Client of the API server. Its writes pass the [`Fence`]: build it with [`crate::leader::client::fenced_client`].
    pub client: Client,
    /// What the watches have of the controllers' scope. Empty until the controllers start.
    pub cache: WatchCache,
    pub config: Arc<OperatorConfig>,
    /// Identity of this cluster in a bucket's ledger: the UID of the namespace kube-system unless configured.
    pub cluster_id: String,
    pub fence: Fence,
    pub events: Recorder,
    pub recorders: RecorderClient,
    pub handoff: SiteHandoff,
    /// Losses of recordings that the ledger does not have yet.
    pub discards: Arc<DiscardLog>,
    /// Turns of the Sites to replace their recorder pods.
    pub rollout_turns: Arc<RolloutTurns>,
    /// Queries that recorders on unreachable nodes did not answer.
    pub unanswered: Arc<UnansweredQueries>,
    /// Recorders that do not follow the latest configuration. The Site controller notes them, and the Camera controller reads them.
    pub lagging: Arc<LaggingRecorders>,
    /// Delay before this leader releases holds: a previous leader may have requests in progress.
    pub takeover_delay: TakeoverDelay,
    pub telemetry: Arc<OperatorTelemetry>,
}

impl Context {
    pub fn new(
        client: Client,
        config: OperatorConfig,
        cluster_id: String,
        fence: Fence,
        telemetry: Arc<OperatorTelemetry>,
        instance: Option<String>,
        takeover_delay: TakeoverDelay,
    ) -> Self {
        let reporter = Reporter { controller: REPORTING_CONTROLLER.to_owned(), instance };
        Self {
            events: Recorder::new(client.clone(), reporter),
            cache: WatchCache::new(&client, None).0,
            recorders: RecorderClient::default(),
            handoff: SiteHandoff::default(),
            discards: Arc::default(),
            rollout_turns: Arc::default(),
            unanswered: Arc::default(),
            lagging: Arc::default(),
            takeover_delay,
            client,
            config: Arc::new(config),
            cluster_id,
            fence,
            telemetry,
        }
    }
}
