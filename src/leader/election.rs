//! Acquires, renews and releases leadership.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::clock::{BootInstant, Clock};
use super::fence::Fence;
use super::lease;
use super::lease::{ATTEMPT_TIMEOUT, LEASE_DURATION, LockError, RENEW_DEADLINE, ResourceLock, retry_delay};

/// State of an elector, for probes and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElectionState {
    /// Time of the last attempt, whatever its outcome: an elector that makes no attempts is stuck.
    pub last_attempt: Option<BootInstant>,
    /// Whether the API server has answered at least once.
    pub has_reached_api: bool,
    pub is_leading: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipLost {
    /// The API server did not answer in time, or this process stood still.
    #[error("leadership lost: not renewed within {}s", RENEW_DEADLINE.as_secs())]
    RenewDeadline,
    #[error("leadership lost: {0} has taken over")]
    TakenBy(String),
}

pub struct Elector<L: ResourceLock> {
    lock: L,
    clock: Arc<dyn Clock>,
    fence: Fence,
    identity: String,
    observed: Option<ObservedLease>,
    /// Start of the period in which every read found no Lease.
    absent_since: Option<BootInstant>,
    /// End of the period in which this process certainly leads; the fence closes then.
    leading_until: Option<BootInstant>,
    took_over: bool,
    state: watch::Sender<ElectionState>,
}

/// The Lease as last read or written, and since when its content is the same, by this machine's clock.
#[derive(Clone)]
struct ObservedLease {
    lease: Lease,
    since: BootInstant,
}

#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// The Lease names this process. Its time counts from `from`, before the request was sent.
    Leading {
        from: BootInstant,
    },
    /// Another process leads, or may still believe so.
    Following {
        leader: String,
    },
    /// No Lease exists, and its last leader may not know that yet.
    Absent,
    Conflict,
}

impl<L: ResourceLock> Elector<L> {
    /// Makes a candidate that writes `identity` into the Lease and opens `fence` when it leads. No other process may
    /// have the same identity.
    pub fn new(lock: L, clock: Arc<dyn Clock>, fence: Fence, identity: String) -> Self {
        Self {
            lock,
            clock,
            fence,
            identity,
            observed: None,
            absent_since: None,
            leading_until: None,
            took_over: false,
            state: watch::Sender::default(),
        }
    }

    pub fn state(&self) -> watch::Receiver<ElectionState> {
        self.state.subscribe()
    }

    /// Returns whether no earlier leader released the Lease: it expired, or did not exist. Then requests of an earlier
    /// leader may still be in flight.
    pub const fn took_over(&self) -> bool {
        self.took_over
    }

    /// Waits until this process leads, and opens the fence. Returns `false` if `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        let mut reported = None;
        loop {
            let attempt = tokio::select! {
                // A process that is to stop must not begin to lead.
                biased;
                () = stop.cancelled() => return false,
                attempt = self.attempt_within(ATTEMPT_TIMEOUT) => attempt,
            };
            match attempt {
                Ok(Attempt::Leading { from }) => {
                    let until = from.plus(RENEW_DEADLINE);
                    // An answer that came after the deadline proves nothing: the next attempt renews.
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
                        info!("no Lease exists: waiting one lease duration, since a leader may be alive");
                        reported = Some(String::new());
                    }
                }
                Ok(Attempt::Conflict) => debug!("another candidate was faster"),
                Err(error) => warn!(%error, "cannot stand for election"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = self.clock.sleep(retry_delay(rand::random())) => {}
            }
        }
    }

    /// Renews until leadership is lost, then closes the fence. The future may be dropped and the function called
    /// again. To give up leadership, drop it and call [`Elector::release`].
    pub async fn renew_until_lost(&mut self) -> LeadershipLost {
        let lost = self.renew_loop().await;
        self.stop_leading();
        lost
    }

    async fn renew_loop(&mut self) -> LeadershipLost {
        loop {
            self.clock.sleep(retry_delay(rand::random()).min(self.remaining())).await;
            // A process that stood still past the deadline must not lead again, even if no other has taken over:
            // its tasks would continue writes that they began before.
            let left = self.remaining();
            if left.is_zero() {
                return LeadershipLost::RenewDeadline;
            }
            match self.attempt_within(left.min(ATTEMPT_TIMEOUT)).await {
                Ok(Attempt::Leading { .. }) if self.remaining().is_zero() => {
                    return LeadershipLost::RenewDeadline;
                }
                Ok(Attempt::Leading { from }) => self.extend(from.plus(RENEW_DEADLINE)),
                Ok(Attempt::Following { leader }) => return LeadershipLost::TakenBy(leader),
                Ok(Attempt::Absent | Attempt::Conflict) => debug!("the Lease changed during its renewal"),
                Err(error) => warn!(%error, "cannot renew"),
            }
        }
    }

    fn extend(&mut self, until: BootInstant) {
        self.leading_until = Some(until);
        self.fence.extend(until);
    }

    fn stop_leading(&self) {
        self.fence.close();
        self.state.send_modify(|state| state.is_leading = false);
    }

    /// Returns for how long this process still certainly leads.
    fn remaining(&self) -> Duration {
        self.leading_until.map_or(Duration::ZERO, |until| self.clock.now().until(until))
    }

    /// Closes the fence, then releases the Lease, so that a standby need not wait for it to expire. Call it after every
    /// writer has stopped. Does nothing to a Lease that names another process.
    pub async fn release(&mut self) {
        self.stop_leading();
        match within(self.clock.clone(), RENEW_DEADLINE, self.release_lease()).await {
            Ok(()) => info!(identity = %self.identity, "no longer leading"),
            // The Lease expires without a release too, only later.
            Err(error) => warn!(%error, "cannot release the Lease"),
        }
    }

    async fn release_lease(&mut self) -> Result<(), LockError> {
        while let Some(ObservedLease { lease, .. }) = &self.observed
            && lease::holder(lease) == Some(&self.identity)
        {
            let lease = match self.lock.replace(lease, lease::released(lease, Timestamp::now())).await {
                // Either an own renewal whose answer was not awaited, or another process has the Lease.
                Err(LockError::Conflict) => self.lock.get().await?,
                written => Some(written?),
            };
            let Some(lease) = lease else { break };
            self.observe(lease);
        }
        Ok(())
    }

    async fn attempt_within(&mut self, limit: Duration) -> Result<Attempt, LockError> {
        let attempt = within(self.clock.clone(), limit, self.attempt()).await;
        let now = self.clock.now();
        self.state.send_modify(|state| {
            state.last_attempt = Some(now);
            state.has_reached_api |= !matches!(attempt, Err(LockError::Unreachable(_)));
        });
        attempt
    }

    async fn attempt(&mut self) -> Result<Attempt, LockError> {
        // A leader renews the version that it knows, without a read. If that version is outdated, it reads.
        if let Some(ObservedLease { lease, .. }) = &self.observed
            && lease::holder(lease) == Some(&self.identity)
        {
            let lease = lease.clone();
            match self.take_lease(Some(&lease)).await {
                Err(LockError::Conflict) => {}
                other => return other,
            }
        }
        let Some(lease) = self.lock.get().await? else {
            return self.attempt_absent().await;
        };
        self.absent_since = None;
        let since = self.observe(lease.clone());
        match lease::holder(&lease) {
            // A write of this process whose answer was lost. `took_over` was set before it and stays valid.
            Some(leader) if leader == self.identity => {}
            Some(leader) => {
                // The longer of the two: a candidate with a shorter duration must not take over early.
                if self.clock.now() < since.plus(lease::duration(&lease).max(LEASE_DURATION)) {
                    return Ok(Attempt::Following { leader: leader.to_owned() });
                }
                info!(%leader, "the leader has not renewed in time");
                self.took_over = true;
            }
            None => self.took_over = false,
        }
        self.try_take_lease(Some(&lease)).await
    }

    /// Makes an attempt while no Lease exists. Perhaps it never existed. Perhaps somebody deleted it: then its leader
    /// may be alive and not know, or may have been lost during a request that can still land. These cases look the
    /// same. So a candidate waits one lease duration, in which a live leader re-creates its Lease. Then it leads like
    /// one that took over from a lost leader.
    async fn attempt_absent(&mut self) -> Result<Attempt, LockError> {
        let now = self.clock.now();
        let since = *self.absent_since.get_or_insert(now);
        let (is_ours, wait) = self.observed.as_ref().map_or((false, Duration::ZERO), |seen| {
            (lease::holder(&seen.lease) == Some(&self.identity), lease::duration(&seen.lease))
        });
        // A leader that is still certain to lead re-creates its Lease immediately.
        let is_leading = is_ours && !self.remaining().is_zero();
        if !is_leading {
            if now < since.plus(wait.max(LEASE_DURATION)) {
                return Ok(Attempt::Absent);
            }
            self.took_over = true;
        }
        self.try_take_lease(None).await
    }

    async fn try_take_lease(&mut self, before: Option<&Lease>) -> Result<Attempt, LockError> {
        match self.take_lease(before).await {
            Err(LockError::Conflict) => Ok(Attempt::Conflict),
            other => other,
        }
    }

    /// Writes this process into the Lease, over the version `before` and no other.
    async fn take_lease(&mut self, before: Option<&Lease>) -> Result<Attempt, LockError> {
        // Before the request: the API server may have written at any time since, and candidates count from then.
        let from = self.clock.now();
        let spec = lease::taken_by(&self.identity, before, Timestamp::now());
        let written = match before {
            Some(lease) => self.lock.replace(lease, spec).await?,
            None => self.lock.create(spec).await?,
        };
        self.absent_since = None;
        self.observe(written);
        Ok(Attempt::Leading { from })
    }

    /// Stores the Lease and returns since when its content is the same. That is the time of the first read of the
    /// change, later than the change: for a candidate the safe side.
    fn observe(&mut self, lease: Lease) -> BootInstant {
        let since = match &self.observed {
            Some(seen) if seen.lease.spec == lease.spec => seen.since,
            _ => self.clock.now(),
        };
        self.observed = Some(ObservedLease { lease, since });
        since
    }
}

/// Gives up on a request after `limit`, by the clock of leadership.
async fn within<T>(
    clock: Arc<dyn Clock>,
    limit: Duration,
    request: impl Future<Output = Result<T, LockError>>,
) -> Result<T, LockError> {
    tokio::select! {
        // The answer first. The caller checks whether it came in time.
        biased;
        outcome = request => outcome,
        () = clock.sleep(limit) => Err(LockError::Unreachable("no answer in time".into())),
    }
}

#[cfg(test)]
mod tests;
