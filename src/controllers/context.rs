//! What every reconciler has at hand.

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use super::config::OperatorConfig;
use super::handoff::SiteHandoff;
use super::recorder_client::RecorderClient;
use crate::leader::fence::Fence;
use crate::leader::takeover::TakeoverDelay;
pub use crate::telemetry::metrics::{ControllerKind, OperatorTelemetry, ReconcileOutcome};

/// Name under which the operator reports events.
pub const REPORTING_CONTROLLER: &str = "toezicht.dev/operator";

/// What a reconciler has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server. Writes pass the [`Fence`]: [`crate::leader::client::fenced_client`] builds it.
    pub client: Client,
    pub config: Arc<OperatorConfig>,
    /// Identifies this cluster in a bucket's ledger: the UID of the namespace kube-system unless configured.
    pub cluster_id: String,
    pub fence: Fence,
    pub events: Recorder,
    pub recorders: RecorderClient,
    /// The buckets that may be looked into.
    pub handoff: SiteHandoff,
    /// Until it is over, a leader before this one may have requests under way, and no hold is released.
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
            recorders: RecorderClient::default(),
            handoff: SiteHandoff::default(),
            takeover_delay,
            client,
            config: Arc::new(config),
            cluster_id,
            fence,
            telemetry,
        }
    }

    /// Whether this replica may write now.
    pub fn is_leader(&self) -> bool {
        self.fence.is_open()
    }
}
