//! Deadline of a pass, so that releases, sweeps and new holds are not delayed.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;

use crate::storage::recordings::HoldError;
use crate::sync::lock;

/// A sweep is due hourly and looks two hours ahead.
const MIN_PASS_DURATION: Duration = Duration::from_mins(20);

/// Deadline of passes of one kind.
///
/// Each pass starts at the first day. It trusts protections that earlier incomplete passes have read. In case the cache
/// has no room for these, each pass lasts twice as long as the previous one, so that one completes.
#[derive(Debug, Default)]
pub struct PassDeadline(Mutex<DeadlineState>);

#[derive(Debug)]
struct DeadlineState {
    duration: Duration,
    /// Start of the first of the full passes that did not complete.
    started_at: Option<Timestamp>,
    /// Day that the last of them reached.
    reached_day: Option<Date>,
}

impl Default for DeadlineState {
    fn default() -> Self {
        Self { duration: MIN_PASS_DURATION, started_at: None, reached_day: None }
    }
}

impl PassDeadline {
    /// Returns the deadline of a pass that starts now.
    pub(crate) fn instant(&self) -> Instant {
        let now = Instant::now();
        // The duration doubles without limit, and `+` panics beyond the last instant.
        let deadline = now.checked_add(lock(&self.0).duration).or_else(|| now.checked_add(MIN_PASS_DURATION));
        deadline.unwrap_or(now)
    }

    /// Returns the start of the first incomplete full pass. `None`: the last one completed.
    pub fn started_at(&self) -> Option<Timestamp> {
        lock(&self.0).started_at
    }

    /// Returns the day that the last pass reached. `None`: it completed. Later days go first, since they may belong to
    /// other holds.
    pub(crate) fn reached_day(&self) -> Option<Date> {
        lock(&self.0).reached_day
    }

    /// Doubles the duration after a partial pass timed out.
    pub(crate) fn extend(&self) {
        let mut state = lock(&self.0);
        state.duration = state.duration.saturating_mul(2);
    }

    /// Forgets incomplete passes.
    pub fn reset(&self) {
        *lock(&self.0) = DeadlineState::default();
    }

    /// Records the result of a full pass that started at `now`.
    pub(crate) fn note_result(&self, ended: &Result<(), HoldError>, now: Timestamp) {
        let mut state = lock(&self.0);
        match ended {
            Err(HoldError::PassTimeout { day }) => {
                state.duration = state.duration.saturating_mul(2);
                state.started_at.get_or_insert(now);
                state.reached_day = Some(*day);
            }
            Ok(()) => *state = DeadlineState::default(),
            // Another failure does not show how long a pass takes.
            Err(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::StoreError;

    #[tokio::test(start_paused = true)]
    async fn deadline_doubles_until_pass_completes() {
        let turn = PassDeadline::default();
        let lasts = || turn.instant() - Instant::now();
        let at = |second| Timestamp::from_second(second).unwrap();
        let failed = StoreError::without_status("ListObjectVersions", "Timeout");
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
