//! What is counted, for Prometheus. Labels come from closed sets; names of resources are only among those of buckets.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use kube::ResourceExt;
use strum::VariantArray;

use super::bucket_metrics::BucketMetrics;
use crate::api::Site;
use crate::controllers::context::{ConditionLister, SiteLister};
use crate::storage::Subresource;
use crate::storage::s3::request_counts;

/// Seconds; a reconcile that only compares takes milliseconds, one that tries a bucket takes seconds.
const RECONCILE_DURATION_BUCKETS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Which controller, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

/// Which controller, and which kind of error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    controller: &'static str,
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    kind: &'static str,
    condition: String,
    status: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    operation: &'static str,
}

const RETENTION_CHANGES: [&str; 6] = ["protected", "tagged", "unhidden", "released", "retagged", "deleted"];

/// What somebody else had changed in buckets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabels {
    namespace: String,
    site: String,
    subresource: &'static str,
}

/// Which request to a store, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: String,
    outcome: &'static str,
}

pub struct OperatorMetrics {
    registry: Registry,
    leader: Gauge,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    errors: Family<ErrorLabels, Counter>,
    conditions: Family<ConditionLabels, Gauge>,
    changes: Family<ChangeLabels, Counter>,
    drift: Family<DriftLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    buckets: BucketMetrics,
    condition_listers: Mutex<Vec<(&'static str, ConditionLister)>>,
    site_listers: Mutex<Vec<SiteLister>>,
}

impl fmt::Debug for OperatorMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for OperatorMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl OperatorMetrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("toezicht");
        let leader = Gauge::default();
        let reconciles = Family::<ReconcileLabels, Counter>::default();
        let durations: Family<ControllerLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(RECONCILE_DURATION_BUCKETS));
        let errors = Family::<ErrorLabels, Counter>::default();
        let conditions = Family::<ConditionLabels, Gauge>::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the operator", build);
        registry.register("leader", "1 while this process is the leader", leader.clone());
        registry.register("reconciles", "Reconciles by result", reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of reconciles",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("reconcile_errors", "Failed reconciles by category of error", errors.clone());
        let text = "Resources by condition, status and reason; reported by the leader alone";
        registry.register("conditions", text, conditions.clone());
        let changes = Family::<ChangeLabels, Counter>::default();
        for operation in RETENTION_CHANGES {
            drop(changes.get_or_create(&ChangeLabels { operation }));
        }
        let text = "Changes of versions in buckets, by operation";
        registry.register("retention_changes", text, changes.clone());
        let drift = Family::<DriftLabels, Counter>::default();
        let text = "Changes by other parties that the operator corrected, in the bucket's configuration and in held versions";
        registry.register("drift_corrections", text, drift.clone());
        let requests = Family::<RequestLabels, Counter>::default();
        let text = "Attempts of requests to stores, by S3 operation and outcome";
        registry.register("s3_requests", text, requests.clone());
        let buckets = BucketMetrics::default();
        buckets.register(&mut registry);
        Self {
            registry,
            leader,
            reconciles,
            durations,
            errors,
            conditions,
            changes,
            drift,
            requests,
            buckets,
            condition_listers: Mutex::default(),
            site_listers: Mutex::default(),
        }
    }

    pub fn set_leader(&self, leading: bool) {
        self.leader.set(leading.into());
    }

    pub fn observe_reconcile(&self, controller: &'static str, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, result }).inc();
        self.durations.get_or_create(&ControllerLabels { controller }).observe(took.as_secs_f64());
    }

    pub fn count_error(&self, controller: &'static str, category: &'static str) {
        self.errors.get_or_create(&ErrorLabels { controller, category }).inc();
    }

    /// From now on the conditions of `kind` are counted by `census` too, whenever somebody asks.
    pub fn add_condition_lister(&self, kind: &'static str, census: ConditionLister) {
        self.condition_listers.lock().unwrap_or_else(PoisonError::into_inner).push((kind, census));
    }

    /// From now on `census` lists Sites too, whose buckets are told of whenever somebody asks.
    pub fn add_site_lister(&self, census: SiteLister) {
        self.site_listers.lock().unwrap_or_else(PoisonError::into_inner).push(census);
    }

    /// Something was changed in a bucket.
    pub fn count_retention_change(&self, operation: &'static str, count: u64) {
        if count > 0 {
            self.changes.get_or_create(&ChangeLabels { operation }).inc_by(count);
        }
    }

    /// Somebody else had changed this of a Site's bucket.
    pub fn count_drift(&self, site: &Site, what: Subresource, count: u64) {
        self.drift_counter(site, what).inc_by(count);
    }

    fn drift_counter(&self, site: &Site, what: Subresource) -> Counter {
        let labels = DriftLabels {
            namespace: site.namespace().unwrap_or_default(),
            site: site.name_any(),
            subresource: what.into(),
        };
        self.drift.get_or_create(&labels).clone()
    }

    /// An increase is seen of what was there before: all kinds, of each Site.
    fn initialize_drift(&self, sites: &[Site]) {
        for site in sites {
            for what in Subresource::VARIANTS {
                drop(self.drift_counter(site, *what));
            }
        }
    }

    /// Counted where the requests are made, for the whole process.
    fn update_requests(&self) {
        for ((operation, outcome), count) in request_counts::snapshot() {
            let counter = self.requests.get_or_create_owned(&RequestLabels { operation, outcome });
            counter.inner().store(count, Ordering::Relaxed);
        }
    }

    /// Counted when asked for, so that no count outlives what it counted.
    fn update_conditions(&self) {
        let censuses = self.condition_listers.lock().unwrap_or_else(PoisonError::into_inner);
        self.conditions.clear();
        for (kind, census) in censuses.iter() {
            for Condition { type_, status, reason, .. } in census() {
                self.conditions
                    .get_or_create(&ConditionLabels { kind, condition: type_, status, reason })
                    .inc();
            }
        }
    }

    /// Everything, as text in the format of `OpenMetrics`.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        self.update_conditions();
        self.update_requests();
        // Kept to the end: what is counted begins anew, and nobody else does so meanwhile.
        let censuses = self.site_listers.lock().unwrap_or_else(PoisonError::into_inner);
        let sites: Vec<_> = censuses.iter().flat_map(|census| census()).collect();
        self.initialize_drift(&sites);
        self.buckets.update(&sites);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_encoded_under_prometheus_names() {
        let metrics = OperatorMetrics::new();
        metrics.set_leader(true);
        metrics.observe_reconcile("site", "unchanged", Duration::from_millis(30));
        metrics.count_error("site", "storage");
        let text = metrics.encode().unwrap();
        for line in [
            "toezicht_leader 1",
            r#"toezicht_reconciles_total{controller="site",result="unchanged"} 1"#,
            r#"toezicht_reconcile_duration_seconds_count{controller="site"} 1"#,
            r#"toezicht_reconcile_errors_total{controller="site",category="storage"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
