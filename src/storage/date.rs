//! The store's clock, as its answers show it. What lives how long is decided by ours; where the two disagree,
//! one of them is wrong, and nothing may be deleted by it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use jiff::{SignedDuration, Timestamp};

use super::simulated::Clock;
use crate::api::TOLERANCE;

/// The two clocks are too far apart to delete anything by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock and the store's are {} s apart, more than {} s: put the wrong one right; nothing is deleted until \
     then", .apart.as_secs(), TOLERANCE.as_secs()
)]
pub struct ClocksDisagree {
    /// By how much ours is ahead; negative: behind.
    pub apart: SignedDuration,
}

/// A reading of our clock, and the instant that is decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// What our clock said.
    pub read: Timestamp,
    /// What counts as now: the same, or so much ahead as is decided at once.
    pub now: Timestamp,
}

impl Time {
    /// Decides by the clock as it was read.
    pub const fn of(read: Timestamp) -> Self {
        Self { read, now: read }
    }
}

/// The `Date` of the last answer (RFC 9110, section 6.6.1), and when it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreClock {
    ours: Clock,
    last: Arc<Mutex<Option<(Timestamp, Timestamp)>>>,
}

impl StoreClock {
    /// One that is compared with `ours`.
    pub(crate) fn new(ours: Clock) -> Self {
        Self { ours, last: Arc::default() }
    }

    /// Fails if the last answer came with a date too far from ours. A store that sends none is not doubted.
    pub(crate) fn check(&self) -> Result<(), ClocksDisagree> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Ok(()), |(theirs, ours)| agree(theirs, ours))
    }

    /// The earlier of `ours` and what the last answer said: what opens with time must not open early because one clock is ahead.
    pub(crate) fn earlier(&self, ours: Timestamp) -> Timestamp {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(ours, |(theirs, _)| ours.min(theirs))
    }

    /// Fails as [`Self::check`] does, and if our clock was ahead of the store's when `time` was read: it may have been set since.
    pub(crate) fn vouches_for(&self, time: Time) -> Result<(), ClocksDisagree> {
        self.check()?;
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.map(|(theirs, _)| time.read.duration_since(theirs)) {
            Some(apart) if apart > TOLERANCE => Err(ClocksDisagree { apart }),
            _ => Ok(()),
        }
    }
}

fn agree(theirs: Timestamp, ours: Timestamp) -> Result<(), ClocksDisagree> {
    let apart = ours.duration_since(theirs);
    if apart.abs() > TOLERANCE {
        return Err(ClocksDisagree { apart });
    }
    Ok(())
}

/// The instant that an answer's `Date` says.
pub(crate) fn of_headers(date: Option<&str>) -> Option<Timestamp> {
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
        if let Some(theirs) = of_headers(context.response().headers().get("date")) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((theirs, self.ours.now()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_too_much() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (theirs, ours, agreed) in
            [(100, 100, true), (100, 160, true), (160, 100, true), (100, 161, false), (161, 100, false)]
        {
            assert_eq!(agree(at(theirs), at(ours)).is_ok(), agreed, "{theirs} {ours}");
        }
        assert!(StoreClock::default().check().is_ok());
        let said = agree(at(0), at(3600)).unwrap_err().to_string();
        assert!(said.contains("3600 s apart"), "{said}");
    }

    #[test]
    fn a_clock_that_was_set_right_since_vouches_for_no_time_that_was_read_ahead() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let clock = StoreClock::default();
        assert_eq!(clock.vouches_for(Time::of(at(3600))), Ok(()), "no date came yet");
        *clock.last.lock().unwrap() = Some((at(100), at(100)));
        for (read, is_ahead) in [(0, false), (100, false), (160, false), (161, true), (3600, true)] {
            assert_eq!(clock.check(), Ok(()), "{read}");
            assert_eq!(clock.vouches_for(Time::of(at(read))).is_err(), is_ahead, "{read}");
        }
        let decided_ahead = Time { read: at(100), now: at(7300) };
        assert_eq!(clock.vouches_for(decided_ahead), Ok(()));
    }

    #[test]
    fn dates_are_read() {
        let date = Some("Tue, 24 Nov 2026 12:06:25 GMT");
        assert_eq!(of_headers(date), "2026-11-24T12:06:25Z".parse().ok());
        assert_eq!(of_headers(Some("yesterday")), None);
    }
}
