//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng;

/// Waits that double from one to the next, each a random part of it, so that fifty cameras that lost their
/// switch do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    current: Duration,
}

impl Backoff {
    /// Waits from about `first` to `most`.
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, current: initial }
    }

    /// The next wait: between half of and the whole of what it has grown to.
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.current;
        self.current = self.max.min(whole.saturating_mul(2));
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It went well: begin anew.
    pub const fn reset(&mut self) {
        self.current = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_maximum_and_resets() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for whole in [1, 2, 4, 8, 16, 30, 30] {
            let (wait, whole) = (backoff.next_delay(), Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }
}
