//! Polling for conditions. Timeouts only end a test that hangs; no test asserts a duration through them.

use std::time::{Duration, Instant};

/// Timeout after which a test counts as hung. It is longer than any step takes on a loaded machine.
pub const HANG: Duration = Duration::from_mins(10);
/// Shortest pause between two polls.
const PAUSE: Duration = Duration::from_millis(200);

/// Polls until `check` returns a value. Panics with the last error of `check` after [`HANG`] or `limit`, whichever is
/// longer.
pub async fn eventually<T, F>(description: &str, limit: Duration, check: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    eventually_every(PAUSE, description, limit, check).await
}

/// Polls as [`eventually`], with at least this pause. It is as long as the check, which shares the machine with what it waits for.
pub async fn eventually_every<T, F>(
    pause: Duration,
    description: &str,
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let (start, limit) = (Instant::now(), limit.max(HANG));
    loop {
        let began = Instant::now();
        match check().await {
            Ok(value) => return value,
            Err(last) if start.elapsed() > limit => {
                panic!("{description}: not within {limit:?}; last result: {last}")
            }
            Err(_) => tokio::time::sleep(began.elapsed().max(pause)).await,
        }
    }
}

/// Waits until the clock has passed `instant`.
pub async fn wait_until_past(instant: jiff::Timestamp) {
    eventually("the clock passes the instant", HANG, || async {
        let has_passed = jiff::Timestamp::now() > instant;
        has_passed.then_some(()).ok_or_else(String::new)
    })
    .await;
}

/// Returns the next time limit after which a test interrupts an operation: a quarter longer than `limit`, at least
/// `step`. With `make test-crash` it is exactly `step` longer.
pub fn next_stop(limit: Duration, step: Duration) -> Duration {
    let quarter =
        if std::env::var_os("TOEZICHT_TEST_KILL_EVERY").is_some() { Duration::ZERO } else { limit / 4 };
    limit + step.max(quarter)
}
