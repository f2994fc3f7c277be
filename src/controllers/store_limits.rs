//! Limits the concurrent work for each store, so that stores that take minutes to answer do not block the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};

use crate::sync::lock;

/// Concurrent reconciles and passes for one store.
const MAX_PER_STORE: usize = 16;

/// Concurrent reconciles and passes in total, without the first one of each store: each has requests and pages in memory.
const MAX_TOTAL: usize = 8 * MAX_PER_STORE;

/// A store begins more work only while this many times its running work is still free. So the stores before it leave a part
/// to each further one, however many there are.
const FREE_PER_RUNNING: usize = 4;

/// Store of some work. `None`: it needs only the API server or a recorder.
type Store = Option<String>;

/// Returns whether a store with `of_store` running works may begin another, beside `total` in all. The first one always may:
/// stores that do not answer must not block one that does.
fn may_begin(of_store: usize, total: usize) -> bool {
    of_store == 0 || of_store.saturating_mul(FREE_PER_RUNNING) < MAX_TOTAL.saturating_sub(total)
}

/// Running work by store. Stores without any are removed.
#[derive(Debug, Default)]
struct RunningWork {
    by_store: HashMap<Store, usize>,
    total: usize,
}

impl RunningWork {
    fn begin(&mut self, store: &Store) -> bool {
        let of_store = self.by_store.get(store).copied().unwrap_or_default();
        let is_begun = may_begin(of_store, self.total);
        if is_begun {
            self.by_store.insert(store.clone(), of_store + 1);
            self.total += 1;
        }
        is_begun
    }

    fn end(&mut self, store: &Store) {
        self.total = self.total.saturating_sub(1);
        if let Some(of_store) = self.by_store.get_mut(store) {
            *of_store = of_store.saturating_sub(1);
            if *of_store == 0 {
                self.by_store.remove(store);
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct StoreLimits {
    /// Semaphores by store. Unused ones are removed.
    by_store: Mutex<HashMap<Store, Arc<Semaphore>>>,
    running: Mutex<RunningWork>,
    ended: Notify,
}

/// Turn of some work. It ends when this is dropped.
struct Turn<'a> {
    limits: &'a StoreLimits,
    store: &'a Store,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.limits.running).end(self.store);
        // All of them: which store may begin depends on its own work. At most MAX_PER_STORE of each store wait here.
        self.limits.ended.notify_waiters();
    }
}

impl StoreLimits {
    /// Begins `work` once its store has a free permit. `None`: `shutdown` came first, and the work has not begun.
    ///
    /// Thousands may wait, such as all cameras when it is time to query their recorders. So `work` makes its future only then,
    /// on the heap, and one that waits takes no memory for its own.
    pub async fn run<T, F: Future<Output = T>>(
        &self,
        store: Option<String>,
        work: impl FnOnce() -> F,
        shutdown: impl Future<Output = ()>,
    ) -> Option<T> {
        let room = || Arc::new(Semaphore::new(MAX_PER_STORE));
        let store_permits = lock(&self.by_store).entry(store.clone()).or_insert_with(room).clone();
        let done = async {
            // No semaphore is ever closed.
            // The store's permit first: work for a slow store must not wait where all stores do.
            let turn = async { (store_permits.acquire().await, self.turn(&store).await) };
            let _turn = tokio::select! {
                biased;
                () = shutdown => return None,
                turn = turn => turn,
            };
            Some(Box::pin(work()).await)
        };
        let done = done.await;
        // Before the count below, which would otherwise find this clone and keep the entry.
        drop(store_permits);
        lock(&self.by_store).retain(|_, lane| Arc::strong_count(lane) > 1);
        done
    }

    /// Waits until work of `store` may begin.
    async fn turn<'a>(&'a self, store: &'a Store) -> Turn<'a> {
        loop {
            // Before the attempt, so that no end in between is missed.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if lock(&self.running).begin(store) {
                return Turn { limits: self, store };
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unresponsive_store_does_not_block_other_stores() {
        let limits = StoreLimits::default();
        let slow = || Some("slow".to_owned());
        let mut stuck: Vec<_> =
            (0..MAX_PER_STORE).map(|_| Box::pin(limits.run(slow(), pending::<()>, pending()))).collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        let mut next = Box::pin(limits.run(slow(), || ready(7), pending()));
        assert_eq!(next.as_mut().now_or_never(), None, "its own wait");
        for lane in [Some("quick".to_owned()), None] {
            let done = limits.run(lane, || ready(7), pending()).now_or_never();
            assert_eq!(done, Some(Some(7)));
        }
        assert_eq!(lock(&limits.by_store).len(), 1, "those that are empty are forgotten");
        let ended = limits.run(slow(), || ready(7), ready(())).now_or_never();
        assert_eq!(ended, Some(None), "what waits when all ends is not begun");
        drop(stuck.pop());
        assert_eq!(next.now_or_never(), Some(Some(7)));
        drop(stuck);
        limits.run(None, || ready(7), pending()).now_or_never();
        assert!(lock(&limits.by_store).is_empty());
    }

    #[test]
    fn many_unresponsive_stores_do_not_block_a_good_one() {
        let limits = StoreLimits::default();
        let mut stuck = Vec::new();
        for number in 0..64 {
            let store = format!("slow-{number}");
            stuck.extend((0..MAX_PER_STORE).map(|_| {
                let mut one = Box::pin(limits.run(Some(store.clone()), pending::<()>, pending()));
                assert_eq!(one.as_mut().now_or_never(), None);
                one
            }));
            for lane in [Some("good".to_owned()), None] {
                let done = limits.run(lane, || ready(7), pending()).now_or_never();
                assert_eq!(done, Some(Some(7)), "after {} unresponsive stores", number + 1);
            }
        }
    }

    #[test]
    fn work_that_waits_for_all_stores_begins_when_other_work_ends() {
        let limits = StoreLimits::default();
        let mut stuck: Vec<_> = (0..8 * MAX_PER_STORE)
            .map(|number| {
                let store = Some(format!("slow-{}", number % 8));
                Box::pin(limits.run(store, pending::<()>, pending()))
            })
            .collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        let mut waiting: Vec<_> = (0..MAX_PER_STORE)
            .map(|_| Box::pin(limits.run(Some("good".to_owned()), pending::<()>, pending())))
            .collect();
        for one in &mut waiting {
            assert_eq!(one.now_or_never(), None);
        }
        let running = |store: &str| lock(&limits.running).by_store.get(&Some(store.to_owned())).copied();
        let before = running("good").unwrap();
        assert!((1..MAX_PER_STORE).contains(&before), "{before}");
        drop(stuck);
        for one in &mut waiting {
            assert_eq!(one.now_or_never(), None);
        }
        assert_eq!(running("good"), Some(MAX_PER_STORE));
        drop(waiting);
        assert_eq!(running("good"), None);
        assert_eq!(lock(&limits.running).total, 0);
    }

    proptest! {
        /// Stores that want as much as they can get, in any order.
        #[test]
        fn every_store_gets_a_turn_within_the_total(stores in proptest::collection::vec(0_u8..40, 0..2000)) {
            let mut running = RunningWork::default();
            for store in stores {
                let store = Some(store.to_string());
                let had = running.by_store.get(&store).copied().unwrap_or_default();
                let is_begun = running.begin(&store);
                prop_assert!(is_begun || had > 0);
            }
            let total: usize = running.by_store.values().sum();
            prop_assert_eq!(running.total, total);
            prop_assert!(total <= MAX_TOTAL + running.by_store.len());
        }
    }
}
