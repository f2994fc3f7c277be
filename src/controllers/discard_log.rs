//! Losses of spools that people gave up, until the bucket's ledger has them. A spool is usually given up while the store does not
//! answer, so the entry waits for the store.
//!
//! In-memory only: the event `RecordingsLost` has the same text, and is published first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::failure::Failure;
use crate::leader::fence::Fence;
use crate::storage::BucketConnection;
use crate::storage::recordings::ledger::{SpoolDiscard, record_discard};
use crate::sync::lock;

/// Entries of one Site that wait. The oldest go first.
const MAX_PENDING: usize = 16;
/// Time for one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct SiteDiscards {
    pending: VecDeque<SpoolDiscard>,
    /// What the last entry says. The same loss is observed until its pod is gone.
    last: Option<(String, String)>,
    is_being_written: bool,
    /// The Site is gone: its last entries are still being written.
    is_forgotten: bool,
}

/// Losses that are not in the ledger yet, by the UID of their Site.
#[derive(Debug, Default)]
pub struct DiscardLog {
    sites: Mutex<HashMap<String, SiteDiscards>>,
}

impl DiscardLog {
    /// Adds a loss, unless it is the last one again.
    pub fn add(&self, discard: SpoolDiscard) {
        let mut sites = lock(&self.sites);
        let site = sites.entry(discard.uid.clone()).or_default();
        let text = (discard.reason.clone(), discard.spools.clone());
        if site.last.as_ref() != Some(&text) {
            site.last = Some(text);
            site.pending.push_back(discard);
            while site.pending.len() > MAX_PENDING {
                site.pending.pop_front();
            }
        }
    }

    /// Writes the losses of a Site to the ledger in the background, as far as its store accepts them: a status must not wait for a
    /// store that does not answer. An entry that lands late does no harm, since its key is its own.
    pub fn flush(self: &Arc<Self>, site_uid: &str, operator: &BucketConnection, fence: &Fence) {
        if self.begin_write(site_uid) {
            let (log, uid) = (self.clone(), site_uid.to_owned());
            let (operator, fence) = (operator.clone(), fence.clone());
            tokio::spawn(async move {
                log.write(&uid, &operator, &fence).await;
                log.end_write(&uid);
            });
        }
    }

    /// Returns whether the caller is to write the losses of a Site.
    fn begin_write(&self, site_uid: &str) -> bool {
        let mut sites = lock(&self.sites);
        let Some(site) = sites.get_mut(site_uid).filter(|site| !site.pending.is_empty()) else {
            return false;
        };
        !std::mem::replace(&mut site.is_being_written, true)
    }

    fn end_write(&self, site_uid: &str) {
        let mut sites = lock(&self.sites);
        let Some(site) = sites.get_mut(site_uid) else { return };
        site.is_being_written = false;
        if site.is_forgotten {
            sites.remove(site_uid);
        }
    }

    async fn write(&self, site_uid: &str, operator: &BucketConnection, fence: &Fence) {
        while let Some(discard) = self.next(site_uid) {
            let write = fence.guard(record_discard(operator, &discard));
            let category = match tokio::time::timeout(TIMEOUT, write).await {
                Ok(Ok(Ok(()))) => {
                    if let Some(site) = lock(&self.sites).get_mut(site_uid) {
                        site.pending.retain(|pending| *pending != discard);
                    }
                    continue;
                }
                Ok(Ok(Err(error))) => error.category(),
                Ok(Err(_not_leader)) => return,
                Err(_elapsed) => "timeout",
            };
            tracing::warn!(site = discard.site, category, "a loss of recordings is not in the ledger yet");
            return;
        }
    }

    /// Returns the first loss of a Site that is not in the ledger yet.
    pub fn next(&self, site_uid: &str) -> Option<SpoolDiscard> {
        lock(&self.sites).get(site_uid)?.pending.front().cloned()
    }

    /// Removes a Site that is gone.
    pub fn forget(&self, site_uid: &str) {
        let mut sites = lock(&self.sites);
        match sites.get_mut(site_uid) {
            Some(site) if site.is_being_written => site.is_forgotten = true,
            _ => drop(sites.remove(site_uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::leader::clock::Clock;
    use crate::leader::clock::mock::MockClock;
    use crate::storage::s3::stub::{NEVER_ANSWERS, Stub, error_answer};

    fn discard(second: i64, spools: &str) -> SpoolDiscard {
        SpoolDiscard {
            namespace: "heusden".into(),
            site: "pool".into(),
            uid: "u".into(),
            time: jiff::Timestamp::from_second(1_790_000_000 + second).unwrap(),
            reason: "node 3 burned".into(),
            spools: spools.into(),
        }
    }

    #[tokio::test]
    async fn loss_waits_for_the_store_and_is_written_once() {
        let is_up = Arc::new(AtomicBool::new(false));
        let answers = Arc::clone(&is_up);
        let stub = Stub::start(move |_| {
            if answers.load(Ordering::SeqCst) {
                (200, String::new())
            } else {
                error_answer(403, "AccessDenied")
            }
        })
        .await;
        let (connection, fence) = (stub.connection(), open_fence());
        let log = Arc::new(DiscardLog::default());
        log.add(discard(0, "4 segments"));
        log.flush("u", &connection, &fence);
        wait_until_written(&log).await;
        stub.take_requests();
        is_up.store(true, Ordering::SeqCst);
        // The same loss, observed again.
        log.add(discard(15, "4 segments"));
        for _ in 0..2 {
            log.flush("u", &connection, &fence);
            wait_until_written(&log).await;
        }
        let requests = stub.take_requests();
        let [put] = requests.as_slice() else { panic!("{requests:?}") };
        assert!(put.path.contains("/ledger/discards/2026-09-21T"), "{}", put.path);
        log.add(discard(30, "5 segments"));
        log.flush("u", &connection, &fence);
        wait_until_written(&log).await;
        assert_eq!(stub.take_requests().len(), 1);
        log.forget("u");
        assert_eq!(log.next("u"), None);
    }

    #[tokio::test]
    async fn silent_store_delays_nobody_and_gets_one_request() {
        let stub = Stub::start(|_| (NEVER_ANSWERS, String::new())).await;
        let (connection, fence) = (stub.connection(), open_fence());
        let log = Arc::new(DiscardLog::default());
        log.add(discard(0, "4 segments"));
        let began = std::time::Instant::now();
        for second in 1..100 {
            log.flush("u", &connection, &fence);
            log.add(discard(second, &second.to_string()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(began.elapsed() < TIMEOUT);
        assert!(stub.take_requests().len() <= 1);
        // The Site goes while its last loss is on its way.
        log.forget("u");
        assert!(log.next("u").is_some());
        log.end_write("u");
        assert_eq!(log.next("u"), None);
    }

    fn open_fence() -> Fence {
        let clock = Arc::new(MockClock::at(1));
        let fence = Fence::new(clock.clone());
        fence.extend(clock.now().plus(Duration::from_hours(1)));
        fence
    }

    async fn wait_until_written(log: &DiscardLog) {
        while lock(&log.sites).values().any(|site| site.is_being_written) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn waiting_losses_are_bounded() {
        let log = DiscardLog::default();
        for second in 0..100 {
            log.add(discard(second, &second.to_string()));
        }
        assert_eq!(log.next("u").unwrap().spools, "84");
    }
}
