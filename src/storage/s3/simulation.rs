//! The seam at which a simulation takes the place of the network and of the clock, for tests of the real code. Without
//! a simulation nothing here does anything but ask the machine.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_async::time::TimeSource;
use jiff::Timestamp;

/// What a simulation puts in the place of the machine.
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
    // Of the task, so that two simulated operators in one runtime have a clock and a network each.
    static SIMULATION: Simulation;
}

/// Runs `work` with `simulated` in the place of the machine.
pub fn run_within<F: Future>(simulated: Simulation, work: F) -> impl Future<Output = F::Output> {
    SIMULATION.scope(simulated, work)
}

/// The simulation that this task is in.
pub(crate) fn current() -> Option<Simulation> {
    SIMULATION.try_with(Clone::clone).ok()
}

/// Two numbers that nobody can foresee, outside a simulation.
pub(crate) fn random_salt() -> [u64; 2] {
    match current() {
        Some(simulated) => [simulated.seed, simulated.seed.rotate_left(32)],
        None => rand::random(),
    }
}

/// A clock: the machine's, or that of the simulation in which it was made.
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
