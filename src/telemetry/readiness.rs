//! Readiness of the operator: typed gates, so that an answer names the missing ones.

use std::collections::BTreeMap;
use std::sync::Mutex;

use strum::IntoStaticStr;

use crate::sync::lock;

/// A precondition of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
pub enum ReadinessGate {
    /// The API server serves the four kinds.
    CustomResources,
    /// The API server answers the election: this process leads, or stands by.
    Election,
    /// The leader may read `RecordingPolicies`.
    Policies,
    /// The leader may read Sites.
    Sites,
    /// The leader may read Cameras.
    Cameras,
    /// The leader may read `IncidentHolds`.
    Holds,
    /// Closed once the process shuts down.
    Running,
}

/// Gates, each with the number of openings that it still needs.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<ReadinessGate, usize>>);

impl Readiness {
    /// Requires `gate` to be opened `times` times. A gate that is already known keeps its state, so that a standby that
    /// begins to lead stays ready where it was.
    pub fn require(&self, gate: ReadinessGate, times: usize) {
        self.with(|gates| *gates.entry(gate).or_insert(times));
    }

    pub fn open(&self, gate: ReadinessGate) {
        self.with(|gates| {
            let left = gates.entry(gate).or_default();
            *left = left.saturating_sub(1);
        });
    }

    pub fn close(&self, gate: ReadinessGate) {
        self.with(|gates| gates.insert(gate, 1));
    }

    /// Returns the closed gates, in the order of [`ReadinessGate`]; empty: ready.
    pub fn missing(&self) -> Vec<ReadinessGate> {
        self.with(|gates| gates.iter().filter(|(_, left)| **left > 0).map(|(gate, _)| *gate).collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<ReadinessGate, usize>) -> T) -> T {
        act(&mut lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_lists_closed_gates() {
        let readiness = Readiness::default();
        readiness.require(ReadinessGate::Election, 1);
        readiness.require(ReadinessGate::CustomResources, 1);
        assert_eq!(readiness.missing(), [ReadinessGate::CustomResources, ReadinessGate::Election]);
        readiness.open(ReadinessGate::Election);
        readiness.open(ReadinessGate::CustomResources);
        assert!(readiness.missing().is_empty());
        readiness.require(ReadinessGate::Sites, 1);
        readiness.require(ReadinessGate::Election, 1);
        assert_eq!(readiness.missing(), [ReadinessGate::Sites], "an open gate stays open");
        readiness.open(ReadinessGate::Sites);
        readiness.close(ReadinessGate::Running);
        assert_eq!(readiness.missing(), [ReadinessGate::Running]);
    }
}
