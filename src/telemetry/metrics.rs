//! The operator's metrics for Prometheus, and its readiness. Labels have values from closed sets. Only metrics of buckets
//! and cameras name resources.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use strum::VariantArray;

use super::bucket_metrics;
use super::bucket_metrics::{Labels, labels};
use super::readiness::{Readiness, ReadinessGate};
use crate::api::Site;
use crate::storage::Subresource;
use crate::storage::s3::request_counts;
use crate::sync::lock;

const PREFIX: &str = "toezicht";
/// Seconds: a reconcile that only compares takes milliseconds, one that tests a bucket takes seconds.
const RECONCILE_DURATION_BUCKETS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
const RETENTION_CHANGES: [&str; 6] = ["protected", "tagged", "unhidden", "released", "retagged", "deleted"];

/// A controller, as a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum ControllerKind {
    RecordingPolicy,
    Site,
    Camera,
    IncidentHold,
    /// Holds and deletions of a Site's bucket.
    Retention,
    /// Audits of a Site's bucket.
    Audit,
    /// Recorders that are left although their Site is gone.
    OrphanedRecorders,
}

const WATCHED_KINDS: [ControllerKind; 4] = [
    ControllerKind::RecordingPolicy,
    ControllerKind::Site,
    ControllerKind::Camera,
    ControllerKind::IncidentHold,
];

const fn readiness_gate(kind: ControllerKind) -> ReadinessGate {
    match kind {
        ControllerKind::RecordingPolicy => ReadinessGate::Policies,
        ControllerKind::Site
        | ControllerKind::Retention
        | ControllerKind::Audit
        | ControllerKind::OrphanedRecorders => ReadinessGate::Sites,
        ControllerKind::Camera => ReadinessGate::Cameras,
        ControllerKind::IncidentHold => ReadinessGate::Holds,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileOutcome {
    Unchanged,
    Changed,
    /// Failed, with the error's category.
    Failed(&'static str),
}

/// Passes each condition of all objects of a kind. A list of them would be as large as the objects.
pub type ConditionLister = Box<dyn Fn(&mut dyn FnMut(&Condition)) + Send + Sync>;

pub type SiteLister = Box<dyn Fn() -> Vec<Arc<DeserializeGuard<Site>>> + Send + Sync>;

/// Newest segment of a camera that the store confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSegment {
    pub namespace: String,
    pub site: String,
    pub camera: String,
    pub end: Timestamp,
}

pub type SegmentLister = Box<dyn Fn() -> Vec<CameraSegment> + Send + Sync>;

pub struct OperatorTelemetry {
    pub readiness: Readiness,
    /// Metrics that last as long as the process. [`Self::encode`] computes the others at each scrape, so that none
    /// outlives its resource.
    registry: Registry,
    leader: Gauge,
    reconciles: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    errors: Family<Labels, Counter>,
    changes: Family<Labels, Counter>,
    drift: Family<Labels, Counter>,
    orphaned_recorders: Family<Labels, Gauge>,
    condition_listers: Mutex<Vec<(ControllerKind, ConditionLister)>>,
    site_listers: Mutex<Vec<SiteLister>>,
    segment_listers: Mutex<Vec<SegmentLister>>,
}

impl Default for OperatorTelemetry {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let leader = Gauge::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the operator", build);
        registry.register("leader", "1 while this process is the leader", leader.clone());
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(RECONCILE_DURATION_BUCKETS));
        let help = "Duration of reconciles";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, durations.clone());
        let mut counter = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let reconciles = counter("reconciles", "Reconciles by result");
        let errors = counter("reconcile_errors", "Failed reconciles by category of error");
        let changes = counter("retention_changes", "Changes of versions in buckets, by operation");
        let help = "Changes by other parties that the operator corrected, in the bucket's configuration and in held versions";
        let drift = counter("drift_corrections", help);
        // A counter must exist before it first counts, or Prometheus misses its first increase.
        for operation in RETENTION_CHANGES {
            drop(changes.get_or_create(&labels([("operation", operation)])));
        }
        let orphaned_recorders = Family::<Labels, Gauge>::default();
        let help = "1 for recorders whose Site is gone although nothing removed them";
        registry.register("orphaned_recorders", help, orphaned_recorders.clone());
        let readiness = Readiness::default();
        readiness.require(ReadinessGate::CustomResources, 1);
        readiness.require(ReadinessGate::Election, 1);
        Self {
            readiness,
            registry,
            leader,
            reconciles,
            durations,
            errors,
            changes,
            drift,
            orphaned_recorders,
            condition_listers: Mutex::default(),
            site_listers: Mutex::default(),
            segment_listers: Mutex::default(),
        }
    }
}

impl OperatorTelemetry {
    /// Notes that this process leads. It is ready once it has read each kind in each of `scopes` scopes: one per
    /// namespace, or one for all namespaces.
    pub fn begin_leading(&self, scopes: usize) {
        self.leader.set(1);
        for kind in WATCHED_KINDS {
            self.readiness.require(readiness_gate(kind), scopes);
        }
    }

    pub fn end_leading(&self) {
        self.leader.set(0);
    }

    /// Notes that the API server lets this process read a kind in one scope.
    pub fn mark_readable(&self, kind: ControllerKind) {
        self.readiness.open(readiness_gate(kind));
    }

    pub fn record_reconcile(&self, kind: ControllerKind, outcome: ReconcileOutcome, took: Duration) {
        let controller: &str = kind.into();
        let result = match outcome {
            ReconcileOutcome::Unchanged => "unchanged",
            ReconcileOutcome::Changed => "changed",
            ReconcileOutcome::Failed(category) => {
                self.count_error(kind, category);
                "failed"
            }
        };
        self.reconciles.get_or_create(&labels([("controller", controller), ("result", result)])).inc();
        self.durations.get_or_create(&labels([("controller", controller)])).observe(took.as_secs_f64());
    }

    /// Counts an object of this kind that its controller could not deserialize.
    pub fn record_unreadable(&self, kind: ControllerKind) {
        self.count_error(kind, "unreadable");
    }

    fn count_error(&self, kind: ControllerKind, category: &str) {
        let labels = labels([("controller", kind.into()), ("category", category)]);
        self.errors.get_or_create(&labels).inc();
    }

    /// Adds a source of conditions, which each scrape reads.
    pub fn register_condition_lister(&self, kind: ControllerKind, lister: ConditionLister) {
        lock(&self.condition_listers).push((kind, lister));
    }

    /// Adds a source of Sites, which each scrape reads.
    pub fn register_site_lister(&self, lister: SiteLister) {
        lock(&self.site_listers).push(lister);
    }

    /// Adds a source of the cameras' newest segments, which each scrape reads.
    pub fn register_segment_lister(&self, lister: SegmentLister) {
        lock(&self.segment_listers).push(lister);
    }

    /// Counts changes of versions in a Site's bucket, by one of [`RETENTION_CHANGES`].
    pub fn record_retention_changes(&self, operation: &'static str, count: u64) {
        if count > 0 {
            self.changes.get_or_create(&labels([("operation", operation)])).inc_by(count);
        }
    }

    /// Counts changes by other parties that the operator corrected.
    pub fn record_drift(&self, site: &Site, subresource: Subresource, count: u64) {
        let (namespace, name) = (site.namespace().unwrap_or_default(), site.name_any());
        let labels =
            labels([("namespace", &namespace), ("site", &name), ("subresource", subresource.into())]);
        self.drift.get_or_create(&labels).inc_by(count);
    }

    /// Notes whether the recorders of a Site are left although it is gone.
    pub fn set_orphaned(&self, namespace: &str, site: &str, is_orphaned: bool) {
        let labels = labels([("namespace", namespace), ("site", site)]);
        if is_orphaned {
            self.orphaned_recorders.get_or_create(&labels).set(1);
        } else {
            self.orphaned_recorders.remove(&labels);
        }
    }

    fn conditions(&self) -> Family<Labels, Gauge> {
        let conditions = Family::<Labels, Gauge>::default();
        for (kind, lister) in lock(&self.condition_listers).iter() {
            let kind = (*kind).into();
            lister(&mut |Condition { type_, status, reason, .. }| {
                let labels =
                    labels([("kind", kind), ("condition", type_), ("status", status), ("reason", reason)]);
                conditions.get_or_create(&labels).inc();
            });
        }
        conditions
    }

    /// Encodes all metrics as text in the format of `OpenMetrics`.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let listed: Vec<_> = lock(&self.site_listers).iter().flat_map(|lister| lister()).collect();
        let sites: Vec<&Site> = listed.iter().filter_map(|site| site.0.as_ref().ok()).collect();
        // As for the changes above: each counter exists before it first counts.
        for site in &sites {
            for subresource in Subresource::VARIANTS {
                self.record_drift(site, *subresource, 0);
            }
        }
        let mut computed = Registry::with_prefix(PREFIX);
        let help = "Resources by condition, status and reason; reported by the leader alone";
        computed.register("conditions", help, self.conditions());
        let last_segments = Family::<Labels, Gauge>::default();
        for CameraSegment { namespace, site, camera, end } in
            lock(&self.segment_listers).iter().flat_map(|lister| lister())
        {
            let labels = labels([("namespace", &namespace), ("site", &site), ("camera", &camera)]);
            last_segments.get_or_create(&labels).set(end.as_second());
        }
        let help = "End of the newest segment that the store confirmed, as the recorder reported it within 15 seconds";
        computed.register_with_unit("camera_last_segment_timestamp", help, Unit::Seconds, last_segments);
        let requests = Family::<Labels, Counter>::default();
        for ((operation, outcome), count) in request_counts::snapshot() {
            let labels = labels([("operation", &operation), ("outcome", outcome)]);
            requests.get_or_create(&labels).inc_by(count);
        }
        let help = "Attempts of requests to stores, by S3 operation and outcome";
        computed.register("s3_requests", help, requests);
        bucket_metrics::register(&mut computed, &sites);
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &computed)?;
        // Once, since a scraper stops at the first `# EOF`.
        encode_eof(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_encoded_under_prometheus_names() {
        let telemetry = OperatorTelemetry::default();
        telemetry.begin_leading(1);
        let (site, camera) = (ControllerKind::Site, ControllerKind::Camera);
        telemetry.record_reconcile(site, ReconcileOutcome::Unchanged, Duration::from_millis(30));
        telemetry.record_unreadable(site);
        telemetry.record_reconcile(
            camera,
            ReconcileOutcome::Failed("api_conflict"),
            Duration::from_millis(2),
        );
        let segment = CameraSegment {
            namespace: "n".into(),
            site: "s".into(),
            camera: "hal".into(),
            end: Timestamp::from_second(1_790_000_000).unwrap(),
        };
        telemetry.register_segment_lister(Box::new(move || vec![segment.clone()]));
        let text = telemetry.encode().unwrap();
        for line in [
            r#"toezicht_camera_last_segment_timestamp_seconds{namespace="n",site="s",camera="hal"} 1790000000"#,
            "toezicht_leader 1",
            r#"toezicht_reconciles_total{controller="Site",result="unchanged"} 1"#,
            r#"toezicht_reconcile_duration_seconds_count{controller="Site"} 1"#,
            r#"toezicht_reconcile_errors_total{controller="Site",category="unreadable"} 1"#,
            r#"toezicht_reconciles_total{controller="Camera",result="failed"} 1"#,
            r#"toezicht_reconcile_errors_total{controller="Camera",category="api_conflict"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn kind_is_ready_once_readable_in_every_scope() {
        let telemetry = OperatorTelemetry::default();
        telemetry.readiness.open(ReadinessGate::CustomResources);
        telemetry.readiness.open(ReadinessGate::Election);
        telemetry.begin_leading(2);
        for kind in WATCHED_KINDS {
            telemetry.mark_readable(kind);
        }
        assert_eq!(telemetry.readiness.missing().len(), 4);
        telemetry.mark_readable(ControllerKind::Site);
        assert_eq!(
            telemetry.readiness.missing(),
            [ReadinessGate::Policies, ReadinessGate::Cameras, ReadinessGate::Holds]
        );
    }
}
