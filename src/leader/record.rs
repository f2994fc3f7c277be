//! What stands in the Lease, and the times that election goes by.

use std::time::Duration;

use jiff::Timestamp;

/// Candidates try this much later at most than asked, so that they do not try all at once.
pub const JITTER: f64 = 0.2;

/// The times that election goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionTiming {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why times cannot be used for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElectionTimingError {
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

impl ElectionTiming {
    /// * `lease`: for how long others leave the leader alone after its last renewal; whole seconds.
    /// * `renew_deadline`: how long after its last renewal the leader takes itself for the leader.
    /// * `retry`: how often the leader renews and others look.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, ElectionTimingError> {
        if lease_duration.subsec_nanos() != 0 || !(1..=3600).contains(&lease_duration.as_secs()) {
            return Err(ElectionTimingError::Lease);
        }
        if lease_duration <= renew_deadline {
            return Err(ElectionTimingError::RenewDeadline);
        }
        if retry_period.is_zero() || retry_period.mul_f64(1.0 + JITTER).saturating_mul(2) >= renew_deadline {
            return Err(ElectionTimingError::Retry);
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    /// See [`ElectionTiming::new`].
    pub const fn lease_duration(self) -> Duration {
        self.lease_duration
    }

    /// See [`ElectionTiming::new`].
    pub const fn renew_deadline(self) -> Duration {
        self.renew_deadline
    }

    /// The retry period, made up to [`JITTER`] longer by `chance` (0 to 1).
    pub fn jittered_retry_period(self, chance: f64) -> Duration {
        self.retry_period.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0))
    }
}

impl Default for ElectionTiming {
    /// 15 s, 10 s and 2 s, as Kubernetes' own components have it.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionRecord {
    /// Who leads; absent: nobody, the last leader let go.
    pub holder: Option<String>,
    /// For how long others leave the leader alone after a renewal.
    pub lease_duration: Duration,
    /// When it began to lead, by its own wall clock. For people: nothing is decided by it.
    pub acquire_time: Option<Timestamp>,
    /// When it last renewed, by its own wall clock. For people: that it *changes* is what others go by.
    pub renew_time: Option<Timestamp>,
    /// How often leadership has changed hands.
    pub transitions: i32,
}

impl ElectionRecord {
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
    pub fn taken_by(before: Option<&Self>, identity: &str, timing: ElectionTiming, wall: Timestamp) -> Self {
        let (acquired, transitions) = match before {
            Some(record) if record.is_held_by(identity) => (record.acquire_time, record.transitions),
            Some(record) => (Some(wall), record.transitions.saturating_add(1)),
            None => (Some(wall), 0),
        };
        Self {
            holder: Some(identity.to_owned()),
            lease_duration: timing.lease_duration(),
            acquire_time: acquired,
            renew_time: Some(wall),
            transitions,
        }
    }

    /// The record by which its leader lets go. One second, since the API takes nothing shorter.
    #[must_use]
    pub fn released(&self, wall: Timestamp) -> Self {
        Self { holder: None, lease_duration: Duration::from_secs(1), renew_time: Some(wall), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(lease: u64, renew: u64, retry: u64) -> Result<ElectionTiming, ElectionTimingError> {
        ElectionTiming::new(
            Duration::from_millis(lease),
            Duration::from_millis(renew),
            Duration::from_millis(retry),
        )
    }

    #[test]
    fn timing_that_allows_two_leaders_is_rejected() {
        assert_eq!(timing(15_000, 10_000, 2_000), Ok(ElectionTiming::default()));
        assert_eq!(timing(15_500, 10_000, 2_000), Err(ElectionTimingError::Lease));
        assert_eq!(timing(0, 10_000, 2_000), Err(ElectionTimingError::Lease));
        assert_eq!(timing(10_000, 10_000, 2_000), Err(ElectionTimingError::RenewDeadline));
        assert_eq!(timing(15_000, 10_000, 0), Err(ElectionTimingError::Retry));
        assert_eq!(timing(15_000, 10_000, 4_500), Err(ElectionTimingError::Retry));
    }

    #[test]
    fn retry_period_is_jittered_by_up_to_a_fifth() {
        let timing = ElectionTiming::default();
        assert_eq!(timing.jittered_retry_period(0.0), Duration::from_secs(2));
        assert_eq!(timing.jittered_retry_period(1.0), Duration::from_millis(2400));
        assert_eq!(timing.jittered_retry_period(9.0), Duration::from_millis(2400));
    }

    #[test]
    fn takeover_counts_a_transition_and_renewal_does_not() {
        let (t0, t1) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let first = ElectionRecord::taken_by(None, "a", ElectionTiming::default(), t0);
        assert_eq!((first.transitions, first.acquire_time), (0, Some(t0)));
        let renewed = ElectionRecord::taken_by(Some(&first), "a", ElectionTiming::default(), t1);
        assert_eq!((renewed.transitions, renewed.acquire_time, renewed.renew_time), (0, Some(t0), Some(t1)));
        let released = renewed.released(t1);
        assert!(released.is_free() && !released.is_held_by("a"));
        let taken = ElectionRecord::taken_by(Some(&released), "b", ElectionTiming::default(), t1);
        assert_eq!((taken.transitions, taken.acquire_time), (1, Some(t1)));
    }
}
