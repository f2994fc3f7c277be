//! Waiting for a condition, with a limit and the last thing seen.

use std::time::{Duration, Instant};

/// Polls until `look` gives a value; panics after `limit` with what `look` said last.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Waits until the clock has passed `instant`.
pub async fn past(instant: jiff::Timestamp) {
    eventually("the clock gets there", Duration::from_secs(10), || async {
        let has_passed = jiff::Timestamp::now() > instant;
        has_passed.then_some(()).ok_or_else(String::new)
    })
    .await;
}

/// Checks for the whole of `time` that `look` stays well.
pub async fn throughout<F>(what: &str, time: Duration, mut look: impl FnMut() -> F)
where
    F: Future<Output = Result<(), String>>,
{
    let start = Instant::now();
    while start.elapsed() < time {
        if let Err(seen) = look().await {
            panic!("{what}: broken after {:?}: {seen}", start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
