//! The sweep: what is over its ceiling and covered by no open hold goes, all versions of it (article 6). It goes by the
//! recording time in the key, and by nothing that somebody else could have written.
//!
//! Stopped anywhere, the next run goes on: what to do follows from the bucket and the open holds alone.

mod batch;
mod stretch;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, TryStreamExt, future};
use jiff::{SignedDuration, Timestamp};

use self::batch::delete;
use self::stretch::Stretch;
use super::aging::{Fate, Stored, boundary, fate};
use super::client::{Purpose, Store, TargetError};
use super::date::ClocksDisagree;
use super::error::StoreError;
use super::ledger;
use super::listing::{After, Listed, PAGE, instant, page};
use super::walk::{Days, Step, step};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::cover::Cover;
use crate::protocol::recording::Class;

/// Versions in one request: more would keep a server busy with one request for long.
const BATCH: usize = 100;
/// Versions that the first page of a reading back asks for: as a rule nothing is left, and it shows what comes after.
const FEW: i32 = 50;
/// Requests of one page at once, while the store keeps up: all of it, right after the holds were asked.
const AT_ONCE: usize = 10;
/// Pages that are deleted at once: while the last requests of one are under way, the next begins.
const PAGES: usize = 2;
/// How often what failed is tried again before the run ends; each time slower.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);
/// An unfinished upload that is older is left over: the recorders make none.
const UNFINISHED: SignedDuration = SignedDuration::from_hours(24);

/// The holds that the API server knows of now, asked immediately before anything is deleted.
#[async_trait]
pub trait OpenHolds: Send + Sync {
    /// What they cover. An error stops the sweep.
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown>;
}

/// It could not be found out which holds are open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the open holds cannot be read: {0}")]
pub struct HoldsUnknown(pub String);

/// How much of the bucket is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The days at or past the ceiling, and those to come: where something may be due that has a true key.
    Boundary,
    /// Everything: keys that cannot be true are found wherever they are.
    All,
}

/// Why a sweep ended early. What was deleted before is gone rightly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The clocks are too far apart.
    #[error(transparent)]
    Clock(#[from] ClocksDisagree),
    /// Which holds are open is not known.
    #[error(transparent)]
    Holds(#[from] HoldsUnknown),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl SweepError {
    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Clock(_) => "clock",
            Self::Holds(_) => "holds_unknown",
            Self::Storage(error) => error.category(),
        }
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Versions, and markers, that went.
    pub deleted: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Over their ceiling, and kept for an open hold.
    pub held: u64,
    /// Over their ceiling, covered by no open hold, and not given up by the store: under a legal hold that nothing
    /// explains, or a retention.
    pub resisted: u64,
    /// Unfinished uploads that were aborted.
    pub aborted: u64,
    /// Unfinished uploads that the store did not abort.
    pub unfinished: u64,
}

/// Sweeps a bucket as the operator, of what is over its ceiling at `now`.
pub async fn sweep(
    operator: &StorageTarget,
    ceilings: &Ceilings,
    holds: &dyn OpenHolds,
    reach: Reach,
    now: Timestamp,
) -> Result<Swept, SweepError> {
    let store = Store::new(operator, Purpose::Configure)?;
    let mut sweep = Sweep {
        store: &store,
        ceilings,
        holds,
        now,
        at_once: AtomicUsize::new(AT_ONCE),
        seen: Mutex::default(),
        swept: Swept::default(),
    };
    match sweep.all(reach).await {
        Ok(()) => Ok(sweep.swept),
        // Whatever else is said of it: a store whose clock is another refuses what was signed by ours.
        Err(error) => Err(store.clock.check().err().map_or(error, SweepError::from)),
    }
}

struct Sweep<'a> {
    store: &'a Store,
    ceilings: &'a Ceilings,
    holds: &'a dyn OpenHolds,
    now: Timestamp,
    at_once: AtomicUsize,
    /// The holds that were open at any time of the sweep.
    seen: Mutex<Vec<Cover>>,
    swept: Swept,
}

impl Sweep<'_> {
    async fn all(&mut self, reach: Reach) -> Result<(), SweepError> {
        for class in Class::ALL {
            self.class(class, reach).await?;
        }
        self.unfinished().await
    }

    async fn class(&mut self, class: Class, reach: Reach) -> Result<(), SweepError> {
        let days: &[Days] = match reach {
            Reach::Boundary => &boundary(class, self.ceilings, self.now),
            Reach::All => &[Days::ALL],
        };
        let (send, found) = mpsc::channel(0);
        let this = &*self;
        let deleting = found
            .map(|due| this.in_rounds(due))
            .buffer_unordered(PAGES)
            .try_for_each(|()| future::ready(Ok(())));
        let (stretches, ()) = futures::try_join!(this.find(class, days, send), deleting)?;
        for stretch in stretches {
            self.read_back(class, days, stretch).await?;
        }
        Ok(())
    }

    /// Lists what is due, ahead of what is deleted; gives back where it was.
    async fn find(
        &self,
        class: Class,
        days: &[Days],
        mut found: mpsc::Sender<Vec<Listed>>,
    ) -> Result<Vec<Stretch>, SweepError> {
        let (mut after, mut stretches) = (None, Vec::new());
        loop {
            let page = page(self.store, class.prefix(), after.as_ref(), PAGE).await?;
            let (due, jump) = self.due(page.versions, days);
            Stretch::note(&mut stretches, after.as_ref(), &due);
            if !due.is_empty() && found.send(due).await.is_err() {
                // Who deletes has stopped, and says why.
                return Ok(stretches);
            }
            // A jump may lead into the rest of this very page.
            match jump.map(After::key).or(page.next) {
                Some(next) => after = Some(next),
                None => return Ok(stretches),
            }
        }
    }

    /// What of a page is over its ceiling, and where to jump to.
    fn due(&self, found: Vec<Listed>, days: &[Days]) -> (Vec<Listed>, Option<String>) {
        let mut due = Vec::new();
        for listed in found {
            let jump = step(&listed.key, days);
            let is_due = Stored::of(&listed, self.ceilings).is_some_and(|stored| stored.due_at() <= self.now);
            if is_due && jump == Step::Look {
                due.push(listed);
            }
            if let Step::JumpTo(text) = jump {
                return (due, Some(text));
            }
        }
        (due, None)
    }

    /// Counts what became of a stretch: by what a listing shows afterwards, whatever the answers were.
    async fn read_back(&mut self, class: Class, days: &[Days], stretch: Stretch) -> Result<(), SweepError> {
        let (mut after, mut most) = (stretch.after, FEW);
        let (mut left, mut bytes_left) = (0, 0);
        loop {
            let found = page(self.store, class.prefix(), after.as_ref(), most).await?;
            let is_past = found
                .versions
                .last()
                .is_none_or(|listed| listed.key > stretch.last);
            for listed in self.due(found.versions, days).0 {
                if listed.key > stretch.last {
                    break;
                }
                left += 1;
                bytes_left += listed.size;
                let is_held = fate(&listed, self.ceilings, &self.seen(), self.now) == Fate::Held;
                *(if is_held {
                    &mut self.swept.held
                } else {
                    &mut self.swept.resisted
                }) += 1;
            }
            match found.next {
                Some(next) if !is_past => (after, most) = (Some(next), PAGE),
                _ => break,
            }
        }
        self.swept.deleted += stretch.versions.saturating_sub(left);
        self.swept.bytes += stretch.bytes.saturating_sub(bytes_left);
        Ok(())
    }

    /// Sends the deletions, of what no hold covers, again and slower where the store could not keep up.
    async fn in_rounds(&self, due: Vec<Listed>) -> Result<(), SweepError> {
        let mut left = due;
        for round in 1..=ROUNDS {
            let at_once = self.at_once.load(Ordering::Relaxed);
            let (mut again, mut last_error) = (Vec::new(), None);
            for together in left.chunks(BATCH * at_once) {
                last_error = self.send(together, &mut again).await?.or(last_error);
            }
            if again.is_empty() {
                return Ok(());
            }
            if round == ROUNDS {
                return Err(last_error.unwrap_or_else(slow_down).into());
            }
            left = again;
            self.at_once.store((at_once / 2).max(1), Ordering::Relaxed);
            tokio::time::sleep(PAUSE * 2_u32.pow(round)).await;
        }
        Ok(())
    }

    /// Sends as much as goes at once. What failed and may be tried again is added to `again`.
    async fn send(
        &self,
        together: &[Listed],
        again: &mut Vec<Listed>,
    ) -> Result<Option<StoreError>, SweepError> {
        // Immediately before: a hold may have been declared since the page was listed.
        let holds = self.open_holds().await?;
        self.store.clock.check()?;
        let goes = together
            .iter()
            .filter(|listed| fate(listed, self.ceilings, &holds, self.now) == Fate::Goes);
        let goes: Vec<&Listed> = goes.collect();
        let batches = goes.chunks(BATCH).map(|batch| delete(self.store, batch));
        let mut last_error = None;
        for (batch, answer) in future::join_all(batches).await {
            match answer {
                Ok(failed) => {
                    let failed = batch.iter().filter(|listed| failed.contains(&listed.id));
                    again.extend(failed.map(|listed| (*listed).clone()));
                }
                Err(error) if error.is_retryable() => {
                    again.extend(batch.iter().map(|listed| (*listed).clone()));
                    last_error = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last_error)
    }

    /// Those of the API and those of the ledger.
    async fn open_holds(&self) -> Result<Vec<Cover>, SweepError> {
        let mut holds = self.holds.covers().await?;
        holds.extend(ledger::covers(
            &ledger::entries(self.store).await?,
            &BTreeSet::new(),
        ));
        let mut seen = self.seen();
        let new = holds.iter().filter(|hold| !seen.contains(hold));
        let new: Vec<Cover> = new.cloned().collect();
        seen.extend(new);
        Ok(holds)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Cover>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends uploads that nobody will finish: their parts cost, and no listing shows them.
    async fn unfinished(&mut self) -> Result<(), SweepError> {
        let operation = "ListMultipartUploads";
        let Store { client, bucket, .. } = self.store;
        let (mut key, mut id) = (None, None);
        loop {
            let request = client.list_multipart_uploads().bucket(bucket);
            let request = request
                .set_key_marker(key.clone())
                .set_upload_id_marker(id.clone());
            let page = match request
                .send()
                .await
                .map_err(|error| StoreError::of(operation, &error))
            {
                Err(error) if !error.is_retryable() => return Ok(()),
                page => page?,
            };
            for upload in page.uploads() {
                let old = instant(upload.initiated())
                    .is_ok_and(|begun| self.now.duration_since(begun) > UNFINISHED);
                let request = client
                    .abort_multipart_upload()
                    .bucket(bucket)
                    .set_key(upload.key().map(str::to_owned))
                    .set_upload_id(upload.upload_id().map(str::to_owned));
                if !old {
                    continue;
                }
                let answer = request.send().await;
                match answer.map_err(|error| StoreError::of("AbortMultipartUpload", &error)) {
                    Ok(_) => self.swept.aborted += 1,
                    Err(error) if error.is_absent() => (),
                    // It comes last, and nothing depends on it: another sweep tries again. On SeaweedFS whoever is denied to
                    // put may not abort either.
                    Err(_) => self.swept.unfinished += 1,
                }
            }
            let next = (
                page.next_key_marker().map(str::to_owned),
                page.next_upload_id_marker().map(str::to_owned),
            );
            if page.is_truncated() != Some(true) || next == (key, id) {
                return Ok(());
            }
            (key, id) = next;
        }
    }
}

fn slow_down() -> StoreError {
    StoreError {
        operation: "DeleteObjects",
        code: "SlowDown".into(),
        status: Some(503),
    }
}
