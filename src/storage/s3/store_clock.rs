//! The store's clock, as its answers show it. What lives how long is decided by ours; where the two disagree,
//! one of them is wrong, and nothing may be deleted by it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use jiff::{SignedDuration, Timestamp};

use super::simulation::LocalClock;
use crate::api::MAX_CLOCK_SKEW;

/// The two clocks are too far apart to delete anything by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock and the store's are {} s apart, more than {} s: put the wrong one right; nothing is deleted until \
     then", .skew.as_secs(), MAX_CLOCK_SKEW.as_secs()
)]
pub struct ClockSkew {
    /// By how much ours is ahead; negative: behind.
    pub skew: SignedDuration,
}

/// A reading of our clock, and the instant that is decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionTime {
    pub clock_reading: Timestamp,
    /// What counts as now: the same, or so much ahead as is decided at once.
    pub now: Timestamp,
}

impl DecisionTime {
    /// Decides by the clock as it was read.
    pub const fn at(read: Timestamp) -> Self {
        Self { clock_reading: read, now: read }
    }
}

/// The `Date` of the last answer (RFC 9110, section 6.6.1), and when it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreClock {
    local: LocalClock,
    last_answer: Arc<Mutex<Option<(Timestamp, Timestamp)>>>,
}

impl StoreClock {
    /// One that is compared with `ours`.
    pub(crate) fn new(ours: LocalClock) -> Self {
        Self { local: ours, last_answer: Arc::default() }
    }

    /// Fails if the last answer came with a date too far from ours. A store that sends none is not doubted.
    pub(crate) fn check(&self) -> Result<(), ClockSkew> {
        let last = *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Ok(()), |(theirs, ours)| check_skew(theirs, ours))
    }

    /// The earlier of `ours` and what the last answer said: what opens with time must not open early because one clock is ahead.
    pub(crate) fn earlier(&self, ours: Timestamp) -> Timestamp {
        let last = *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(ours, |(theirs, _)| ours.min(theirs))
    }

    /// Fails as [`Self::check`] does, and if our clock was ahead of the store's when `time` was read: it may have been set since.
    pub(crate) fn check_time(&self, time: DecisionTime) -> Result<(), ClockSkew> {
        self.check()?;
        let last = *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner);
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

/// The instant that an answer's `Date` says.
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
            *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((theirs, self.local.now()));
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
