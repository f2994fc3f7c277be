//! The sweep: what is over its ceiling and covered by no open hold goes, all versions of it (article 6). It goes by the
//! recording time in the key, and by nothing that somebody else could have written.
//!
//! Stopped anywhere, the next run goes on: what to do follows from the bucket and the open holds alone.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

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
/// Requests at once, while the store keeps up.
const AT_ONCE: usize = 16;
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
    /// Unfinished uploads that were ended.
    pub aborted: u64,
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
        at_once: AT_ONCE,
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
    at_once: usize,
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
        let mut after = None;
        loop {
            let found = page(self.store, class.prefix(), after.as_ref(), PAGE).await?;
            let (due, jump) = self.due(&found.versions, days);
            if !due.is_empty() {
                self.delete(&due, class, after.as_ref()).await?;
            }
            // A jump may lead into the rest of this very page.
            match jump.map(After::key).or(found.next) {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// What of a page is over its ceiling, and where to jump to.
    fn due<'l>(&self, found: &'l [Listed], days: &[Days]) -> (Vec<&'l Listed>, Option<String>) {
        let mut due = Vec::new();
        for listed in found {
            let jump = step(&listed.key, days);
            let is_due = Stored::of(listed, self.ceilings).is_some_and(|stored| stored.due_at() <= self.now);
            if is_due && jump == Step::Look {
                due.push(listed);
            }
            if let Step::JumpTo(text) = jump {
                return (due, Some(text));
            }
        }
        (due, None)
    }

    /// Deletes what is due and not held. Counted is what a listing shows afterwards, whatever the answers were.
    async fn delete(
        &mut self,
        due: &[&Listed],
        class: Class,
        after: Option<&After>,
    ) -> Result<(), SweepError> {
        let held = self.in_rounds(due).await?;
        let mut left = BTreeSet::new();
        let last = due.last().map(|listed| listed.key.as_str());
        let mut after = after.cloned();
        loop {
            let found = page(self.store, class.prefix(), after.as_ref(), PAGE).await?;
            let is_past = found
                .versions
                .last()
                .is_none_or(|listed| Some(listed.key.as_str()) > last);
            left.extend(found.versions.into_iter().map(|listed| (listed.key, listed.id)));
            match found.next {
                Some(next) if !is_past => after = Some(next),
                _ => break,
            }
        }
        for listed in due {
            if !left.contains(&(listed.key.clone(), listed.id.clone())) {
                self.swept.deleted += 1;
                self.swept.bytes += listed.size;
            } else if held.contains(listed.id.as_str()) {
                self.swept.held += 1;
            } else {
                self.swept.resisted += 1;
            }
        }
        Ok(())
    }

    /// Sends the deletions, again and slower where the store could not keep up. Gives back the ids of what is held.
    async fn in_rounds<'l>(&mut self, due: &[&'l Listed]) -> Result<BTreeSet<&'l str>, SweepError> {
        let (mut left, mut held) = (due.to_vec(), BTreeSet::new());
        for round in 1.. {
            // Immediately before: a hold may have been declared since the page was listed.
            let holds = self.open_holds().await?;
            self.store.clock.check()?;
            left.retain(|listed| {
                let goes = fate(listed, self.ceilings, &holds, self.now) == Fate::Goes;
                if !goes {
                    held.insert(listed.id.as_str());
                }
                goes
            });
            let batches: Vec<_> = left
                .chunks(BATCH)
                .map(|batch| delete(self.store, batch))
                .collect();
            let answers: Vec<_> = stream::iter(batches)
                .buffer_unordered(self.at_once)
                .collect()
                .await;
            let mut again = Vec::new();
            let mut last_error = None;
            for (batch, answer) in answers {
                match answer {
                    Ok(failed) => again.extend(batch.iter().filter(|listed| failed.contains(&listed.id))),
                    Err(error) if error.is_retryable() => {
                        again.extend(batch);
                        last_error = Some(error);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if again.is_empty() {
                return Ok(held);
            }
            if round == ROUNDS {
                return Err(last_error.unwrap_or_else(slow_down).into());
            }
            left = again;
            self.at_once = (self.at_once / 2).max(1);
            tokio::time::sleep(PAUSE * 2_u32.pow(round)).await;
        }
        Ok(held)
    }

    /// Those of the API and those of the ledger.
    async fn open_holds(&self) -> Result<Vec<Cover>, SweepError> {
        let mut holds = self.holds.covers().await?;
        holds.extend(ledger::covers(
            &ledger::entries(self.store).await?,
            &BTreeSet::new(),
        ));
        Ok(holds)
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
                Err(error) if error.is_unsupported() => return Ok(()),
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
                if old {
                    let answer = request.send().await;
                    answer.map_err(|error| StoreError::of("AbortMultipartUpload", &error))?;
                    self.swept.aborted += 1;
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

/// Deletes a batch by version id; the ids that the store asks to try again. Others that it refuses are seen when
/// it is read back.
async fn delete<'b, 'l>(
    store: &Store,
    batch: &'b [&'l Listed],
) -> (&'b [&'l Listed], Result<BTreeSet<String>, StoreError>) {
    (batch, delete_all(store, batch).await)
}

async fn delete_all(store: &Store, batch: &[&Listed]) -> Result<BTreeSet<String>, StoreError> {
    let operation = "DeleteObjects";
    let objects: Option<Vec<_>> = batch
        .iter()
        .map(|listed| {
            ObjectIdentifier::builder()
                .key(&listed.key)
                .version_id(&listed.id)
                .build()
                .ok()
        })
        .collect();
    let delete = Delete::builder().set_objects(objects).quiet(true).build().ok();
    let request = store.client.delete_objects().bucket(&store.bucket);
    let answer = request.set_delete(delete).send().await;
    let answer = answer.map_err(|error| StoreError::of(operation, &error))?;
    let later = |code: &str| {
        matches!(
            code,
            "SlowDown" | "InternalError" | "ServiceUnavailable" | "OperationAborted"
        )
    };
    let failed = answer
        .errors()
        .iter()
        .filter(|error| error.code().is_some_and(later));
    Ok(failed
        .filter_map(|error| error.version_id().map(str::to_owned))
        .collect())
}

fn slow_down() -> StoreError {
    StoreError {
        operation: "DeleteObjects",
        code: "SlowDown".into(),
        status: Some(503),
    }
}
