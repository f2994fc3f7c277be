//! Waits between attempts.

use std::time::Duration;

use rand::Rng;

pub const INITIAL: Duration = Duration::from_secs(1);
pub const MAX: Duration = Duration::from_secs(30);

/// Waits that double from [`INITIAL`] to [`MAX`]. Each is a random part of that, so that fifty cameras behind one switch do
/// not reconnect in step.
#[derive(Debug)]
pub struct Backoff {
    current: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { current: INITIAL }
    }
}

impl Backoff {
    /// Returns the next wait: from half of the current value to all of it.
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.current;
        self.current = MAX.min(whole.saturating_mul(2));
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    pub const fn reset(&mut self) {
        self.current = INITIAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_maximum_and_resets() {
        let mut backoff = Backoff::default();
        for whole in [1, 2, 4, 8, 16, 30, 30] {
            let (wait, whole) = (backoff.next_delay(), Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }
}
