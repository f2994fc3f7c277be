//! One pass over a bucket: place, release, sweep; each goes on where the last was stopped.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::RetentionError;
use super::declared::Declared;
use super::outcome::Outcome;
use super::plan::Plan;
use super::rules::{Wait, is_placed, may_release};
use crate::api::{Days, IncidentHold, Placement, RetentionStatus, Site};
use crate::controllers::buckets::OpenBucket;
use crate::controllers::kit::context::Context;
use crate::protocol::cover::Cover;
use crate::protocol::retention::lifecycle_days;
use crate::storage::audit::Found;
use crate::storage::hold::manifest::{self, Judgement};
use crate::storage::hold::{BrokenOff, Placed, Task, place, release, unhide};
use crate::storage::ledger::{self, Entry};
use crate::storage::sweep::{Reach, sweep};

/// How often what is due is swept, though nothing else happens.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// How often tag and legal hold of every held version are read, where that takes little.
const VERIFY_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How often delete markers over held versions are looked for, where that takes little: listings show them.
const UNHIDE_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Reading them takes at most this part of the time.
const SHARE: i32 = 20;
/// Between times only what came lately is looked at.
const LATELY: SignedDuration = SignedDuration::from_hours(24);
/// A pass that had to write something is followed by another, to prove it.
const PASSES: usize = 3;

/// All that a pass goes by.
pub struct Pass<'a> {
    pub context: &'a Context,
    pub site: &'a Site,
    pub bucket: &'a OpenBucket,
    pub holds: &'a [IncidentHold],
    pub plan: &'a Plan,
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
        let (covers, is_full) = (self.plan.covers(), self.is_full());
        // Before the first page is listed.
        let follow = self.recorders_follow();
        let mut task = Task {
            covers: &covers,
            cameras: &self.bucket.cameras,
            ceilings: &self.bucket.ceilings,
            embargo: self.bucket.embargo,
            since: (!is_full).then(|| self.now - LATELY),
            everywhere: self.is_everywhere(),
            proved_at: self.proved_at(),
        };
        let mut last = None;
        for _ in 0..PASSES {
            let began = Instant::now();
            let work = place(&self.bucket.operator, &task, Timestamp::now());
            let placed = self.noted(work, outcome).await?;
            if is_full {
                let took = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
                outcome.verify_every = Some(VERIFY_EVERY.max(took.saturating_mul(SHARE)));
            }
            let is_proved = placed.is_proved();
            last = Some(placed);
            if is_proved {
                break;
            }
        }
        let Some(placed) = last else { return Ok(()) };
        if is_full {
            self.look_for_lost(&task, &placed, outcome).await?;
        }
        outcome.next_opening = placed.next_opening;
        if is_full {
            outcome.unhidden_at = Some(self.now);
        } else if self.is_to_unhide() {
            task.since = None;
            self.unhide(&task, outcome).await?;
        }
        if is_full {
            // Recorders that follow are told of at once; what had to be written is proved soon.
            outcome.is_pending = !placed.is_proved();
            let coverage = placed.coverage.iter().cloned();
            outcome.coverage = self.plan.open.keys().cloned().zip(coverage).collect();
            if placed.is_proved() {
                self.write_manifests(&covers, outcome).await?;
            }
            // Not before: where a manifest was not written, the next look goes through everything again.
            outcome.proved = is_placed(&placed, follow);
            outcome.verified_at = Some(self.now);
        }
        let from = outcome.verified_at.unwrap_or(self.now);
        outcome.verify_at = outcome.verify_every.map(|every| from + every);
        outcome.unhide_at = outcome
            .unhidden_at
            .map(|at| at + outcome.unhide_every.unwrap_or(UNHIDE_EVERY));
        outcome.placed = Some(placed);
        Ok(())
    }

    /// Runs a pass that places, and notes what it did, be it broken off.
    async fn noted(
        &self,
        work: impl Future<Output = Result<Placed, Box<BrokenOff<Placed>>>>,
        outcome: &mut Outcome,
    ) -> Result<Placed, RetentionError> {
        match self.context.fence.guard(work).await? {
            Ok(placed) => {
                outcome.note(&placed);
                Ok(placed)
            }
            Err(broken_off) => {
                outcome.note(&broken_off.done);
                Err(broken_off.error.into())
            }
        }
    }

    /// Looks for delete markers over all that is held, after what came lately has its legal hold.
    async fn unhide(&self, task: &Task<'_>, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let began = Instant::now();
        let work = unhide(&self.bucket.operator, task, Timestamp::now());
        self.noted(work, outcome).await?;
        let took = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
        outcome.unhide_every = Some(UNHIDE_EVERY.max(took.saturating_mul(SHARE)));
        outcome.unhidden_at = Some(self.now);
        Ok(())
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
        let work = place(&self.bucket.operator, &task, Timestamp::now());
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
            let hold = self.holds.iter().find(|hold| hold.uid().as_ref() == Some(uid))?;
            let before = hold.status.as_ref()?.placement.as_ref()?;
            let had = u64::try_from(before.segments).ok().filter(|_| before.proved)?;
            let lost = had.checked_sub(coverage.segments).filter(|lost| *lost > 0)?;
            Some((hold.name_any(), lost))
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
        for (entry, (_, coverage)) in self.plan.open.values().zip(&outcome.coverage) {
            let missing = outcome.missing(coverage, entry.accepted_at);
            let work = manifest::write(&self.bucket.operator, entry, missing, by, self.now);
            self.context.fence.guard(work).await??;
        }
        Ok(())
    }

    async fn release(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        match may_release(self.context.release_from, self.recorders_follow(), self.now) {
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
        let (holds, closing) = (
            Declared {
                client: &self.context.client,
                site: self.site,
            },
            &self.plan.closing,
        );
        for _ in 0..PASSES {
            let (target, ceilings) = (&self.bucket.operator, &self.bucket.ceilings);
            let work = release(target, closing, &holds, ceilings, Timestamp::now());
            let (released, ended) = match self.context.fence.guard(work).await? {
                Ok(released) => (released, Ok(())),
                Err(broken_off) => (broken_off.done, Err(broken_off.error)),
            };
            outcome.count("released", released.released);
            outcome.count("deleted", released.deleted);
            ended?;
            if released.is_proved() {
                // Before the ledger's last word: after it nobody would come back for them.
                for entry in closing.iter().filter(|entry| !self.plan.is_open(&entry.name)) {
                    let work = manifest::remove(&self.bucket.operator, &entry.name);
                    self.context.fence.guard(work).await??;
                }
                let closed: Vec<Entry> = closing.iter().map(|entry| entry.closed(self.now)).collect();
                self.context
                    .fence
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
        let holds = Declared {
            client: &self.context.client,
            site: self.site,
        };
        // What will be over its ceiling before the next sweep goes now: on a store without lifecycle nothing else would
        // delete it in time.
        let ahead = self.now + SWEEP_EVERY * 2;
        let (target, ceilings) = (&self.bucket.operator, &self.bucket.ceilings);
        let work = sweep(target, ceilings, &holds, reach, ahead);
        let swept = self.context.fence.guard(work).await??;
        outcome.count("deleted", swept.deleted);
        outcome.swept = Some(swept);
        Ok(())
    }

    fn before(&self) -> Option<&RetentionStatus> {
        self.site.status.as_ref()?.retention.as_ref()
    }

    fn verify_every(&self) -> Option<SignedDuration> {
        self.before()?
            .verified_every_seconds
            .map(SignedDuration::from_secs)
    }

    fn unhidden_at(&self) -> Option<Timestamp> {
        Some(self.before()?.unhidden_at.as_ref()?.0)
    }

    fn unhide_every(&self) -> Option<SignedDuration> {
        let seconds = self.before()?.unhidden_every_seconds?;
        Some(SignedDuration::from_secs(seconds))
    }

    fn is_to_unhide(&self) -> bool {
        let every = self.unhide_every().unwrap_or(UNHIDE_EVERY);
        self.unhidden_at().is_none_or(|at| at + every <= self.now)
    }

    /// Whether the audit found keys that cannot be true, which may be anywhere, or held versions that were not where they
    /// were looked for.
    fn is_everywhere(&self) -> bool {
        const SIGNS: [Found; 4] = [
            Found::ImplausibleKey,
            Found::HeldUnprotected,
            Found::HeldMistagged,
            Found::HeldHidden,
        ];
        let audit = self.site.status.as_ref().and_then(|status| status.audit.as_ref());
        audit.is_some_and(|audit| {
            audit
                .findings
                .iter()
                .any(|finding| SIGNS.iter().any(|sign| finding.kind == <&str>::from(sign)))
        })
    }

    /// Whether everything is to be looked at: something is new, or can now be proved, or it is time.
    fn is_full(&self) -> bool {
        let last = self.before().and_then(|before| before.verified_at.as_ref());
        let is_time = match (last, self.verify_every()) {
            (Some(at), Some(every)) => at.0 + every <= self.now,
            _ => true,
        };
        let is_new = !self.plan.write.is_empty() || !self.is_seen_before();
        is_time || is_new || !self.is_proved_before() && self.recorders_follow()
    }

    /// The placements of the open holds, as their status has them; `None`: of a hold that was not looked at as it is now.
    fn placements(&self) -> impl Iterator<Item = Option<&Placement>> {
        let open = self
            .holds
            .iter()
            .filter(|hold| hold.uid().is_some_and(|uid| self.plan.open.contains_key(&uid)));
        open.map(|hold| {
            let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
            placement.filter(|placement| Some(placement.observed_generation) == hold.metadata.generation)
        })
    }

    /// Whether the status of every open hold speaks of it as it is now.
    fn is_seen_before(&self) -> bool {
        self.placements().all(|placement| placement.is_some())
    }

    /// Whether the status of every open hold says that it is proved as it is now.
    fn is_proved_before(&self) -> bool {
        self.placements()
            .all(|placement| placement.is_some_and(|placement| placement.proved))
    }

    fn proved_at(&self) -> Option<Timestamp> {
        let verified_at = self.before()?.verified_at.as_ref()?.0;
        (self.plan.write.is_empty() && self.is_proved_before()).then_some(verified_at)
    }

    /// Whether every recorder follows the holds that are open, and no other.
    fn recorders_follow(&self) -> bool {
        self.bucket.recorders.is_of(&self.plan.coverings())
    }
}

/// How long a store's lifecycle lets a recording be.
fn kept_for(ceiling: Days) -> SignedDuration {
    let days = lifecycle_days(ceiling).unwrap_or_default();
    SignedDuration::from_hours(24 * i64::from(days))
}
