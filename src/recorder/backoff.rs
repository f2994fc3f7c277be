//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng;

/// Waits that double from one to the next, each a random part of it, so that fifty cameras that lost their
/// switch do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from about `first` to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait: between half of and the whole of what it has grown to.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = self.most.min(whole.saturating_mul(2));
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It went well: begin anew.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_most_and_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for whole in [1, 2, 4, 8, 16, 30, 30] {
            let (wait, whole) = (backoff.wait(), Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_secs(1));
    }
}
