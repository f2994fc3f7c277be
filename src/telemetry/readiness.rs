//! Whether this process can do its work: typed gates, so that an answer names what is missing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use strum::IntoStaticStr;

/// Something that must be so before the process is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
pub enum ReadinessGate {
    /// The four kinds are established in the API server.
    CustomResources,
    /// The API server answers the election: this process leads, or stands by.
    Election,
    /// The API server lets the leader read `RecordingPolicies`.
    Policies,
    /// The API server lets the leader read Sites.
    Sites,
    /// The API server lets the leader read Cameras.
    Cameras,
    /// The API server lets the leader read `IncidentHolds`.
    Holds,
    /// Shut when the process is asked to stop.
    Running,
}

/// Gates, each open or shut. Copies are one and the same.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<ReadinessGate, bool>>>);

impl Readiness {
    /// Ready when each of `gates` has been opened.
    pub fn requiring(gates: impl IntoIterator<Item = ReadinessGate>) -> Self {
        let readiness = Self::default();
        readiness.require(gates);
        readiness
    }

    /// From now on each of `gates` must be opened too, as a standby that begins to lead has more to do.
    pub fn require(&self, gates: impl IntoIterator<Item = ReadinessGate>) {
        self.with(|state| {
            for gate in gates {
                state.entry(gate).or_insert(false);
            }
        });
    }

    pub fn open(&self, gate: ReadinessGate) {
        self.with(|state| state.insert(gate, true));
    }

    /// That is not so any more.
    pub fn close(&self, gate: ReadinessGate) {
        self.with(|state| state.insert(gate, false));
    }

    /// What is missing, in the order of [`ReadinessGate`]; empty: ready.
    pub fn missing(&self) -> Vec<ReadinessGate> {
        self.with(|state| state.iter().filter(|(_, open)| !**open).map(|(gate, _)| *gate).collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<ReadinessGate, bool>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_lists_closed_gates() {
        let readiness = Readiness::requiring([ReadinessGate::Election, ReadinessGate::CustomResources]);
        assert_eq!(readiness.missing(), [ReadinessGate::CustomResources, ReadinessGate::Election]);
        readiness.open(ReadinessGate::Election);
        readiness.open(ReadinessGate::CustomResources);
        assert!(readiness.missing().is_empty());
        readiness.require([ReadinessGate::Sites, ReadinessGate::Election]);
        assert_eq!(readiness.missing(), [ReadinessGate::Sites], "what was open stays open");
        readiness.open(ReadinessGate::Sites);
        readiness.close(ReadinessGate::Running);
        assert_eq!(readiness.missing(), [ReadinessGate::Running]);
    }
}
