//! Looks that wait for the same store wait for each other, and for no look at anything else: a store that takes minutes to
//! answer would otherwise keep all others from being looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// Looks in one lane at once, at most.
const ABREAST: usize = 16;

/// Looks in all lanes at once, at most: each has its requests and pages in memory.
const IN_ALL: usize = 8 * ABREAST;

/// Lanes by what looks in them wait for; `None`: nothing but the API server or a recorder. One that is empty is forgotten.
#[derive(Debug)]
pub struct Lanes {
    each: Mutex<HashMap<Option<String>, Arc<Semaphore>>>,
    all: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { each: Mutex::default(), all: Semaphore::new(IN_ALL) }
    }
}

impl Lanes {
    /// Does the work once there is room in its lane; `None`: it is not begun, since `ended` came before.
    pub async fn run<T>(
        &self,
        lane: Option<String>,
        work: impl Future<Output = T>,
        ended: impl Future<Output = ()>,
    ) -> Option<T> {
        let room = || Arc::new(Semaphore::new(ABREAST));
        let turns = self.each().entry(lane).or_insert_with(room).clone();
        let done = async {
            // None of them is ever closed.
            let turn = async { (turns.acquire().await, self.all.acquire().await) };
            let _turn = tokio::select! {
                biased;
                () = ended => return None,
                turn = turn => turn,
            };
            Some(work.await)
        };
        let done = done.await;
        drop(turns);
        self.each().retain(|_, lane| Arc::strong_count(lane) > 1);
        done
    }

    fn each(&self) -> MutexGuard<'_, HashMap<Option<String>, Arc<Semaphore>>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_store_that_never_answers_keeps_no_other_waiting() {
        let lanes = Lanes::default();
        let slow = || Some("slow".to_owned());
        let mut stuck: Vec<_> =
            (0..ABREAST).map(|_| Box::pin(lanes.run(slow(), pending::<()>(), pending()))).collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        let mut next = Box::pin(lanes.run(slow(), ready(7), pending()));
        assert_eq!(next.as_mut().now_or_never(), None, "its own wait");
        for lane in [Some("quick".to_owned()), None] {
            let done = lanes.run(lane, ready(7), pending()).now_or_never();
            assert_eq!(done, Some(Some(7)));
        }
        assert_eq!(lanes.each().len(), 1, "those that are empty are forgotten");
        let ended = lanes.run(slow(), ready(7), ready(())).now_or_never();
        assert_eq!(ended, Some(None), "what waits when all ends is not begun");
        drop(stuck.pop());
        assert_eq!(next.now_or_never(), Some(Some(7)));
        drop(stuck);
        lanes.run(None, ready(7), pending()).now_or_never();
        assert!(lanes.each().is_empty());
    }
}
