//! How long a pass goes on before others have their turn: the release, the sweep, and whatever was declared since.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;

use crate::storage::recordings::error::HoldError;

/// A sweep is due hourly, and looks two hours ahead.
const MIN_PASS_DURATION: Duration = Duration::from_mins(20);

/// The turn of passes of one kind. Each begins anew at the first place. What an earlier one read since the first that did not come
/// to its end is not read again; and where there is no room to remember that, each is twice as long as the one before, so that one
/// comes to its end, however much there is.
#[derive(Debug, Default)]
pub struct PassDeadline(Mutex<DeadlineState>);

#[derive(Debug)]
struct DeadlineState {
    duration: Duration,
    /// When the first pass over everything began of those that did not come to their end.
    started_at: Option<Timestamp>,
    /// The day to which the last of them came.
    reached_day: Option<Date>,
}

impl Default for DeadlineState {
    fn default() -> Self {
        Self { duration: MIN_PASS_DURATION, started_at: None, reached_day: None }
    }
}

impl PassDeadline {
    /// When one that begins now is over.
    pub(crate) fn instant(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.state().duration).unwrap_or(now + MIN_PASS_DURATION)
    }

    /// When the first pass began of those over everything that did not come to their end; `None`: the last one did.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.state().started_at
    }

    /// The day to which the last pass came; `None`: to the end. What is later has its turn first: it may be of other holds.
    pub(crate) fn reached_day(&self) -> Option<Date> {
        self.state().reached_day
    }

    /// The turn of a pass over less than everything was too short.
    pub(crate) fn extend(&self) {
        let mut state = self.state();
        state.duration = state.duration.saturating_mul(2);
    }

    /// Nothing is left to go on with.
    pub fn reset(&self) {
        *self.state() = DeadlineState::default();
    }

    /// What came of a pass over everything that began at `now`.
    pub(crate) fn note_result(&self, ended: &Result<(), HoldError>, now: Timestamp) {
        let mut state = self.state();
        match ended {
            Err(HoldError::PassTimeout { day }) => {
                state.duration = state.duration.saturating_mul(2);
                state.started_at.get_or_insert(now);
                state.reached_day = Some(*day);
            }
            Ok(()) => *state = DeadlineState::default(),
            Err(_) => (),
        }
    }

    fn state(&self) -> MutexGuard<'_, DeadlineState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::error::StoreError;

    #[tokio::test(start_paused = true)]
    async fn deadline_doubles_until_pass_completes() {
        let turn = PassDeadline::default();
        let lasts = || turn.instant() - Instant::now();
        let at = |second| Timestamp::from_second(second).unwrap();
        let failed = StoreError { operation: "ListObjectVersions", code: "Timeout".into(), status: None };
        let day = jiff::civil::date(2026, 3, 7);
        let over = || Err(HoldError::PassTimeout { day });
        for (second, ended, minutes, began) in [
            (1, Ok(()), 20, None),
            (2, over(), 40, Some(2)),
            (3, Err(failed.into()), 40, Some(2)),
            (4, over(), 80, Some(2)),
            (5, Ok(()), 20, None),
        ] {
            turn.note_result(&ended, at(second));
            assert_eq!(lasts(), Duration::from_mins(minutes), "{ended:?}");
            assert_eq!(turn.started_at(), began.map(at), "{ended:?}");
            assert_eq!(turn.reached_day(), began.map(|_| day), "{ended:?}");
        }
        (0..200).for_each(|second| turn.note_result(&over(), at(second)));
        assert!(lasts() >= MIN_PASS_DURATION);
    }
}
