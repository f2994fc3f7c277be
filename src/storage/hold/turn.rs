//! How long a pass goes on before others have their turn: the release, the sweep, and whatever was declared since.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;

use super::HoldError;

/// A sweep is due hourly, and looks two hours ahead.
const SHORTEST: Duration = Duration::from_mins(20);

/// The turn of passes of one kind. Each begins anew at the first place. What an earlier one read since the first that did not come
/// to its end is not read again; and where there is no room to remember that, each is twice as long as the one before, so that one
/// comes to its end, however much there is.
#[derive(Debug, Default)]
pub struct Turn(Mutex<State>);

#[derive(Debug)]
struct State {
    lasts: Duration,
    /// When the first pass over everything began of those that did not come to their end.
    began: Option<Timestamp>,
    /// The day to which the last of them came.
    reached: Option<Date>,
}

impl Default for State {
    fn default() -> Self {
        Self { lasts: SHORTEST, began: None, reached: None }
    }
}

impl Turn {
    /// When one that begins now is over.
    pub(super) fn ends(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.state().lasts).unwrap_or(now + SHORTEST)
    }

    /// When the first pass began of those over everything that did not come to their end; `None`: the last one did.
    pub fn began(&self) -> Option<Timestamp> {
        self.state().began
    }

    /// The day to which the last pass came; `None`: to the end. What is later has its turn first: it may be of other holds.
    pub(super) fn reached(&self) -> Option<Date> {
        self.state().reached
    }

    /// The turn of a pass over less than everything was too short.
    pub(super) fn lengthen(&self) {
        let mut state = self.state();
        state.lasts = state.lasts.saturating_mul(2);
    }

    /// Nothing is left to go on with.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// What came of a pass over everything that began at `now`.
    pub(super) fn note(&self, ended: &Result<(), HoldError>, now: Timestamp) {
        let mut state = self.state();
        match ended {
            Err(HoldError::TurnOver { day }) => {
                state.lasts = state.lasts.saturating_mul(2);
                state.began.get_or_insert(now);
                state.reached = Some(*day);
            }
            Ok(()) => *state = State::default(),
            Err(_) => (),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::error::StoreError;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_twice_as_long_until_a_pass_comes_to_its_end() {
        let turn = Turn::default();
        let lasts = || turn.ends() - Instant::now();
        let at = |second| Timestamp::from_second(second).unwrap();
        let failed = StoreError { operation: "ListObjectVersions", code: "Timeout".into(), status: None };
        let day = jiff::civil::date(2026, 3, 7);
        let over = || Err(HoldError::TurnOver { day });
        for (second, ended, minutes, began) in [
            (1, Ok(()), 20, None),
            (2, over(), 40, Some(2)),
            (3, Err(failed.into()), 40, Some(2)),
            (4, over(), 80, Some(2)),
            (5, Ok(()), 20, None),
        ] {
            turn.note(&ended, at(second));
            assert_eq!(lasts(), Duration::from_mins(minutes), "{ended:?}");
            assert_eq!(turn.began(), began.map(at), "{ended:?}");
            assert_eq!(turn.reached(), began.map(|_| day), "{ended:?}");
        }
        (0..200).for_each(|second| turn.note(&over(), at(second)));
        assert!(lasts() >= SHORTEST);
    }
}
