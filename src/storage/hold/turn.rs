//! How long a pass goes on before others have their turn: the release, the sweep, and whatever was declared since.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::HoldError;

/// A sweep is due hourly, and looks two hours ahead.
const SHORTEST: Duration = Duration::from_mins(20);

/// The turn of passes of one kind. Each begins anew at the first place, and what was done before takes little then; still, after one
/// that did not come to its end the next is twice as long, so that one does, however much there is.
#[derive(Debug)]
pub(super) struct Turn(Mutex<Duration>);

impl Default for Turn {
    fn default() -> Self {
        Self(Mutex::new(SHORTEST))
    }
}

impl Turn {
    /// When one that begins now is over.
    pub(super) fn ends(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(*self.lasts()).unwrap_or(now + SHORTEST)
    }

    /// What came of a pass over everything.
    pub(super) fn note(&self, ended: &Result<(), HoldError>) {
        let mut lasts = self.lasts();
        *lasts = match ended {
            Err(HoldError::TurnOver) => lasts.saturating_mul(2),
            Ok(()) => SHORTEST,
            Err(_) => return,
        };
    }

    fn lasts(&self) -> MutexGuard<'_, Duration> {
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
        let failed = StoreError {
            operation: "ListObjectVersions",
            code: "Timeout".into(),
            status: None,
        };
        for (ended, minutes) in [
            (Ok(()), 20),
            (Err(HoldError::TurnOver), 40),
            (Err(failed.into()), 40),
            (Err(HoldError::TurnOver), 80),
            (Ok(()), 20),
        ] {
            turn.note(&ended);
            assert_eq!(lasts(), Duration::from_mins(minutes), "{ended:?}");
        }
        (0..200).for_each(|_| turn.note(&Err(HoldError::TurnOver)));
        assert!(lasts() >= SHORTEST);
    }
}
