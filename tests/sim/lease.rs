//! Leader election. A leader crashes at a request, is frozen and thaws minutes later, or releases its lease. The
//! other operator takes over once the lease has expired.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use toezicht::leader::clock::{BootInstant, Clock};
use toezicht::leader::fence::Fence;
use toezicht::leader::takeover::{TakeoverDelay, may_release_lease};
use tokio::time::{Instant, sleep};

use super::http::{ProcessLife, Shared, lock};
use super::mutations::Mutation;
use super::operator::Leader;

/// A boot clock in simulated time.
pub struct Boot(pub Instant);

#[async_trait]
impl Clock for Boot {
    fn now(&self) -> BootInstant {
        BootInstant::since_boot(self.0.elapsed())
    }

    async fn sleep(&self, pause: Duration) {
        sleep(pause).await;
    }
}

/// Freezes and thaws a process.
#[derive(Default)]
struct FreezeSwitch {
    is_frozen: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl FreezeSwitch {
    fn thaw(&self) {
        self.is_frozen.store(false, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

struct Freezable<F> {
    freeze_switch: Arc<FreezeSwitch>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.freeze_switch.is_frozen.load(Ordering::Relaxed) {
            *self.freeze_switch.waker.lock().unwrap() = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.work.as_mut().poll(context)
    }
}

/// Fate of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Crash,
    Stops,
    ReleaseLease,
    /// It keeps leading.
    Stays,
}

/// Elects one leader after the other.
pub async fn elect(world: Shared) {
    let boot = Instant::now();
    let (mut n, mut took_over) = (0, false);
    loop {
        let fence = Fence::new(Arc::new(Boot(boot)));
        fence.extend(BootInstant::since_boot(Duration::MAX));
        let (life, freeze_switch) = (Arc::new(ProcessLife::default()), Arc::new(FreezeSwitch::default()));
        let takeover_delay = {
            let mut world = lock(&world);
            world.log_trace(|| format!("operator {n} leads, took over: {took_over}"));
            let waits = took_over && !world.is_broken(Mutation::ReleasesAtOnce);
            TakeoverDelay::begin(Arc::new(Boot(boot)), waits)
        };
        let leader = Leader::new(&world, n, fence.clone(), life.clone(), takeover_delay.clone());
        let buckets = leader.buckets.clone();
        let task =
            tokio::spawn(Freezable { freeze_switch: freeze_switch.clone(), work: Box::pin(leader.lead()) });
        let fate = fate(&world, n, &life).await;
        lock(&world).log_trace(|| format!("operator {n}: {fate:?}"));
        match fate {
            Fate::Stays => {
                // It leads until the end of the simulation.
                task.await.unwrap();
                return;
            }
            Fate::Crash => {
                task.abort();
                took_over = true;
                pause(&world, 1..60).await;
            }
            Fate::ReleaseLease => {
                fence.close();
                let _ = task.await;
                took_over = !may_release_lease(true, takeover_delay.remaining().max(buckets.in_doubt_for()));
                pause(&world, 1..10).await;
            }
            Fate::Stops => {
                if !lock(&world).is_broken(Mutation::Unfenced) {
                    fence.extend(BootInstant::since_boot(boot.elapsed() + Duration::from_secs(10)));
                }
                freeze_switch.is_frozen.store(true, Ordering::Relaxed);
                took_over = true;
                let stopped_for = lock(&world).rng.u64(5..3000);
                tokio::spawn(async move {
                    sleep(Duration::from_secs(stopped_for)).await;
                    freeze_switch.thaw();
                    let _ = task.await;
                });
                pause(&world, 15..40).await;
            }
        }
        if fate != Fate::ReleaseLease {
            n = 1 - n;
        }
    }
}

async fn pause(world: &Shared, seconds: std::ops::Range<u64>) {
    let seconds = lock(world).rng.u64(seconds);
    sleep(Duration::from_secs(seconds)).await;
}

/// Waits for the leader's fate.
async fn fate(world: &Shared, n: usize, life: &ProcessLife) -> Fate {
    let (hours, pending_fates) = {
        let mut world = lock(world);
        let seconds = world.rng.u64(600..15_000);
        // A fate of the previous leader no longer counts.
        world.pending_fates[n] = (Fate::Stays, Arc::default());
        (Duration::from_secs(seconds), world.pending_fates[n].1.clone())
    };
    let early = tokio::select! {
        biased;
        () = life.died.notified() => Some(Fate::Crash),
        () = pending_fates.notified() => Some(lock(world).pending_fates[n].0),
        () = sleep(hours) => None,
    };
    if let Some(fate) = early {
        return fate;
    }
    let (is_calm, has_violations, draw, requests) = {
        let mut world = lock(world);
        (world.is_calm, world.has_violations(), world.rng.u32(0..4), world.rng.u64(1..160))
    };
    if is_calm || has_violations {
        return Fate::Stays;
    }
    match draw {
        0 | 1 => {
            *life.left.lock().unwrap() = Some(requests);
            life.died.notified().await;
            Fate::Crash
        }
        2 => Fate::Stops,
        _ => Fate::ReleaseLease,
    }
}
