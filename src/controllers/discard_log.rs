//! Losses of spools that people gave up, until the bucket's ledger has them. A spool is usually given up while the store does not
//! answer, so the entry waits for the store.
//!
//! In-memory only: the event `RecordingsLost` has the same text, and is published first.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use crate::failure::Failure;
use crate::storage::BucketConnection;
use crate::storage::recordings::ledger::{SpoolDiscard, record_discard};
use crate::sync::lock;

/// Entries of one Site that wait. The oldest go first.
const MAX_PENDING: usize = 16;
/// Time for one attempt: a deletion must not wait for a store that does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct SiteDiscards {
    pending: VecDeque<SpoolDiscard>,
    /// What the last entry says. The same loss is observed until its pod is gone.
    last: Option<(String, String)>,
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

    /// Writes the losses of a Site to the ledger, as far as its store accepts them.
    pub async fn flush(&self, site_uid: &str, operator: &BucketConnection) {
        while let Some(discard) = self.next(site_uid) {
            match tokio::time::timeout(TIMEOUT, record_discard(operator, &discard)).await {
                Ok(Ok(())) => {
                    if let Some(site) = lock(&self.sites).get_mut(site_uid) {
                        site.pending.retain(|pending| *pending != discard);
                    }
                }
                failed => {
                    let category =
                        failed.ok().and_then(Result::err).map_or("timeout", |error| error.category());
                    tracing::warn!(
                        site = discard.site,
                        category,
                        "a loss of recordings is not in the ledger yet"
                    );
                    return;
                }
            }
        }
    }

    fn next(&self, site_uid: &str) -> Option<SpoolDiscard> {
        lock(&self.sites).get(site_uid)?.pending.front().cloned()
    }

    /// Removes a Site that is gone.
    pub fn forget(&self, site_uid: &str) {
        lock(&self.sites).remove(site_uid);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::storage::s3::stub::{Stub, error_answer};

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
        let connection = BucketConnection::new(&stub.target()).unwrap();
        let log = DiscardLog::default();
        log.add(discard(0, "4 segments"));
        log.flush("u", &connection).await;
        stub.take_requests();
        is_up.store(true, Ordering::SeqCst);
        // The same loss, observed again.
        log.add(discard(15, "4 segments"));
        for _ in 0..2 {
            log.flush("u", &connection).await;
        }
        let requests = stub.take_requests();
        let [put] = requests.as_slice() else { panic!("{requests:?}") };
        assert!(put.path.contains("/ledger/discards/2026-09-21T"), "{}", put.path);
        log.add(discard(30, "5 segments"));
        log.flush("u", &connection).await;
        assert_eq!(stub.take_requests().len(), 1);
        log.forget("u");
        assert_eq!(log.next("u"), None);
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
