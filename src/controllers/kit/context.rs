//! What every reconciler has at hand.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use super::aftermath::Aftermath;
use super::fence::Fence;
use crate::api::Site;
use crate::controllers::buckets::Buckets;
use crate::controllers::config::OperatorConfig;
use crate::controllers::recorders::Recorders;
use crate::storage::Aspect;

/// Name under which the operator reports events.
pub const REPORTER: &str = "toezicht.dev/operator";

/// What a reconciler has at hand. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server. Writes pass the [`Fence`]: build it with [`super::fence::FenceLayer`].
    pub client: Client,
    /// The operator's configuration file.
    pub config: Arc<OperatorConfig>,
    /// Identifies this cluster in a bucket's ledger: the UID of the namespace kube-system unless configured.
    pub cluster_id: String,
    /// Whether this replica may write.
    pub fence: Fence,
    /// Publishes events.
    pub events: Recorder,
    /// Asks recorders for their status.
    pub recorders: Recorders,
    /// The buckets that may be looked into.
    pub buckets: Buckets,
    /// Until it is over, a leader before this one may have requests under way, and no hold is released.
    pub aftermath: Aftermath,
    /// Counts what is done.
    pub hooks: Arc<dyn Hooks>,
}

impl Context {
    /// A context.
    pub fn new(
        client: Client,
        config: OperatorConfig,
        cluster_id: String,
        fence: Fence,
        hooks: Arc<dyn Hooks>,
        instance: Option<String>,
        aftermath: Aftermath,
    ) -> Self {
        let reporter = Reporter { controller: REPORTER.to_owned(), instance };
        Self {
            events: Recorder::new(client.clone(), reporter),
            recorders: Recorders::default(),
            buckets: Buckets::default(),
            aftermath,
            client,
            config: Arc::new(config),
            cluster_id,
            fence,
            hooks,
        }
    }

    /// Whether this replica may write now.
    pub fn is_leader(&self) -> bool {
        self.fence.holds()
    }
}

/// Kinds that have a controller: a bounded label for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum Kind {
    /// RecordingPolicy.
    RecordingPolicy,
    /// Site.
    Site,
    /// Camera.
    Camera,
    /// IncidentHold.
    IncidentHold,
    /// What is kept and deleted at a Site.
    Retention,
    /// Whether that is as it must be.
    Audit,
}

/// What a reconcile came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was in sync.
    Unchanged,
    /// Something was written.
    Changed,
    /// It failed, with the error's category.
    Failed(&'static str),
}

/// Where what is done is counted.
pub trait Hooks: Send + Sync {
    /// A reconcile ended.
    fn reconciled(&self, kind: Kind, outcome: Outcome, took: Duration);
    /// An object of this kind could not be read from its watch.
    fn unreadable(&self, kind: Kind);
    /// A controller of this kind begins; `census` lists the conditions of all its objects, at any time.
    fn watching(&self, _kind: Kind, _census: Census) {}
    /// The Site controller begins; `census` lists all its Sites, at any time.
    fn sites(&self, _census: SiteCensus) {}
    /// Something was changed at a Site's bucket, so many times: `protected`, `tagged`, `rescued`, `released`, `deleted`.
    fn retained(&self, _kind: &'static str, _count: u64) {}
    /// Somebody else had changed this, so many times, and it was put back.
    fn drifted(&self, _site: &Site, _what: Aspect, _count: u64) {}
    /// The API server lets us read this kind (in one scope, where there are several).
    fn read(&self, _kind: Kind) {}
}

/// Lists the conditions of all objects of a kind.
pub type Census = Box<dyn Fn() -> Vec<Condition> + Send + Sync>;

/// Lists all Sites.
pub type SiteCensus = Box<dyn Fn() -> Vec<Site> + Send + Sync>;

/// Counts nothing: for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn reconciled(&self, _: Kind, _: Outcome, _: Duration) {}
    fn unreadable(&self, _: Kind) {}
}
