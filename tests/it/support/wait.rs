//! Waiting for a condition. A limit ends a test that hangs; no limit is what a test asserts.

use std::time::{Duration, Instant};

/// Longer than anything takes on a machine that others load too. A test that waits longer hangs.
pub const HANG: Duration = Duration::from_mins(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Polls until `look` gives a value. Panics with what `look` saw last when that takes longer than [`HANG`], or than
/// `limit` where that is even longer.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let (start, limit) = (Instant::now(), limit.max(HANG));
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Waits until the clock has passed `instant`.
pub async fn past(instant: jiff::Timestamp) {
    eventually("the clock gets there", HANG, || async {
        let has_passed = jiff::Timestamp::now() > instant;
        has_passed.then_some(()).ok_or_else(String::new)
    })
    .await;
}

/// After how long something is stopped next that was stopped after `limit`: a quarter later, or no more than `step` later with
/// `make test-crash`.
pub fn next_stop(limit: Duration, step: Duration) -> Duration {
    let quarter =
        if std::env::var_os("TOEZICHT_TEST_KILL_EVERY").is_some() { Duration::ZERO } else { limit / 4 };
    limit + step.max(quarter)
}
