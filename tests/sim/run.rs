//! One simulation from its seed: days of trouble, then quiet, in which all must come to rest.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use toezicht::rules::recording::key::Class;
use tokio::time::sleep;

use super::http::{Shared, lock};
use super::kind::Kind;
use super::lease::Fate;
use super::mutations::Mutation;
use super::recorder::Recorder;
use super::temper::Theme;
use super::world::World;
use super::{lease, people, recorder};

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// The store; `None`: one of three.
    pub kind: Option<Kind>,
    /// Hours of trouble.
    pub trouble: u64,
    /// Hours of quiet.
    pub quiet: u64,
    pub broken: Option<Mutation>,
}

impl Scope {
    pub const WHOLE: Self = Self { kind: None, trouble: 24, quiet: 5, broken: None };
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    pub steps: u64,
    pub fingerprint: (u64, u64),
    pub broken: Vec<String>,
    pub last: String,
    pub claims: Vec<(&'static str, u64)>,
}

/// Names that try the order of listings.
const CAMERAS: [&str; 6] = ["hal", "hal-2", "hal.b", "hal2", "deur", "receptie"];

/// Of these, nobody but the bucket knows.
const DESKS: [&str; 2] = ["balie", "balie-2"];

pub fn simulate(seed: u64, scope: Scope) -> Report {
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(whole(seed, scope))
}

async fn whole(seed: u64, scope: Scope) -> Report {
    let kind = |rng: &mut fastrand::Rng| scope.kind.unwrap_or_else(|| Kind::drawn(rng));
    let world: Shared = Arc::new(Mutex::new(World::new(seed, kind, scope.broken)));
    furnish(&world);
    let sources: Vec<(Class, String)> = lock(&world).recorders.all.keys().cloned().collect();
    for of in sources {
        start(&world, recorder::record(world.clone(), of.0, of.1.clone()));
        start(&world, recorder::configure(world.clone(), of));
    }
    start(&world, lease::elect(world.clone()));
    start(&world, people::declare(world.clone()));
    start(&world, people::relay(world.clone()));
    start(&world, people::restore(world.clone()));
    start(&world, people::disturb(world.clone()));
    start(&world, people::end_api_outages(world.clone()));
    start(&world, people::attack(world.clone()));
    start(&world, people::betray(world.clone()));
    start(&world, people::expire(world.clone()));
    let (trouble, quiet) = {
        let world = lock(&world);
        match (world.temper.theme, world.temper.haste) {
            // Who is deaf, is so for longer than a release waits; what that leaves, the next day's sweep puts right.
            (Theme::UnreachableRecorder | Theme::Overdue, _) => (scope.trouble + 8, scope.quiet + 21),
            // As much happens in less time.
            (_, 10) => (scope.trouble / 3, scope.quiet),
            _ => (scope.trouble, scope.quiet),
        }
    };
    pass(&world, trouble).await;
    {
        let mut world = lock(&world);
        world.is_calm = true;
        world.temper.calm();
        world.api.is_away = false;
        world.ahead = [0, 0];
        if world.is_crowded() {
            // Somebody gives them more.
            for (fate, befalls) in &mut world.befalls {
                *fate = Fate::Crash;
                befalls.notify_one();
            }
        }
        world.say(|| "all is calm".to_owned());
    }
    pass(&world, quiet).await;
    let mut world = lock(&world);
    let world = &mut *world;
    if !world.is_over() {
        let now = world.now();
        world.checks.settled(&world.store, &world.api, now);
    }
    Report {
        seed,
        steps: world.step,
        fingerprint: world.fingerprint(),
        broken: world.checks.broken.clone(),
        last: world.last(300),
        claims: world.checks.claims.iter().map(|(what, count)| (*what, *count)).collect(),
    }
}

/// Starts a task that may say by a panic that something is wrong.
fn start(world: &Shared, work: impl Future<Output = ()> + Send + 'static) {
    let world = world.clone();
    let task = tokio::spawn(work);
    tokio::spawn(async move {
        if task.await.is_err_and(|error| error.is_panic()) {
            lock(&world).fail("a task panicked".to_owned());
        }
    });
}

/// Time passes, as long as nothing is broken.
async fn pass(world: &Shared, hours: u64) {
    for _ in 0..hours * 4 {
        sleep(Duration::from_mins(15)).await;
        if lock(world).is_over() {
            return;
        }
    }
}

/// Recordings of the last days, which wait: so that what is due at its ceiling comes soon.
fn backlog(world: &mut World) {
    let now = world.now();
    let sources: Vec<(Class, String)> = world.recorders.all.keys().cloned().collect();
    for of in sources {
        let (count, share) = match world.temper.theme {
            Theme::Ceilings | Theme::Clocks | Theme::Overdue => (12, 4),
            _ => (world.rng.usize(2..6), 2),
        };
        for _ in 0..count {
            // Some come to their ceiling within the day.
            let from = if world.rng.u32(0..share) == 0 { 1 } else { 96 * 60 };
            let (ago, length) = (world.rng.i64(from..118 * 60), world.rng.u64(60..3000));
            let start = now - SignedDuration::from_mins(ago) - SignedDuration::from_secs(3000);
            let waiting = recorder::recorded(&of, start, length * 1000);
            world.recorders.all.get_mut(&of).unwrap().spool.push(waiting);
        }
    }
}

/// Draws what there is.
fn furnish(world: &Shared) {
    let world = &mut *lock(world);
    world.checks.embargo = world.rng.bool().then(|| SignedDuration::from_hours(1));
    let count = world.rng.usize(2..4);
    let first = world.rng.usize(0..3);
    for name in CAMERAS.iter().skip(first).take(count) {
        let ahead = if world.rng.u32(0..8) == 0 { 3600 } else { 0 };
        let recorder = Recorder { ahead, ..Recorder::default() };
        world.recorders.all.insert((Class::Video, (*name).to_owned()), recorder);
    }
    for desk in DESKS.iter().skip(world.rng.usize(0..3)) {
        world.recorders.all.insert((Class::Calls, (*desk).to_owned()), Recorder::default());
    }
    backlog(world);
    let told = format!("{:?} {:?} {:?}", world.temper, world.checks.embargo, world.recorders.all.keys());
    world.say(|| told);
}
