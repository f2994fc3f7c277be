//! Limits the concurrent work for each peer, so that stores that take minutes to answer, and recorders that do not answer, do not
//! block the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use crate::sync::lock;

/// Concurrent reconciles and passes for one peer.
const MAX_PER_PEER: usize = 16;

/// Concurrent reconciles and passes in total, without the first one of each peer: each has requests and pages in memory.
const MAX_TOTAL: usize = 8 * MAX_PER_PEER;

/// Concurrent work in total that waits for recorders. Each takes two seconds at most, and after a start of the leader all Cameras are
/// due at once.
const MAX_OF_RECORDERS: usize = 16 * MAX_PER_PEER;

/// More work for a peer begins only while this many times its running work is still free. So the peers before it leave a part
/// to each further one, however many there are.
const FREE_PER_RUNNING: usize = 4;

/// The other side that some work waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    ApiServer,
    /// Store with this endpoint.
    Store(String),
    /// Recorders of a Site.
    Recorders {
        namespace: String,
        site: String,
    },
}

/// Returns whether a peer with `of_peer` running works may begin another, beside `total` in all. The first one always may:
/// peers that do not answer must not block one that does.
fn may_begin(of_peer: usize, total: usize) -> bool {
    of_peer == 0 || of_peer.saturating_mul(FREE_PER_RUNNING) < MAX_TOTAL.saturating_sub(total)
}

/// Running work by peer. Peers without any are removed.
#[derive(Debug, Default)]
struct RunningWork {
    by_peer: HashMap<Peer, usize>,
    total: usize,
}

impl RunningWork {
    fn begin(&mut self, peer: &Peer) -> bool {
        let of_peer = self.by_peer.get(peer).copied().unwrap_or_default();
        let is_begun = may_begin(of_peer, self.total);
        if is_begun {
            self.by_peer.insert(peer.clone(), of_peer + 1);
            self.total += 1;
        }
        is_begun
    }

    /// Ends work for `peer`, and returns which other work that may let begin.
    fn end(&mut self, peer: &Peer) -> Freed {
        self.total = self.total.saturating_sub(1);
        let left = self.by_peer.get(peer).map_or(0, |of_peer| of_peer.saturating_sub(1));
        if left == 0 {
            self.by_peer.remove(peer);
        } else {
            self.by_peer.insert(peer.clone(), left);
        }
        Freed { first_of_peer: left == 0, second_of_any: may_begin(1, self.total) }
    }
}

/// Work that may begin once other work has ended.
#[derive(Clone, Copy, Debug)]
struct Freed {
    first_of_peer: bool,
    /// More than the first one of any peer.
    second_of_any: bool,
}

/// Work for one peer that waits or runs.
#[derive(Debug)]
struct Lane {
    permits: Semaphore,
    /// Only the next one waits for a turn: each end of other work wakes all that do.
    next: AsyncMutex<()>,
    /// Notified once no work for this peer runs.
    idle: Notify,
}

impl Default for Lane {
    fn default() -> Self {
        Self { permits: Semaphore::new(MAX_PER_PEER), next: AsyncMutex::default(), idle: Notify::new() }
    }
}

#[derive(Debug)]
pub struct PeerLimits {
    /// Lanes by peer. Unused ones are removed.
    by_peer: Mutex<HashMap<Peer, Arc<Lane>>>,
    running: Mutex<RunningWork>,
    /// Notified once there is room for more than the first work of each peer.
    has_room: Notify,
    recorders: Semaphore,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            by_peer: Mutex::default(),
            running: Mutex::default(),
            has_room: Notify::new(),
            recorders: Semaphore::new(MAX_OF_RECORDERS),
        }
    }
}

/// Use of a lane. The lane is removed with the last one.
struct LaneUse<'a> {
    limits: &'a PeerLimits,
    peer: &'a Peer,
    lane: Arc<Lane>,
}

impl Drop for LaneUse<'_> {
    fn drop(&mut self) {
        let mut by_peer = lock(&self.limits.by_peer);
        // Clones are made under this lock: one is this, and one is in the map.
        if Arc::strong_count(&self.lane) <= 2 {
            by_peer.remove(self.peer);
        }
    }
}

/// Turn of some work. It ends when this is dropped.
struct Turn<'a> {
    used: &'a LaneUse<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let LaneUse { limits, peer, lane } = self.used;
        let freed = lock(&limits.running).end(peer);
        if freed.first_of_peer {
            lane.idle.notify_waiters();
        }
        // All of them: which peer may begin depends on its own work.
        if freed.second_of_any {
            limits.has_room.notify_waiters();
        }
    }
}

impl PeerLimits {
    /// Begins `work` once its peer has a free permit. `None`: `shutdown` came first, and the work has not begun.
    ///
    /// Thousands may wait, such as all cameras when it is time to query their recorders. So `work` makes its future only then,
    /// on the heap, and one that waits takes no memory for its own.
    pub async fn run<T, F: Future<Output = T>>(
        &self,
        peer: Peer,
        work: impl FnOnce() -> F,
        shutdown: impl Future<Output = ()>,
    ) -> Option<T> {
        let lane = lock(&self.by_peer).entry(peer.clone()).or_default().clone();
        let used = LaneUse { limits: self, peer: &peer, lane };
        // No semaphore is ever closed.
        // The peer's permit first: work for a slow peer must not wait where all peers do.
        let turn = async {
            let of_peer = used.lane.permits.acquire().await;
            let is_of_recorders = matches!(peer, Peer::Recorders { .. });
            let of_recorders = if is_of_recorders { self.recorders.acquire().await.ok() } else { None };
            (of_peer, of_recorders, used.turn().await)
        };
        let _turn = tokio::select! {
            biased;
            () = shutdown => return None,
            turn = turn => turn,
        };
        Some(Box::pin(work()).await)
    }
}

impl LaneUse<'_> {
    /// Waits until work for the peer may begin.
    async fn turn(&self) -> Turn<'_> {
        let _next = self.lane.next.lock().await;
        loop {
            // Before the attempt, so that no end in between is missed.
            let (mut has_room, mut idle) =
                (std::pin::pin!(self.limits.has_room.notified()), std::pin::pin!(self.lane.idle.notified()));
            has_room.as_mut().enable();
            idle.as_mut().enable();
            if lock(&self.limits.running).begin(self.peer) {
                return Turn { used: self };
            }
            tokio::select! {
                () = has_room => {}
                () = idle => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn store(name: &str) -> Peer {
        Peer::Store(name.to_owned())
    }

    #[test]
    fn unresponsive_store_does_not_block_other_stores() {
        let limits = PeerLimits::default();
        let slow = || store("slow");
        let mut stuck: Vec<_> =
            (0..MAX_PER_PEER).map(|_| Box::pin(limits.run(slow(), pending::<()>, pending()))).collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        let mut next = Box::pin(limits.run(slow(), || ready(7), pending()));
        assert_eq!(next.as_mut().now_or_never(), None, "its own wait");
        for lane in [store("quick"), Peer::ApiServer] {
            let done = limits.run(lane, || ready(7), pending()).now_or_never();
            assert_eq!(done, Some(Some(7)));
        }
        assert_eq!(lock(&limits.by_peer).len(), 1, "those that are empty are forgotten");
        let ended = limits.run(slow(), || ready(7), ready(())).now_or_never();
        assert_eq!(ended, Some(None), "what waits when all ends is not begun");
        drop(stuck.pop());
        assert_eq!(next.now_or_never(), Some(Some(7)));
        drop(stuck);
        limits.run(Peer::ApiServer, || ready(7), pending()).now_or_never();
        assert!(lock(&limits.by_peer).is_empty());
    }

    #[test]
    fn many_unresponsive_stores_do_not_block_a_good_one() {
        let limits = PeerLimits::default();
        let mut stuck = Vec::new();
        for number in 0..64 {
            let slow = store(&format!("slow-{number}"));
            stuck.extend((0..MAX_PER_PEER).map(|_| {
                let mut one = Box::pin(limits.run(slow.clone(), pending::<()>, pending()));
                assert_eq!(one.as_mut().now_or_never(), None);
                one
            }));
            for lane in [store("good"), Peer::ApiServer] {
                let done = limits.run(lane, || ready(7), pending()).now_or_never();
                assert_eq!(done, Some(Some(7)), "after {} unresponsive stores", number + 1);
            }
        }
    }

    #[test]
    fn work_that_waits_for_all_stores_begins_when_other_work_ends() {
        let limits = PeerLimits::default();
        let mut stuck: Vec<_> = (0..8 * MAX_PER_PEER)
            .map(|number| {
                let store = store(&format!("slow-{}", number % 8));
                Box::pin(limits.run(store, pending::<()>, pending()))
            })
            .collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        let mut waiting: Vec<_> = (0..MAX_PER_PEER)
            .map(|_| Box::pin(limits.run(store("good"), pending::<()>, pending())))
            .collect();
        for one in &mut waiting {
            assert_eq!(one.now_or_never(), None);
        }
        let running = |name: &str| lock(&limits.running).by_peer.get(&store(name)).copied();
        let before = running("good").unwrap();
        assert!((1..MAX_PER_PEER).contains(&before), "{before}");
        drop(stuck);
        for one in &mut waiting {
            assert_eq!(one.now_or_never(), None);
        }
        assert_eq!(running("good"), Some(MAX_PER_PEER));
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
                let store = Peer::Store(store.to_string());
                let had = running.by_peer.get(&store).copied().unwrap_or_default();
                let is_begun = running.begin(&store);
                prop_assert!(is_begun || had > 0);
            }
            let total: usize = running.by_peer.values().sum();
            prop_assert_eq!(running.total, total);
            prop_assert!(total <= MAX_TOTAL + running.by_peer.len());
        }
    }
}
