//! Becoming the leader, staying it, letting go.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::clock::{BootInstant, Clock};
use super::fence::Fence;
use super::lease::{LockError, ResourceLock, Versioned};
use super::record::{ElectionRecord, ElectionTiming};

/// What an elector knows, for probes and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElectionState {
    /// When it last tried, whatever came of it: an elector that does not even try is stuck.
    pub last_attempt: Option<BootInstant>,
    /// Whether the API server has answered it at least once.
    pub has_reached_api: bool,
    pub is_leading: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipLost {
    /// It was not renewed in time: the API server did not answer, or this process stood still.
    #[error("leadership lost: not renewed within {}s", .0.as_secs())]
    RenewDeadline(Duration),
    #[error("leadership lost: {0} has taken over")]
    TakenBy(String),
}

pub struct Elector<L: ResourceLock> {
    lock: L,
    clock: Arc<dyn Clock>,
    fence: Fence,
    identity: String,
    timing: ElectionTiming,
    observed: Option<ObservedRecord<L::Version>>,
    /// Since when every look found no Lease, by our clock.
    absent_since: Option<BootInstant>,
    /// Until when this process is certain to lead, as the fence has it.
    leading_until: Option<BootInstant>,
    /// See [`Elector::took_over`].
    took_over: bool,
    state: watch::Sender<ElectionState>,
}

/// The record as last seen, and since when it has been like that, by our clock.
#[derive(Clone)]
struct ObservedRecord<V> {
    held: Versioned<V>,
    since: BootInstant,
}

#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// We stand in the record; certain from this moment on, before the request was sent.
    Leading {
        from: BootInstant,
    },
    /// Somebody else does, or may still believe to.
    Following {
        leader: String,
    },
    /// There is no Lease, and its last leader may not know that yet.
    Absent,
    Conflict,
}

impl<L: ResourceLock> Elector<L> {
    /// A candidate that writes `identity` into the record and opens `fence` when it leads. The identity must
    /// be this process's alone.
    pub fn new(
        lock: L,
        clock: Arc<dyn Clock>,
        fence: Fence,
        identity: String,
        timing: ElectionTiming,
    ) -> Self {
        let state = watch::Sender::new(ElectionState::default());
        Self {
            lock,
            clock,
            fence,
            identity,
            timing,
            observed: None,
            absent_since: None,
            leading_until: None,
            took_over: false,
            state,
        }
    }

    /// What this elector knows, as it changes.
    pub fn state(&self) -> watch::Receiver<ElectionState> {
        self.state.subscribe()
    }

    /// Whether nobody handed leadership over, so that an earlier leader may still have requests under way: the leader in
    /// the Lease had not let go, or there was no Lease.
    pub const fn took_over(&self) -> bool {
        self.took_over
    }

    /// Waits until this process leads, and opens the fence; `false`: `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        let mut reported = None;
        loop {
            let attempt = tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                attempt = self.attempt_within(self.timing.renew_deadline()) => attempt,
            };
            match attempt {
                Ok(Attempt::Leading { from }) => {
                    let until = from.plus(self.timing.renew_deadline());
                    // Taken, but the answer came too late to be certain of it: the next try renews.
                    if self.clock.now() < until {
                        self.extend(until);
                        self.state.send_modify(|state| state.is_leading = true);
                        info!(identity = %self.identity, "leading");
                        return true;
                    }
                }
                Ok(Attempt::Following { leader }) => {
                    if reported.as_ref() != Some(&leader) {
                        info!(identity = %self.identity, %leader, "standing by");
                        reported = Some(leader);
                    }
                }
                Ok(Attempt::Absent) => {
                    if reported.as_deref() != Some("") {
                        info!(
                            "no Lease: waiting for as long as one lasts, as a leader may live that does not know"
                        );
                        reported = Some(String::new());
                    }
                }
                Ok(Attempt::Conflict) => debug!("another candidate was faster"),
                Err(error) => warn!(%error, "cannot stand for election"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = self.clock.sleep(self.timing.jittered_retry_period(rand::random())) => {}
            }
        }
    }

    /// Renews until leadership is lost, then shuts the fence. It may be dropped and called again; to let go,
    /// drop it and call [`Elector::release`].
    pub async fn renew_until_lost(&mut self) -> LeadershipLost {
        let lost = self.renew_loop().await;
        self.fence.close();
        self.state.send_modify(|state| state.is_leading = false);
        lost
    }

    async fn renew_loop(&mut self) -> LeadershipLost {
        let overdue = LeadershipLost::RenewDeadline(self.timing.renew_deadline());
        loop {
            let pause = self.timing.jittered_retry_period(rand::random()).min(self.remaining());
            self.clock.sleep(pause).await;
            // After standing still, leadership must not be taken up again, even where nobody has taken over:
            // tasks are in the middle of what they began in another time.
            let left = self.remaining();
            if left.is_zero() {
                return overdue;
            }
            match self.attempt_within(left).await {
                Ok(Attempt::Leading { .. }) if self.remaining().is_zero() => return overdue,
                Ok(Attempt::Leading { from }) => self.extend(from.plus(self.timing.renew_deadline())),
                Ok(Attempt::Following { leader }) => return LeadershipLost::TakenBy(leader),
                Ok(Attempt::Absent | Attempt::Conflict) => {
                    debug!("the lease was changed while it was renewed");
                }
                Err(error) => warn!(%error, "cannot renew"),
            }
        }
    }

    fn extend(&mut self, until: BootInstant) {
        self.leading_until = Some(until);
        self.fence.extend(until);
    }

    /// For how long this process is certain to lead.
    fn remaining(&self) -> Duration {
        self.leading_until.map_or(Duration::ZERO, |until| self.clock.now().until(until))
    }

    /// Shuts the fence, then lets go of the Lease, so that a standby need not wait for it to run out. Call it
    /// when everything that writes has stopped. Without effect where this process does not lead.
    pub async fn release(&mut self) {
        self.fence.close();
        self.state.send_modify(|state| state.is_leading = false);
        let (clock, limit) = (self.clock.clone(), self.timing.renew_deadline());
        let outcome = tokio::select! {
            biased;
            outcome = self.release_lease() => outcome,
            () = clock.sleep(limit) => Err(LockError::Unreachable("no answer in time".into())),
        };
        match outcome {
            Ok(()) => info!(identity = %self.identity, "not leading any more"),
            // It runs out by itself.
            Err(error) => warn!(%error, "could not let go of the lease"),
        }
    }

    async fn release_lease(&mut self) -> Result<(), LockError> {
        loop {
            let Some(ObservedRecord { held, .. }) = &self.observed else {
                return Ok(());
            };
            if !held.record.is_held_by(&self.identity) {
                return Ok(());
            }
            match self.lock.replace(&held.record.released(Timestamp::now()), &held.version).await {
                Ok(held) => {
                    self.observe(held);
                }
                // A renewal whose answer we did not wait for; or another has it already.
                Err(LockError::Conflict) => match self.lock.get().await? {
                    Some(held) => {
                        self.observe(held);
                    }
                    None => return Ok(()),
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt_within(&mut self, limit: Duration) -> Result<Attempt, LockError> {
        let clock = self.clock.clone();
        let attempt = tokio::select! {
            biased;
            attempt = self.attempt() => attempt,
            () = clock.sleep(limit) => Err(LockError::Unreachable("no answer in time".into())),
        };
        let now = clock.now();
        self.state.send_modify(|state| {
            state.last_attempt = Some(now);
            state.has_reached_api |= !matches!(attempt, Err(LockError::Unreachable(_)));
        });
        attempt
    }

    async fn attempt(&mut self) -> Result<Attempt, LockError> {
        // Ours as far as we know: renew it at the version we know. If that is no longer the one, look again.
        if let Some(ObservedRecord { held, .. }) = &self.observed
            && held.record.is_held_by(&self.identity)
        {
            let held = held.clone();
            match self.take_lease(Some(&held)).await {
                Err(LockError::Conflict) => {}
                other => return other,
            }
        }
        let Some(held) = self.lock.get().await? else {
            return self.attempt_absent().await;
        };
        self.absent_since = None;
        let since = self.observe(held.clone());
        match &held.record.holder {
            // A write of ours whose answer was lost: what was known when it was sent still holds.
            Some(leader) if *leader == self.identity => {}
            Some(leader) => {
                // The longer of the two: a candidate configured with a short lease must not take over early.
                let wait = held.record.lease_duration.max(self.timing.lease_duration());
                if self.clock.now() < since.plus(wait) {
                    return Ok(Attempt::Following { leader: leader.clone() });
                }
                info!(%leader, "the leader has not renewed in time");
                self.took_over = true;
            }
            None => self.took_over = false,
        }
        self.try_take_lease(Some(&held)).await
    }

    /// Stands where there is no Lease. It was never there, or somebody deleted it: then its leader may live and not know
    /// yet, or may have been lost in the middle of a request that can still land. Nothing tells these apart. So a
    /// candidate waits for as long as a Lease lasts, in which a living leader re-creates its own, and then leads like
    /// one that took over from a leader that was lost.
    async fn attempt_absent(&mut self) -> Result<Attempt, LockError> {
        let now = self.clock.now();
        let since = *self.absent_since.get_or_insert(now);
        let (is_ours, lease) = self.observed.as_ref().map_or((false, Duration::ZERO), |seen| {
            let record = &seen.held.record;
            (record.is_held_by(&self.identity), record.lease_duration)
        });
        // A leader that is still certain to lead re-creates its own at once.
        let is_leading = is_ours && !self.remaining().is_zero();
        if !is_leading {
            if now < since.plus(lease.max(self.timing.lease_duration())) {
                return Ok(Attempt::Absent);
            }
            self.took_over = true;
        }
        self.try_take_lease(None).await
    }

    async fn try_take_lease(&mut self, before: Option<&Versioned<L::Version>>) -> Result<Attempt, LockError> {
        match self.take_lease(before).await {
            Err(LockError::Conflict) => Ok(Attempt::Conflict),
            other => other,
        }
    }

    /// Writes ourselves into the record, over `before` and nothing else.
    async fn take_lease(&mut self, before: Option<&Versioned<L::Version>>) -> Result<Attempt, LockError> {
        let from = self.clock.now();
        let record = before.map(|held| &held.record);
        let next = ElectionRecord::taken_by(record, &self.identity, self.timing, Timestamp::now());
        let written = match before {
            Some(held) => self.lock.replace(&next, &held.version).await?,
            None => self.lock.create(&next).await?,
        };
        self.absent_since = None;
        self.observe(written);
        Ok(Attempt::Leading { from })
    }

    /// Remembers the record, and returns since when it is like that. The time at which we saw it *change* counts, later
    /// than it really did: for a candidate that is the safe side.
    fn observe(&mut self, held: Versioned<L::Version>) -> BootInstant {
        let now = self.clock.now();
        let since = match &self.observed {
            Some(seen) if seen.held.record == held.record => seen.since,
            _ => now,
        };
        self.observed = Some(ObservedRecord { held, since });
        since
    }
}

#[cfg(test)]
mod tests;
