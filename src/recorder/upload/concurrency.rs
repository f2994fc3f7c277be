//! Number of concurrent uploads. Pure.

/// Concurrent uploads on a fast line.
const MAX_UPLOADS: usize = 4;
/// Successes in a row after which one more upload runs. Each attempt at more than the line can carry wastes what it sent.
const SUCCESSES_PER_INCREASE: u32 = 8;

/// Limit of concurrent uploads, from 1 to [`MAX_UPLOADS`]. Uploads that share a slow line all time out, and none of their
/// bytes counts.
#[derive(Debug)]
pub struct UploadConcurrency {
    limit: usize,
    /// Successes since the last change of the limit.
    successes: u32,
}

impl Default for UploadConcurrency {
    fn default() -> Self {
        Self { limit: MAX_UPLOADS, successes: 0 }
    }
}

impl UploadConcurrency {
    pub const fn limit(&self) -> usize {
        self.limit
    }

    pub fn record_success(&mut self) {
        self.successes = self.successes.saturating_add(1);
        if self.successes >= SUCCESSES_PER_INCREASE && self.limit < MAX_UPLOADS {
            *self = Self { limit: self.limit + 1, successes: 0 };
        }
    }

    /// Halves the limit.
    pub fn record_timeout(&mut self) {
        *self = Self { limit: (self.limit / 2).max(1), successes: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uploads in rounds over a line that carries `capacity` uploads in time. Returns successes and timeouts.
    fn upload(concurrency: &mut UploadConcurrency, capacity: usize, rounds: usize) -> (usize, usize) {
        let (mut succeeded, mut timed_out) = (0, 0);
        for _ in 0..rounds {
            let running = concurrency.limit();
            for _ in 0..running {
                if running <= capacity {
                    concurrency.record_success();
                    succeeded += 1;
                } else {
                    concurrency.record_timeout();
                    timed_out += 1;
                }
            }
        }
        (succeeded, timed_out)
    }

    #[test]
    fn slow_line_wastes_few_uploads() {
        for capacity in 1..MAX_UPLOADS {
            let (succeeded, timed_out) = upload(&mut UploadConcurrency::default(), capacity, 1000);
            assert!(timed_out * 3 <= succeeded, "{capacity}: {timed_out} of {succeeded}");
        }
    }

    #[test]
    fn fast_line_regains_full_concurrency() {
        let mut concurrency = UploadConcurrency::default();
        assert_eq!(upload(&mut concurrency, MAX_UPLOADS, 10), (40, 0));
        upload(&mut concurrency, 0, 10);
        assert_eq!(concurrency.limit(), 1, "a store that never answers is tried by one upload");
        upload(&mut concurrency, MAX_UPLOADS, 20);
        assert_eq!(concurrency.limit(), MAX_UPLOADS);
    }
}
