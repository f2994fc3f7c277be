//! Category of a camera's failure that its status shows. Pure.
//!
//! A category replaces another only after two attempts in a row: a camera that alternates between two errors would change its
//! status with every attempt.

use crate::wire::CameraFailure;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastFailure {
    shown: Option<CameraFailure>,
    /// Category of the latest attempt. `None`: the next one replaces `shown` at once.
    latest: Option<CameraFailure>,
}

impl LastFailure {
    pub fn observe(&mut self, failure: CameraFailure) {
        if self.latest.is_none_or(|latest| latest == failure) {
            self.shown = Some(failure);
        }
        self.latest = Some(failure);
    }

    /// Lets the next failure replace the shown one at once: a new configuration may have corrected that one.
    pub fn expect_another(&mut self) {
        self.latest = None;
    }

    pub const fn shown(self) -> Option<CameraFailure> {
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::CameraFailure::{Busy, PathNotFound, StreamEnded, Unreachable};

    fn shown(failures: &[CameraFailure]) -> Option<CameraFailure> {
        let mut last = LastFailure::default();
        for failure in failures {
            last.observe(*failure);
        }
        last.shown()
    }

    #[test]
    fn category_changes_after_two_equal_failures() {
        assert_eq!(shown(&[]), None);
        assert_eq!(shown(&[StreamEnded]), Some(StreamEnded));
        assert_eq!(shown(&[StreamEnded, Unreachable]), Some(StreamEnded));
        assert_eq!(shown(&[StreamEnded, Unreachable, Unreachable]), Some(Unreachable));
    }

    #[test]
    fn first_failure_of_another_configuration_counts_at_once() {
        let mut last = LastFailure::default();
        last.observe(Unreachable);
        last.expect_another();
        assert_eq!(last.shown(), Some(Unreachable), "until the next attempt");
        last.observe(PathNotFound);
        assert_eq!(last.shown(), Some(PathNotFound));
    }

    proptest! {
        #[test]
        fn alternating_failures_never_change_the_category(rounds in 1_usize..50) {
            let failures: Vec<CameraFailure> = [Busy, StreamEnded].into_iter().cycle().take(rounds).collect();
            prop_assert_eq!(shown(&failures), Some(Busy));
        }
    }
}
