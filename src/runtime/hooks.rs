//! Where controllers' reports arrive: metrics and readiness.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::metrics::Metrics;
use super::readiness::{Gate, Readiness};
use crate::api::Site;
use crate::controllers::kit::context::{Census, Hooks, Kind, Outcome, SiteCensus};
use crate::storage::Aspect;

/// Counts what controllers do, and opens the gate of a kind when it can be read.
pub struct OperatorHooks {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    unread: Mutex<HashMap<Kind, usize>>,
}

const KINDS: [Kind; 4] = [Kind::RecordingPolicy, Kind::Site, Kind::Camera, Kind::IncidentHold];

const fn gate(kind: Kind) -> Gate {
    match kind {
        Kind::RecordingPolicy => Gate::Policies,
        Kind::Site | Kind::Retention | Kind::Audit => Gate::Sites,
        Kind::Camera => Gate::Cameras,
        Kind::IncidentHold => Gate::Holds,
    }
}

impl OperatorHooks {
    /// Hooks for controllers that each watch `scopes` scopes: one per namespace, or one for all. From now on
    /// the process is ready only when each kind can be read in each scope.
    pub fn new(metrics: Arc<Metrics>, readiness: Readiness, scopes: usize) -> Self {
        readiness.require(KINDS.map(gate));
        let unread = Mutex::new(KINDS.into_iter().map(|kind| (kind, scopes)).collect());
        Self { metrics, readiness, unread }
    }
}

impl Hooks for OperatorHooks {
    fn reconciled(&self, kind: Kind, outcome: Outcome, took: Duration) {
        let name = match outcome {
            Outcome::Unchanged => "unchanged",
            Outcome::Changed => "changed",
            Outcome::Failed(_) => "failed",
        };
        self.metrics.reconciled(kind.into(), name, took);
        if let Outcome::Failed(category) = outcome {
            self.metrics.failed(kind.into(), category);
        }
    }

    fn unreadable(&self, kind: Kind) {
        self.metrics.failed(kind.into(), "unreadable");
    }

    fn watching(&self, kind: Kind, census: Census) {
        self.metrics.count_conditions_by(kind.into(), census);
    }

    fn sites(&self, census: SiteCensus) {
        self.metrics.count_sites_by(census);
    }

    fn retained(&self, kind: &'static str, count: u64) {
        self.metrics.retained(kind, count);
    }

    fn drifted(&self, site: &Site, what: Aspect, count: u64) {
        self.metrics.drifted(site, what, count);
    }

    fn read(&self, kind: Kind) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let left = unread.entry(kind).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.readiness.open(gate(kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_ready_when_it_can_be_read_in_every_scope() {
        let readiness = Readiness::default();
        let hooks = OperatorHooks::new(Arc::new(Metrics::new()), readiness.clone(), 2);
        for kind in KINDS {
            hooks.read(kind);
        }
        assert_eq!(readiness.missing().len(), 4);
        hooks.read(Kind::Site);
        assert_eq!(readiness.missing(), [Gate::Policies, Gate::Cameras, Gate::Holds]);
    }

    #[test]
    fn a_failure_is_counted_twice_over_as_outcome_and_as_category() {
        let metrics = Arc::new(Metrics::new());
        let hooks = OperatorHooks::new(metrics.clone(), Readiness::default(), 1);
        hooks.reconciled(Kind::Camera, Outcome::Failed("api_conflict"), Duration::from_millis(2));
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"toezicht_reconciles_total{controller="Camera",outcome="failed"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"toezicht_errors_total{controller="Camera",category="api_conflict"} 1"#),
            "{text}"
        );
    }
}
