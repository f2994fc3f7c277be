//! What stands in the Lease, and the times that election goes by.

use std::time::Duration;

use jiff::Timestamp;

/// Candidates try this much later at most than asked, so that they do not try all at once.
pub const JITTER: f64 = 0.2;

/// The times that election goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew_deadline: Duration,
    retry: Duration,
}

/// Why times cannot be used for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The Lease holds whole seconds: a fraction would be lost there, and others would take over early.
    #[error("the lease must be a whole number of seconds, from 1 to 3600")]
    Lease,
    /// The leader would write when others have taken over already.
    #[error("the lease must be longer than the renew deadline")]
    RenewDeadline,
    /// The leader would give up before it tried twice.
    #[error("the renew deadline must leave room for two tries, their jitter included")]
    Retry,
}

impl Timing {
    /// * `lease`: for how long others leave the leader alone after its last renewal; whole seconds.
    /// * `renew_deadline`: how long after its last renewal the leader takes itself for the leader.
    /// * `retry`: how often the leader renews and others look.
    pub fn new(lease: Duration, renew_deadline: Duration, retry: Duration) -> Result<Self, TimingError> {
        if lease.subsec_nanos() != 0 || !(1..=3600).contains(&lease.as_secs()) {
            return Err(TimingError::Lease);
        }
        if lease <= renew_deadline {
            return Err(TimingError::RenewDeadline);
        }
        if retry.is_zero() || retry.mul_f64(1.0 + JITTER).saturating_mul(2) >= renew_deadline {
            return Err(TimingError::Retry);
        }
        Ok(Self { lease, renew_deadline, retry })
    }

    /// See [`Timing::new`].
    pub const fn lease(self) -> Duration {
        self.lease
    }

    /// See [`Timing::new`].
    pub const fn renew_deadline(self) -> Duration {
        self.renew_deadline
    }

    /// The retry period, made up to [`JITTER`] longer by `chance` (0 to 1).
    pub fn retry(self, chance: f64) -> Duration {
        self.retry.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0))
    }
}

impl Default for Timing {
    /// 15 s, 10 s and 2 s, as Kubernetes' own components have it.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What stands in the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who leads; absent: nobody, the last leader let go.
    pub holder: Option<String>,
    /// For how long others leave the leader alone after a renewal.
    pub lease: Duration,
    /// When it began to lead, by its own wall clock. For people: nothing is decided by it.
    pub acquired: Option<Timestamp>,
    /// When it last renewed, by its own wall clock. For people: that it *changes* is what others go by.
    pub renewed: Option<Timestamp>,
    /// How often leadership has changed hands.
    pub transitions: i32,
}

impl Record {
    /// Whether `identity` stands in it as the leader.
    pub fn is_held_by(&self, identity: &str) -> bool {
        self.holder.as_deref() == Some(identity)
    }

    /// Whether nobody stands in it as the leader.
    pub const fn is_free(&self) -> bool {
        self.holder.is_none()
    }

    /// The record by which `identity` takes over from whoever is in `before`, or goes on leading.
    #[must_use]
    pub fn taken_by(before: Option<&Self>, identity: &str, timing: Timing, wall: Timestamp) -> Self {
        let (acquired, transitions) = match before {
            Some(record) if record.is_held_by(identity) => (record.acquired, record.transitions),
            Some(record) => (Some(wall), record.transitions.saturating_add(1)),
            None => (Some(wall), 0),
        };
        Self {
            holder: Some(identity.to_owned()),
            lease: timing.lease(),
            acquired,
            renewed: Some(wall),
            transitions,
        }
    }

    /// The record by which its leader lets go. One second, since the API takes nothing shorter.
    #[must_use]
    pub fn released(&self, wall: Timestamp) -> Self {
        Self { holder: None, lease: Duration::from_secs(1), renewed: Some(wall), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(lease: u64, renew: u64, retry: u64) -> Result<Timing, TimingError> {
        Timing::new(Duration::from_millis(lease), Duration::from_millis(renew), Duration::from_millis(retry))
    }

    #[test]
    fn only_times_that_keep_leaders_apart_are_taken() {
        assert_eq!(timing(15_000, 10_000, 2_000), Ok(Timing::default()));
        assert_eq!(timing(15_500, 10_000, 2_000), Err(TimingError::Lease));
        assert_eq!(timing(0, 10_000, 2_000), Err(TimingError::Lease));
        assert_eq!(timing(10_000, 10_000, 2_000), Err(TimingError::RenewDeadline));
        assert_eq!(timing(15_000, 10_000, 0), Err(TimingError::Retry));
        assert_eq!(timing(15_000, 10_000, 4_500), Err(TimingError::Retry));
    }

    #[test]
    fn retries_are_spread_over_a_fifth() {
        let timing = Timing::default();
        assert_eq!(timing.retry(0.0), Duration::from_secs(2));
        assert_eq!(timing.retry(1.0), Duration::from_millis(2400));
        assert_eq!(timing.retry(9.0), Duration::from_millis(2400));
    }

    #[test]
    fn a_renewal_keeps_and_a_takeover_counts() {
        let (t0, t1) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let first = Record::taken_by(None, "a", Timing::default(), t0);
        assert_eq!((first.transitions, first.acquired), (0, Some(t0)));
        let renewed = Record::taken_by(Some(&first), "a", Timing::default(), t1);
        assert_eq!((renewed.transitions, renewed.acquired, renewed.renewed), (0, Some(t0), Some(t1)));
        let released = renewed.released(t1);
        assert!(released.is_free() && !released.is_held_by("a"));
        let taken = Record::taken_by(Some(&released), "b", Timing::default(), t1);
        assert_eq!((taken.transitions, taken.acquired), (1, Some(t1)));
    }
}
