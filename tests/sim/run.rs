//! One simulation of a seed: a phase of trouble, then a quiet phase in which everything must settle.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use toezicht::rules::recording::key::Class;
use tokio::time::sleep;

use super::http::{Shared, lock};
use super::lease::Fate;
use super::mutations::Mutation;
use super::profile::Theme;
use super::recorder::Recorder;
use super::store_kind::StoreKind;
use super::world::World;
use super::{lease, people_tasks, recorder};

/// Extent of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Kind of the store, or `None` to draw one of three.
    pub kind: Option<StoreKind>,
    /// Hours of the trouble phase.
    pub trouble: u64,
    /// Hours of the quiet phase.
    pub quiet: u64,
    pub mutation: Option<Mutation>,
}

impl Scope {
    pub const WHOLE: Self = Self { kind: None, trouble: 24, quiet: 5, mutation: None };
}

/// Result of a simulation.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    pub steps: u64,
    pub fingerprint: (u64, u64),
    pub violations: Vec<String>,
    pub last: String,
    pub claims: Vec<(&'static str, u64)>,
}

/// Camera names that test the order of listings.
const CAMERAS: [&str; 6] = ["hal", "hal-2", "hal.b", "hal2", "deur", "receptie"];

/// Telephones that only the bucket knows.
const DESKS: [&str; 2] = ["balie", "balie-2"];

pub fn simulate(seed: u64, scope: Scope) -> Report {
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed, scope))
}

async fn run(seed: u64, scope: Scope) -> Report {
    let kind = |rng: &mut fastrand::Rng| scope.kind.unwrap_or_else(|| StoreKind::random(rng));
    let world: Shared = Arc::new(Mutex::new(World::new(seed, kind, scope.mutation)));
    set_up(&world);
    let sources: Vec<(Class, String)> = lock(&world).recorders.all.keys().cloned().collect();
    for source_key in sources {
        start(&world, recorder::record(world.clone(), source_key.0, source_key.1.clone()));
        start(&world, recorder::configure(world.clone(), source_key));
    }
    start(&world, lease::elect(world.clone()));
    start(&world, people_tasks::declare(world.clone()));
    start(&world, people_tasks::redeclare(world.clone()));
    start(&world, people_tasks::restore(world.clone()));
    start(&world, people_tasks::disturb_cluster(world.clone()));
    start(&world, people_tasks::end_api_outages(world.clone()));
    start(&world, people_tasks::attack(world.clone()));
    start(&world, people_tasks::tamper_repeatedly(world.clone()));
    start(&world, people_tasks::expire(world.clone()));
    let (trouble, quiet) = {
        let world = lock(&world);
        match (world.profile.theme, world.profile.reconcile_speed) {
            // The recorder is unreachable for longer than a release waits. The next day's sweep deletes what that
            // leaves.
            (Theme::UnreachableRecorder | Theme::Overdue, _) => (scope.trouble + 8, scope.quiet + 21),
            // Faster reconciles produce as many events in less time.
            (_, 10) => (scope.trouble / 3, scope.quiet),
            _ => (scope.trouble, scope.quiet),
        }
    };
    let_time_pass(&world, trouble).await;
    {
        let mut world = lock(&world);
        world.is_calm = true;
        world.profile.make_calm();
        world.api.is_unavailable = false;
        world.ahead = [0, 0];
        if world.is_crowded() {
            // Restart operators with more memory.
            for (fate, notify) in &mut world.pending_fates {
                *fate = Fate::Crash;
                notify.notify_one();
            }
        }
        world.log_trace(|| "the quiet phase begins".to_owned());
    }
    let_time_pass(&world, quiet).await;
    let mut world = lock(&world);
    let world = &mut *world;
    if !world.has_violations() {
        let now = world.now();
        world.checks.check_settled(&world.store, &world.api, now);
    }
    Report {
        seed,
        steps: world.step,
        fingerprint: world.fingerprint(),
        violations: world.checks.violations.clone(),
        last: world.last_lines(300),
        claims: world.checks.claims.iter().map(|(claim, count)| (*claim, *count)).collect(),
    }
}

/// Starts a task and records a violation if it panics.
fn start(world: &Shared, work: impl Future<Output = ()> + Send + 'static) {
    let world = world.clone();
    let task = tokio::spawn(work);
    tokio::spawn(async move {
        if task.await.is_err_and(|error| error.is_panic()) {
            lock(&world).fail("a task panicked".to_owned());
        }
    });
}

/// Lets time pass until the first violation.
async fn let_time_pass(world: &Shared, hours: u64) {
    for _ in 0..hours * 4 {
        sleep(Duration::from_mins(15)).await;
        if lock(world).has_violations() {
            return;
        }
    }
}

/// Fills the spools with recordings of the last days, so that some reach their ceiling soon.
fn fill_spools(world: &mut World) {
    let now = world.now();
    let sources: Vec<(Class, String)> = world.recorders.all.keys().cloned().collect();
    for source_key in sources {
        let (count, share) = match world.profile.theme {
            Theme::Ceilings | Theme::Clocks | Theme::Overdue => (12, 4),
            _ => (world.rng.usize(2..6), 2),
        };
        for _ in 0..count {
            // Some reach their ceiling within the day.
            let from = if world.rng.u32(0..share) == 0 { 1 } else { 96 * 60 };
            let (ago, length) = (world.rng.i64(from..118 * 60), world.rng.u64(60..3000));
            let start = now - SignedDuration::from_mins(ago) - SignedDuration::from_secs(3000);
            let segment = recorder::make_recording(&source_key, start, length * 1000);
            world.recorders.all.get_mut(&source_key).unwrap().spool.push(segment);
        }
    }
}

/// Draws cameras, telephones and their backlog.
fn set_up(world: &Shared) {
    let world = &mut *lock(world);
    world.checks.embargo = world.rng.bool().then(|| SignedDuration::from_hours(1));
    let count = world.rng.usize(2..4);
    let first = world.rng.usize(0..3);
    for name in CAMERAS.iter().skip(first).take(count) {
        let ahead = if world.rng.u32(0..8) == 0 { 3600 } else { 0 };
        let recorder = Recorder { ahead, ..Recorder::default() };
        world.recorders.all.insert((Class::Video, (*name).to_owned()), recorder);
    }
    for counting_store in DESKS.iter().skip(world.rng.usize(0..3)) {
        world.recorders.all.insert((Class::Calls, (*counting_store).to_owned()), Recorder::default());
    }
    fill_spools(world);
    let setup = format!("{:?} {:?} {:?}", world.profile, world.checks.embargo, world.recorders.all.keys());
    world.log_trace(|| setup);
}
