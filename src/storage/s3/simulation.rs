//! Replacement of network and clock by a simulation, for tests of the real code. Without a simulation, the machine's
//! own are used.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_async::time::TimeSource;
use jiff::Timestamp;

/// Network, clock and seed of a simulation.
#[derive(Clone)]
pub struct Simulation {
    pub http: SharedHttpClient,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub seed: u64,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).finish_non_exhaustive()
    }
}

tokio::task_local! {
    // Task-local, so that simulated operators in one runtime have separate clocks and networks.
    static SIMULATION: Simulation;
}

/// Runs `work` in a simulation.
pub fn run_within<F: Future>(simulated: Simulation, work: F) -> impl Future<Output = F::Output> {
    SIMULATION.scope(simulated, work)
}

/// Returns the simulation of this task.
pub(crate) fn current() -> Option<Simulation> {
    SIMULATION.try_with(Clone::clone).ok()
}

/// Returns unpredictable numbers, or predictable ones in a simulation.
pub(crate) fn random_salt() -> [u64; 2] {
    match current() {
        Some(simulated) => [simulated.seed, simulated.seed.rotate_left(32)],
        None => rand::random(),
    }
}

/// Clock of the machine, or of the simulation in which it was created.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalClock(Option<Simulation>);

impl LocalClock {
    pub(crate) fn current() -> Self {
        Self(current())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.as_ref().map_or_else(Timestamp::now, |simulated| (simulated.now)())
    }
}

impl TimeSource for LocalClock {
    fn now(&self) -> SystemTime {
        SystemTime::from(Self::now(self))
    }
}
