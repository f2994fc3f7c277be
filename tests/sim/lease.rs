//! Who leads: one operator dies at a request, is stopped in the middle of something and thaws minutes later, or lets go in
//! good order; the other takes over once the lease has run out.

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

/// Time since the simulation's machine was booted.
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

/// A process that can be stopped and thawed.
#[derive(Default)]
struct Ice {
    is_frozen: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Ice {
    fn thaw(&self) {
        self.is_frozen.store(false, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

struct Freezable<F> {
    ice: Arc<Ice>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.ice.is_frozen.load(Ordering::Relaxed) {
            *self.ice.waker.lock().unwrap() = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.work.as_mut().poll(context)
    }
}

/// What happens to a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Crash,
    Stops,
    ReleaseLease,
    /// It leads on.
    Stays,
}

/// Lets one lead after the other.
pub async fn elect(world: Shared) {
    let boot = Instant::now();
    let (mut n, mut took_over) = (0, false);
    loop {
        let fence = Fence::new(Arc::new(Boot(boot)));
        fence.extend(BootInstant::since_boot(Duration::MAX));
        let (life, ice) = (Arc::new(ProcessLife::default()), Arc::new(Ice::default()));
        let aftermath = {
            let mut world = lock(&world);
            world.say(|| format!("operator {n} leads, took over: {took_over}"));
            let waits = took_over && !world.is_broken(Mutation::ReleasesAtOnce);
            TakeoverDelay::begin(Arc::new(Boot(boot)), waits)
        };
        let leader = Leader::new(&world, n, fence.clone(), life.clone(), aftermath.clone());
        let buckets = leader.buckets.clone();
        let task = tokio::spawn(Freezable { ice: ice.clone(), work: Box::pin(leader.lead()) });
        let fate = fate(&world, n, &life).await;
        lock(&world).say(|| format!("operator {n}: {fate:?}"));
        match fate {
            Fate::Stays => {
                // To the end.
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
                took_over = !may_release_lease(true, aftermath.remaining().max(buckets.in_doubt_for()));
                pause(&world, 1..10).await;
            }
            Fate::Stops => {
                if !lock(&world).is_broken(Mutation::Unfenced) {
                    fence.extend(BootInstant::since_boot(boot.elapsed() + Duration::from_secs(10)));
                }
                ice.is_frozen.store(true, Ordering::Relaxed);
                took_over = true;
                let stopped_for = lock(&world).rng.u64(5..3000);
                tokio::spawn(async move {
                    sleep(Duration::from_secs(stopped_for)).await;
                    ice.thaw();
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

/// Waits until something happens to the leader.
async fn fate(world: &Shared, n: usize, life: &ProcessLife) -> Fate {
    let (hours, befalls) = {
        let mut world = lock(world);
        let seconds = world.rng.u64(600..15_000);
        // Of the leader before, nobody is told any more.
        world.befalls[n] = (Fate::Stays, Arc::default());
        (Duration::from_secs(seconds), world.befalls[n].1.clone())
    };
    let early = tokio::select! {
        biased;
        () = life.died.notified() => Some(Fate::Crash),
        () = befalls.notified() => Some(lock(world).befalls[n].0),
        () = sleep(hours) => None,
    };
    if let Some(fate) = early {
        return fate;
    }
    let (is_calm, is_over, draw, requests) = {
        let mut world = lock(world);
        (world.is_calm, world.is_over(), world.rng.u32(0..4), world.rng.u64(1..160))
    };
    if is_calm || is_over {
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
