//! Sends one request for each of many versions, so that single failures do not discard the other answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};

use super::error::StoreError;

/// Pause before failed requests are retried.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Requests each of `all`, `at_once` at a time, and passes the answers to `note`. Retries failures once, after all
/// others. Returns permanent failures with their errors.
///
/// Returns the last error if `at_once` requests fail in a row: then the cause is not the version. A failure counts only
/// if the store has answered nothing since the request began, because slow failures complete together.
pub(crate) async fn request_each<T, A, F>(
    all: Vec<T>,
    at_once: usize,
    ask: impl Fn(T) -> F,
    mut note: impl FnMut(T, A),
) -> Result<Vec<(T, StoreError)>, StoreError>
where
    F: Future<Output = (T, Result<A, StoreError>)>,
{
    let (mut left, mut failed, answered) = (all, Vec::new(), AtomicUsize::new(0));
    let count = || answered.load(Ordering::Relaxed);
    for is_last in [false, true] {
        let mut in_a_row = 0;
        let asked: Vec<_> = left.drain(..).map(|of| async { (count(), ask(of).await) }).collect();
        let mut answers = stream::iter(asked).buffer_unordered(at_once);
        while let Some((before, (of, answer))) = answers.next().await {
            let error = match answer {
                Ok(answer) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                    in_a_row = 0;
                    note(of, answer);
                    continue;
                }
                Err(error) => error,
            };
            // A rejection is an answer too: the store is up, and only this version is the cause.
            if error.is_rejection() {
                answered.fetch_add(1, Ordering::Relaxed);
                in_a_row = 0;
                failed.push((of, error));
                continue;
            }
            in_a_row += usize::from(before == count());
            // All of these failed before, so their failures do not show that the store is down.
            if in_a_row >= at_once && !(is_last && count() > 0) {
                return Err(error);
            }
            if is_last {
                failed.push((of, error));
            } else {
                left.push(of);
            }
        }
        drop(answers);
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    fn store_error(status: Option<u16>) -> StoreError {
        StoreError { operation: "GetObjectTagging", code: "a".into(), status }
    }

    /// Sends a hundred requests, ten at once. `fails` returns the status and number of failures of each. Returns the
    /// number of answers, the permanent failures, and the number of requests.
    async fn request_hundred(
        fails: impl Fn(u32) -> Option<(Option<u16>, u32)>,
    ) -> (usize, Result<Vec<u32>, StoreError>, u32) {
        let tries = Mutex::new(BTreeMap::<u32, u32>::new());
        let (tries_now, fails) = (&tries, &fails);
        let ask = |number: u32| async move {
            let mut all = tries_now.lock().unwrap();
            let count = all.entry(number).or_default();
            *count += 1;
            let error = fails(number).filter(|(_, times)| *count <= *times);
            (number, error.map_or(Ok(()), |(status, _)| Err(store_error(status))))
        };
        let mut answers = Vec::new();
        let failed = request_each((0..100).collect(), 10, ask, |number, ()| answers.push(number)).await;
        answers.sort_unstable();
        answers.dedup();
        let failed = failed.map(|failed| failed.into_iter().map(|(number, _)| number).collect());
        let asked = tries.lock().unwrap().values().sum();
        (answers.len(), failed, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn failure_is_retried_once_then_reported() {
        let of_seven = |status, times| move |number| (number == 7).then_some((status, times));
        assert_eq!(request_hundred(of_seven(None, 0)).await, (100, Ok(vec![]), 100));
        assert_eq!(request_hundred(of_seven(Some(503), 1)).await, (100, Ok(vec![]), 101));
        assert_eq!(request_hundred(of_seven(None, 2)).await, (99, Ok(vec![7]), 101));
        // A rejection is not retried.
        assert_eq!(request_hundred(of_seven(Some(403), 9)).await, (99, Ok(vec![7]), 100));
    }

    #[tokio::test(start_paused = true)]
    async fn consecutive_failures_stop_requests() {
        // Nine of ten fail once.
        let (answers, failed, _) =
            request_hundred(|number| (number % 10 > 0).then_some((Some(503), 1))).await;
        assert_eq!((answers, failed), (100, Ok(vec![])));
        let (answers, failed, asked) =
            request_hundred(|number| (number >= 50).then_some((Some(503), 9))).await;
        assert_eq!((answers, failed), (50, Err(store_error(Some(503)))));
        assert!(asked < 75, "{asked}");
    }

    /// A part of the store's disks hangs: these requests complete together, long after all others.
    #[tokio::test(start_paused = true)]
    async fn slow_failures_do_not_stop_requests() {
        let ask = |number: u32| async move {
            let hangs = number.is_multiple_of(4);
            tokio::time::sleep(Duration::from_millis(if hangs { 10_000 } else { 5 })).await;
            (number, if hangs { Err(store_error(None)) } else { Ok(()) })
        };
        let mut answers = 0;
        let failed = request_each((0..1000).collect(), 10, ask, |_, ()| answers += 1).await;
        assert_eq!((answers, failed.unwrap().len()), (750, 250));
    }

    /// As many failures as concurrent requests, but with answers in between.
    #[tokio::test(start_paused = true)]
    async fn scattered_failures_do_not_stop_requests() {
        let (answers, failed, _) =
            request_hundred(|number| (number % 5 == 0).then_some((Some(500), 9))).await;
        let single: Vec<u32> = (0..100).filter(|number| number % 5 == 0).collect();
        assert_eq!((answers, failed.map(|failed| failed.len())), (80, Ok(single.len())));
    }
}
