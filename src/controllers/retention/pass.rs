//! One pass over a bucket: place, release, sweep; each goes on where the last was stopped.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::RetentionError;
use super::cadence::{SHARE, UNHIDE_EVERY, VERIFY_EVERY, paced};
use super::outcome::Outcome;
use super::plan::Plan;
use super::rules::{Wait, is_placed, lost, may_release};
use crate::api::{Days, IncidentHold, Site};
use crate::controllers::buckets::OpenBucket;
use crate::controllers::kit::fence::Fence;
use crate::protocol::cover::Cover;
use crate::protocol::retention::lifecycle_days;
use crate::storage::hold::manifest::{self, Judgement};
use crate::storage::hold::{BrokenOff, Placed, Task, place, release, unhide};
use crate::storage::ledger::{self, Entry};
use crate::storage::sweep::{OpenHolds, Reach, sweep};

/// How often what is due is swept, though nothing else happens.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Between times only what came lately is looked at.
const LATELY: SignedDuration = SignedDuration::from_hours(24);
/// A pass that had to write something is followed by another, to prove it.
const PASSES: usize = 3;

/// Everything that a pass decides by. It needs no Kubernetes client, so the simulation in `tests/sim` runs it as it is.
pub struct Pass<'a> {
    /// The right to write.
    pub fence: &'a Fence,
    /// The first instant at which this process may release: requests of the previous leader can no longer land then.
    pub release_from: Timestamp,
    /// The open holds of the API server, read again immediately before anything is deleted.
    pub declared: &'a dyn OpenHolds,
    /// The time now, read again before each step.
    pub clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
    /// The Site, as read before the pass.
    pub site: &'a Site,
    /// Its bucket, as the Site controller handed it over.
    pub bucket: &'a OpenBucket,
    /// Its holds, as read before the pass.
    pub holds: &'a [IncidentHold],
    /// The holds that count.
    pub plan: &'a Plan,
    /// When the pass began.
    pub now: Timestamp,
}

impl Pass<'_> {
    /// Runs it. Where it ends early, what came of it until then counts.
    pub async fn run(&self) -> (Outcome, Option<RetentionError>) {
        let mut outcome = Outcome {
            verified_at: self
                .before()
                .and_then(|before| before.verified_at.as_ref().map(|at| at.0)),
            verify_every: self.verify_every(),
            unhidden_at: self.unhidden_at(),
            unhide_every: self.unhide_every(),
            sweep_at: self.now + SWEEP_EVERY,
            gaps: self.bucket.gaps.clone(),
            kept_for: kept_for(self.bucket.ceilings.video),
            ..Outcome::default()
        };
        let failed = self.steps(&mut outcome).await.err();
        (outcome, failed)
    }

    /// Each whatever became of the one before: a version that cannot be placed keeps none beyond its ceiling.
    async fn steps(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let mut all = Ok(());
        if !self.plan.open.is_empty() {
            all = all.and(self.place(outcome).await);
        }
        if !self.plan.closing.is_empty() {
            all = all.and(self.release(outcome).await);
        }
        all.and(self.sweep(outcome).await)
    }

    async fn place(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let (covers, mut is_full) = (self.plan.covers(), self.is_full());
        // Before the first page is listed.
        let follow = self.recorders_follow();
        let proved_at = self.proved_at();
        let mut task = Task {
            covers: &covers,
            cameras: &self.bucket.cameras,
            ceilings: &self.bucket.ceilings,
            embargo: self.bucket.embargo,
            since: (!is_full).then(|| self.now - LATELY),
            everywhere: self.is_everywhere() && (is_full || !self.is_refused_before()),
            proved_at: &proved_at,
        };
        let mut placed = self.passes(&task, outcome).await?;
        if !is_full {
            let mut is_news = self.is_news(&placed);
            if self.is_to_unhide() {
                task.since = None;
                is_news |= self.unhide(&task, outcome).await? && !self.is_refused_before();
            }
            if is_news {
                // Which holds lack something, a look at everything tells.
                is_full = true;
                (task.since, task.everywhere) = (None, self.is_everywhere());
                placed = self.passes(&task, outcome).await?;
            }
        }
        if is_full {
            self.look_for_lost(&task, &placed, outcome).await?;
        }
        outcome.next_opening = placed.next_opening;
        if is_full {
            outcome.unhidden_at = Some(self.now);
            // Recorders that follow are told of at once; what had to be written is proved soon.
            outcome.is_pending = !placed.is_settled();
            let coverage = placed.coverage.iter().cloned();
            outcome.refused.clone_from(&placed.refused);
            outcome.coverage = self.plan.open.keys().cloned().zip(coverage).collect();
            if placed.is_settled() {
                self.write_manifests(&covers, outcome).await?;
            }
            // Not before: where a manifest was not written, the next look goes through everything again.
            let proved = outcome.coverage.iter();
            let proved = proved.filter(|(_, coverage)| is_placed(&placed, coverage.refused.as_ref(), follow));
            outcome.proved = proved.map(|(uid, _)| uid.clone()).collect();
            outcome.verified_at = Some(self.now);
        }
        let from = outcome.verified_at.unwrap_or(self.now);
        let is_refused = if is_full {
            placed.refused.is_some()
        } else {
            self.is_refused_before()
        };
        outcome.verify_at = outcome.verify_every.map(|every| from + paced(every, is_refused));
        outcome.unhide_at = outcome
            .unhidden_at
            .map(|at| at + outcome.unhide_every.unwrap_or(UNHIDE_EVERY));
        Ok(())
    }

    /// Passes, until one finds nothing left to do.
    async fn passes(&self, task: &Task<'_>, outcome: &mut Outcome) -> Result<Placed, RetentionError> {
        let mut done = 0;
        loop {
            let began = Instant::now();
            let work = place(&self.bucket.operator, task, (self.clock)());
            let placed = self.noted(work, outcome).await?;
            if task.since.is_none() {
                let took = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
                outcome.verify_every = Some(VERIFY_EVERY.max(took.saturating_mul(SHARE)));
            }
            done += 1;
            if placed.is_settled() || done == PASSES {
                return Ok(placed);
            }
        }
    }

    /// Runs a pass that places, and notes what it did, be it broken off.
    async fn noted(
        &self,
        work: impl Future<Output = Result<Placed, Box<BrokenOff<Placed>>>>,
        outcome: &mut Outcome,
    ) -> Result<Placed, RetentionError> {
        let (placed, ended) = BrokenOff::apart(self.fence.guard(work).await?);
        outcome.note(&placed);
        ended?;
        Ok(placed)
    }

    /// Looks for delete markers over all that is held, after what came lately has its legal hold. Whether any was refused.
    async fn unhide(&self, task: &Task<'_>, outcome: &mut Outcome) -> Result<bool, RetentionError> {
        let began = Instant::now();
        let work = unhide(&self.bucket.operator, task, (self.clock)());
        let unhidden = self.noted(work, outcome).await?;
        let took = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
        outcome.unhide_every = Some(UNHIDE_EVERY.max(took.saturating_mul(SHARE)));
        outcome.unhidden_at = Some(self.now);
        Ok(unhidden.refused.is_some())
    }

    /// A hold only grows: what it had when it was proved and has not now is gone. What was found under a key that cannot be
    /// true may be missed where such keys are not looked for: they are, before it counts as lost.
    async fn look_for_lost(
        &self,
        task: &Task<'_>,
        placed: &Placed,
        outcome: &mut Outcome,
    ) -> Result<(), RetentionError> {
        if self.lost(placed).is_empty() {
            return Ok(());
        }
        let task = Task {
            everywhere: true,
            ..task.clone()
        };
        let work = place(&self.bucket.operator, &task, (self.clock)());
        let placed = self.noted(work, outcome).await?;
        for (name, count) in self.lost(&placed) {
            outcome.note_lost(&name, count);
        }
        Ok(())
    }

    /// How many versions each hold has fewer than when it was last proved, by its name.
    fn lost(&self, placed: &Placed) -> Vec<(String, u64)> {
        let now = self.plan.open.keys().zip(&placed.coverage);
        let lost = now.filter_map(|(uid, coverage)| {
            let hold = self.hold(uid)?;
            let lost = lost(hold.status.as_ref()?.placement.as_ref()?, coverage);
            Some((hold.name_any(), lost)).filter(|(_, lost)| *lost > 0)
        });
        lost.collect()
    }

    /// What is kept for each hold, for those who may read it.
    async fn write_manifests(&self, covers: &[Cover], outcome: &Outcome) -> Result<(), RetentionError> {
        let by = Judgement {
            covers,
            ceilings: &self.bucket.ceilings,
            embargo: self.bucket.embargo,
            everywhere: self.is_everywhere(),
        };
        let all = self.plan.open.values().zip(&outcome.coverage);
        // One that says less than there is would not do, nor one that says more than is kept.
        for (entry, (_, coverage)) in all.filter(|(_, (_, coverage))| coverage.refused.is_none()) {
            let missing = outcome.missing(coverage, entry.accepted_at);
            let work = manifest::write(&self.bucket.operator, entry, missing, by, self.now);
            self.fence.guard(work).await??;
        }
        Ok(())
    }

    async fn release(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        if let Some(again) = self.release_again() {
            (outcome.release_from, outcome.is_release_put_off) = (Some(again), true);
            return Ok(());
        }
        match may_release(self.release_from, self.recorders_follow(), self.now) {
            Ok(()) => (),
            Err(Wait::Until(from)) => {
                outcome.release_from = Some(from);
                return Ok(());
            }
            Err(Wait::Recorders) => {
                outcome.is_pending = true;
                return Ok(());
            }
        }
        let closing = &self.plan.closing;
        for _ in 0..PASSES {
            let (target, ceilings) = (&self.bucket.operator, &self.bucket.ceilings);
            let work = release(target, closing, self.declared, ceilings, (self.clock)());
            let (released, ended) = BrokenOff::apart(self.fence.guard(work).await?);
            outcome.count("released", released.released);
            outcome.count("deleted", released.deleted);
            ended?;
            outcome.unreleased.clone_from(&released.refused);
            if released.is_settled() && released.refused.is_some() {
                return Ok(());
            }
            if released.is_proved() {
                // Before the ledger's last word: after it nobody would come back for them.
                for entry in closing.iter().filter(|entry| !self.plan.is_open(&entry.name)) {
                    let work = manifest::remove(&self.bucket.operator, &entry.name);
                    self.fence.guard(work).await??;
                }
                let closed: Vec<Entry> = closing.iter().map(|entry| entry.closed(self.now)).collect();
                self.fence
                    .guard(ledger::write_all(&self.bucket.operator, &closed))
                    .await??;
                outcome.released = closed.into_iter().map(|entry| entry.uid).collect();
                return Ok(());
            }
        }
        outcome.is_pending = true;
        Ok(())
    }

    async fn sweep(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let swept_at = self
            .before()
            .and_then(|before| before.swept_at.as_ref().map(|at| at.0));
        if let Some(again) = swept_at
            .map(|at| at + SWEEP_EVERY)
            .filter(|again| *again > self.now)
        {
            outcome.sweep_at = again;
            return Ok(());
        }
        let day = |at: Timestamp| jiff::tz::TimeZone::UTC.to_datetime(at).date();
        // Keys that cannot be true are anywhere: daily, everything is gone through.
        let is_first_today = swept_at.is_none_or(|at| day(at) != day(self.now));
        let reach = if is_first_today {
            Reach::All
        } else {
            Reach::Boundary
        };
        // What will be over its ceiling before the next sweep goes now: on a store without lifecycle nothing else would
        // delete it in time.
        let ahead = self.now + SWEEP_EVERY * 2;
        let (target, ceilings) = (&self.bucket.operator, &self.bucket.ceilings);
        let work = sweep(target, ceilings, self.declared, reach, ahead);
        let swept = self.fence.guard(work).await??;
        outcome.count("deleted", swept.deleted);
        outcome.swept = Some(swept);
        Ok(())
    }
}

/// How long a store's lifecycle lets a recording be.
fn kept_for(ceiling: Days) -> SignedDuration {
    let days = lifecycle_days(ceiling).unwrap_or_default();
    SignedDuration::from_hours(24 * i64::from(days))
}
