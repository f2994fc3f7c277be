//! Limits the concurrent work for each store, so that a store that takes minutes to answer does not block the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::sync::lock;

/// Concurrent reconciles and passes for one store.
const MAX_PER_STORE: usize = 16;

/// Concurrent reconciles and passes in total: each has requests and pages in memory.
const MAX_TOTAL: usize = 8 * MAX_PER_STORE;

/// Semaphores by store. `None`: work that needs only the API server or a recorder. Unused semaphores are removed.
#[derive(Debug)]
pub struct StoreLimits {
    by_store: Mutex<HashMap<Option<String>, Arc<Semaphore>>>,
    total: Semaphore,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { by_store: Mutex::default(), total: Semaphore::new(MAX_TOTAL) }
    }
}

impl StoreLimits {
    /// Runs `work` once its store has a free permit. `None`: `shutdown` came first, and the work has not started.
    pub async fn run<T>(
        &self,
        store: Option<String>,
        work: impl Future<Output = T>,
        shutdown: impl Future<Output = ()>,
    ) -> Option<T> {
        let room = || Arc::new(Semaphore::new(MAX_PER_STORE));
        let store_permits = lock(&self.by_store).entry(store).or_insert_with(room).clone();
        let done = async {
            // No semaphore is ever closed.
            // The store's permit first: work for a slow store must not occupy the permits of all stores.
            let turn = async { (store_permits.acquire().await, self.total.acquire().await) };
            let _turn = tokio::select! {
                biased;
                () = shutdown => return None,
                turn = turn => turn,
            };
            Some(work.await)
        };
        let done = done.await;
        // Before the count below, which would otherwise find this clone and keep the entry.
        drop(store_permits);
        lock(&self.by_store).retain(|_, lane| Arc::strong_count(lane) > 1);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;

    use super::*;

    #[test]
    fn unresponsive_store_does_not_block_other_stores() {
        let limits = StoreLimits::default();
        let slow = || Some("slow".to_owned());
        let mut stuck: Vec<_> =
            (0..MAX_PER_STORE).map(|_| Box::pin(limits.run(slow(), pending::<()>(), pending()))).collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        let mut next = Box::pin(limits.run(slow(), ready(7), pending()));
        assert_eq!(next.as_mut().now_or_never(), None, "its own wait");
        for lane in [Some("quick".to_owned()), None] {
            let done = limits.run(lane, ready(7), pending()).now_or_never();
            assert_eq!(done, Some(Some(7)));
        }
        assert_eq!(lock(&limits.by_store).len(), 1, "those that are empty are forgotten");
        let ended = limits.run(slow(), ready(7), ready(())).now_or_never();
        assert_eq!(ended, Some(None), "what waits when all ends is not begun");
        drop(stuck.pop());
        assert_eq!(next.now_or_never(), Some(Some(7)));
        drop(stuck);
        limits.run(None, ready(7), pending()).now_or_never();
        assert!(lock(&limits.by_store).is_empty());
    }
}
