//! What every reconciler has at hand.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use super::config::OperatorConfig;
use super::handoff::SiteHandoff;
use super::recorder_client::RecorderClient;
use crate::api::Site;
use crate::leader::fence::Fence;
use crate::leader::takeover::TakeoverDelay;
use crate::storage::Subresource;

/// Name under which the operator reports events.
pub const REPORTING_CONTROLLER: &str = "toezicht.dev/operator";

/// What a reconciler has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server. Writes pass the [`Fence`]: build it with [`crate::leader::fence::FenceLayer`].
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
    pub telemetry: Arc<dyn Telemetry>,
}

impl Context {
    pub fn new(
        client: Client,
        config: OperatorConfig,
        cluster_id: String,
        fence: Fence,
        telemetry: Arc<dyn Telemetry>,
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

/// Kinds that have a controller: a bounded label for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum ControllerKind {
    RecordingPolicy,
    Site,
    Camera,
    IncidentHold,
    /// What is kept and deleted at a Site.
    Retention,
    /// Whether that is as it must be.
    Audit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileOutcome {
    Unchanged,
    Changed,
    /// It failed, with the error's category.
    Failed(&'static str),
}

/// Where what is done is counted.
pub trait Telemetry: Send + Sync {
    fn record_reconcile(&self, kind: ControllerKind, outcome: ReconcileOutcome, took: Duration);
    /// An object of this kind could not be read from its watch.
    fn record_unreadable(&self, kind: ControllerKind);
    /// A controller of this kind begins; `census` lists the conditions of all its objects, at any time.
    fn register_condition_lister(&self, _kind: ControllerKind, _census: ConditionLister) {}
    /// The Site controller begins; `census` lists all its Sites, at any time.
    fn register_site_lister(&self, _census: SiteLister) {}
    /// Something was changed at a Site's bucket, so many times: `protected`, `tagged`, `unhidden`, `released`, `deleted`.
    fn record_retention_changes(&self, _kind: &'static str, _count: u64) {}
    /// Somebody else had changed this, so many times, and it was put back.
    fn record_drift(&self, _site: &Site, _what: Subresource, _count: u64) {}
    /// The API server lets us read this kind (in one scope, where there are several).
    fn mark_readable(&self, _kind: ControllerKind) {}
}

/// Lists the conditions of all objects of a kind.
pub type ConditionLister = Box<dyn Fn() -> Vec<Condition> + Send + Sync>;

pub type SiteLister = Box<dyn Fn() -> Vec<Site> + Send + Sync>;

/// Counts nothing: for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTelemetry;

impl Telemetry for NoTelemetry {
    fn record_reconcile(&self, _: ControllerKind, _: ReconcileOutcome, _: Duration) {}
    fn record_unreadable(&self, _: ControllerKind) {}
}
