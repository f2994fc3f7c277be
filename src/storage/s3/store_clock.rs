//! Clock of the store, from its answers. Lifetimes are decided by the local clock. If the two differ, one is wrong, and
//! nothing may be deleted.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use jiff::{SignedDuration, Timestamp};

use super::simulation::LocalClock;
use crate::api::MAX_CLOCK_SKEW;
use crate::sync::lock;

/// The clocks are too far apart to delete anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clocks of this machine and the store are {} s apart, more than {} s; correct the wrong clock. Until it is correct, \
     nothing is deleted", .skew.as_secs(), MAX_CLOCK_SKEW.as_secs()
)]
pub struct ClockSkew {
    /// Lead of the local clock; negative if it is behind.
    pub skew: SignedDuration,
}

/// Reading of the local clock, and the instant to decide for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionTime {
    pub clock_reading: Timestamp,
    /// Equal to the reading, or ahead of it by as much as is decided in advance.
    pub now: Timestamp,
}

impl DecisionTime {
    /// Decides for the time of the reading.
    pub const fn at(read: Timestamp) -> Self {
        Self { clock_reading: read, now: read }
    }
}

/// `Date` of the last answer (RFC 9110, section 6.6.1) and its local arrival time.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreClock {
    local: LocalClock,
    last_answer: Arc<Mutex<Option<(Timestamp, Timestamp)>>>,
}

impl StoreClock {
    pub(crate) fn new(ours: LocalClock) -> Self {
        Self { local: ours, last_answer: Arc::default() }
    }

    /// Fails if the `Date` of the last answer is too far from the local clock. A store without `Date` passes.
    pub(crate) fn check(&self) -> Result<(), ClockSkew> {
        let last = *lock(&self.last_answer);
        last.map_or(Ok(()), |(theirs, ours)| check_skew(theirs, ours))
    }

    /// Returns the earlier of `ours` and the store's time: a fast clock must not end an embargo early.
    pub(crate) fn earlier(&self, ours: Timestamp) -> Timestamp {
        let last = *lock(&self.last_answer);
        last.map_or(ours, |(theirs, _)| ours.min(theirs))
    }

    /// Fails like [`Self::check`], or if the local clock was ahead of the store's at the reading of `time`, since it
    /// may have been corrected.
    pub(crate) fn check_time(&self, time: DecisionTime) -> Result<(), ClockSkew> {
        self.check()?;
        let last = *lock(&self.last_answer);
        match last.map(|(theirs, _)| time.clock_reading.duration_since(theirs)) {
            Some(apart) if apart > MAX_CLOCK_SKEW => Err(ClockSkew { skew: apart }),
            _ => Ok(()),
        }
    }
}

fn check_skew(theirs: Timestamp, ours: Timestamp) -> Result<(), ClockSkew> {
    let apart = ours.duration_since(theirs);
    if apart.abs() > MAX_CLOCK_SKEW {
        return Err(ClockSkew { skew: apart });
    }
    Ok(())
}

/// Parses a `Date` header.
pub(crate) fn parse_date_header(date: Option<&str>) -> Option<Timestamp> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    date.and_then(|date| parser.parse_timestamp(date).ok())
}

impl Intercept for StoreClock {
    fn name(&self) -> &'static str {
        "StoreClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(theirs) = parse_date_header(context.response().headers().get("date")) {
            *lock(&self.last_answer) = Some((theirs, self.local.now()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_over_a_minute_is_rejected() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (theirs, ours, agreed) in
            [(100, 100, true), (100, 160, true), (160, 100, true), (100, 161, false), (161, 100, false)]
        {
            assert_eq!(check_skew(at(theirs), at(ours)).is_ok(), agreed, "{theirs} {ours}");
        }
        assert!(StoreClock::default().check().is_ok());
        let said = check_skew(at(0), at(3600)).unwrap_err().to_string();
        assert!(said.contains("3600 s apart"), "{said}");
    }

    #[test]
    fn time_read_ahead_of_the_store_is_rejected_after_clock_correction() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let clock = StoreClock::default();
        assert_eq!(clock.check_time(DecisionTime::at(at(3600))), Ok(()), "no date came yet");
        *clock.last_answer.lock().unwrap() = Some((at(100), at(100)));
        for (read, is_ahead) in [(0, false), (100, false), (160, false), (161, true), (3600, true)] {
            assert_eq!(clock.check(), Ok(()), "{read}");
            assert_eq!(clock.check_time(DecisionTime::at(at(read))).is_err(), is_ahead, "{read}");
        }
        let decided_ahead = DecisionTime { clock_reading: at(100), now: at(7300) };
        assert_eq!(clock.check_time(decided_ahead), Ok(()));
    }

    #[test]
    fn date_header_is_parsed() {
        let date = Some("Tue, 24 Nov 2026 12:06:25 GMT");
        assert_eq!(parse_date_header(date), "2026-11-24T12:06:25Z".parse().ok());
        assert_eq!(parse_date_header(Some("yesterday")), None);
    }
}
