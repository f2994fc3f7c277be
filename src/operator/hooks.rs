//! Where controllers' reports arrive: metrics and readiness.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::Site;
use crate::controllers::context::{ConditionLister, ControllerKind, ReconcileOutcome, SiteLister, Telemetry};
use crate::storage::Subresource;
use crate::telemetry::metrics::OperatorMetrics;
use crate::telemetry::readiness::{Readiness, ReadinessGate};

/// Counts what controllers do, and opens the gate of a kind when it can be read.
pub struct OperatorTelemetry {
    metrics: Arc<OperatorMetrics>,
    readiness: Readiness,
    unread_scopes: Mutex<HashMap<ControllerKind, usize>>,
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
        ControllerKind::Site | ControllerKind::Retention | ControllerKind::Audit => ReadinessGate::Sites,
        ControllerKind::Camera => ReadinessGate::Cameras,
        ControllerKind::IncidentHold => ReadinessGate::Holds,
    }
}

impl OperatorTelemetry {
    /// Telemetry for controllers that each watch `scopes` scopes: one per namespace, or one for all. From now on
    /// the process is ready only when each kind can be read in each scope.
    pub fn new(metrics: Arc<OperatorMetrics>, readiness: Readiness, scopes: usize) -> Self {
        readiness.require(WATCHED_KINDS.map(readiness_gate));
        let unread = Mutex::new(WATCHED_KINDS.into_iter().map(|kind| (kind, scopes)).collect());
        Self { metrics, readiness, unread_scopes: unread }
    }
}

impl Telemetry for OperatorTelemetry {
    fn record_reconcile(&self, kind: ControllerKind, outcome: ReconcileOutcome, took: Duration) {
        let name = match outcome {
            ReconcileOutcome::Unchanged => "unchanged",
            ReconcileOutcome::Changed => "changed",
            ReconcileOutcome::Failed(_) => "failed",
        };
        self.metrics.observe_reconcile(kind.into(), name, took);
        if let ReconcileOutcome::Failed(category) = outcome {
            self.metrics.count_error(kind.into(), category);
        }
    }

    fn record_unreadable(&self, kind: ControllerKind) {
        self.metrics.count_error(kind.into(), "unreadable");
    }

    fn register_condition_lister(&self, kind: ControllerKind, census: ConditionLister) {
        self.metrics.add_condition_lister(kind.into(), census);
    }

    fn register_site_lister(&self, census: SiteLister) {
        self.metrics.add_site_lister(census);
    }

    fn record_retention_changes(&self, kind: &'static str, count: u64) {
        self.metrics.count_retention_change(kind, count);
    }

    fn record_drift(&self, site: &Site, what: Subresource, count: u64) {
        self.metrics.count_drift(site, what, count);
    }

    fn mark_readable(&self, kind: ControllerKind) {
        let mut unread = self.unread_scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let left = unread.entry(kind).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.readiness.open(readiness_gate(kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_ready_once_readable_in_every_scope() {
        let readiness = Readiness::default();
        let telemetry = OperatorTelemetry::new(Arc::new(OperatorMetrics::new()), readiness.clone(), 2);
        for kind in WATCHED_KINDS {
            telemetry.mark_readable(kind);
        }
        assert_eq!(readiness.missing().len(), 4);
        telemetry.mark_readable(ControllerKind::Site);
        assert_eq!(
            readiness.missing(),
            [ReadinessGate::Policies, ReadinessGate::Cameras, ReadinessGate::Holds]
        );
    }

    #[test]
    fn failure_is_counted_by_outcome_and_by_category() {
        let metrics = Arc::new(OperatorMetrics::new());
        let telemetry = OperatorTelemetry::new(metrics.clone(), Readiness::default(), 1);
        telemetry.record_reconcile(
            ControllerKind::Camera,
            ReconcileOutcome::Failed("api_conflict"),
            Duration::from_millis(2),
        );
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"toezicht_reconciles_total{controller="Camera",result="failed"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(
                r#"toezicht_reconcile_errors_total{controller="Camera",category="api_conflict"} 1"#
            ),
            "{text}"
        );
    }
}
