//! One pass over a bucket: place, release, sweep; each goes on where the last was stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::RetentionError;
use super::cadence::{VERIFY_EVERY, paced, verify_every};
use super::outcome::Outcome;
use super::plan::Plan;
use super::rules::{Wait, is_placed, may_release};
use crate::api::{Days, IncidentHold, Site, past};
use crate::controllers::buckets::OpenBucket;
use crate::controllers::kit::fence::Fence;
use crate::protocol::cover::Cover;
use crate::protocol::retention::lifecycle_days;
use crate::storage::Time;
use crate::storage::hold::manifest;
use crate::storage::hold::memory::{Memory, Told};
use crate::storage::hold::{BrokenOff, HoldError, Placed, Refused, Release, Task, place};
use crate::storage::ledger::{self, Entry};
use crate::storage::sweep::{OpenHolds, Reach, sweep};
use crate::storage::under_way::SIGNATURE;

/// How often what is due is swept, though nothing else happens.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Segments arrive within this after their beginning, unless the store or the network was away.
const ARRIVING: SignedDuration = SignedDuration::from_mins(70);
/// The most that is listed between passes over everything.
const LATELY: SignedDuration = SignedDuration::from_hours(24);
/// Marks that were read longer ago than any interval between verifications are forgotten.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(48);
/// A release that had to write something is followed by another, to prove it.
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
    /// What is known of its held versions.
    pub memory: &'a Memory,
    /// When the pass began.
    pub now: Timestamp,
}

impl Pass<'_> {
    /// Runs it. Where it ends early, what came of it until then counts.
    pub async fn run(&self) -> (Outcome, Option<RetentionError>) {
        let mut outcome = Outcome {
            verified_at: self.before().and_then(|before| past(before.verified_at.as_ref()?.0, self.now)),
            verify_every: self.verify_every(),
            sweep_at: self.now + SWEEP_EVERY,
            gaps: self.bucket.gaps.clone(),
            kept_for: kept_for(self.bucket.ceilings.video),
            ..Outcome::default()
        };
        let failed = self.steps(&mut outcome).await.err();
        (outcome, failed)
    }

    /// Runs every step even if an earlier one failed: a version that cannot be held must not stop the sweep.
    async fn steps(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        self.keep_told();
        let placed = if self.plan.open.is_empty() {
            // There is nothing to place by what is remembered.
            self.memory.forget(Timestamp::MAX);
            self.memory.placing.reset();
            Ok(())
        } else {
            self.place(outcome).await
        };
        let released = if self.plan.closing.is_empty() { Ok(()) } else { self.release(outcome).await };
        // Each is said of the holds that it is about. A sweep that failed says nothing of any.
        let problem = |done: &Result<(), RetentionError>| done.as_ref().err().map(ToString::to_string);
        outcome.place_problem = problem(&placed);
        outcome.release_problem = problem(&released);
        let mut go_on = |done| match done {
            // It is no failure: the others have their turn, and then it goes on.
            Err(RetentionError::Hold(HoldError::TurnOver { .. })) => {
                outcome.is_pending = true;
                Ok(())
            }
            done => done,
        };
        let done = go_on(placed).and(go_on(released));
        done.and(self.sweep(outcome).await)
    }

    async fn place(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let proved_at = self.proved_at();
        let uncertain = self.uncertain(&proved_at);
        let placed = self.place_all(&proved_at, &uncertain, outcome).await;
        if let Some(left) = uncertain.into_values().max() {
            // Whatever was read may change until then, and is read once more, however the pass ended.
            self.memory.forget(Timestamp::MAX);
            outcome.verify_at = outcome.verify_at.min(Some(self.now + left));
        }
        placed
    }

    async fn place_all(
        &self,
        proved_at: &[Option<Timestamp>],
        uncertain: &BTreeMap<String, SignedDuration>,
        outcome: &mut Outcome,
    ) -> Result<(), RetentionError> {
        let mut is_full = self.is_full(uncertain);
        if is_full {
            self.memory.forget_short();
        }
        let (covers, (told, unread)) = (self.plan.covers(), self.told().await?);
        outcome.unread = unread;
        is_full |= self.is_unwritten(&told, &outcome.unread);
        // Before the first page is listed.
        let is_followed = self.recorders_follow();
        let acknowledged =
            self.plan.open.values().filter(|entry| is_followed || self.was_acknowledged(entry));
        outcome.acknowledged = acknowledged.map(|entry| entry.uid.clone()).collect();
        let closing: Vec<Cover> = self.plan.closing.iter().map(Entry::cover).collect();
        let read_before = self.now - self.verify_every().unwrap_or(VERIFY_EVERY);
        // A verification that was interrupted goes on.
        let is_time = self.is_time();
        let began = self.memory.placing.began();
        let began = began.filter(|began| is_time && *began <= self.now);
        let mut task = Task {
            covers: &covers,
            cameras: &self.bucket.cameras,
            ceilings: &self.bucket.ceilings,
            embargo: self.bucket.embargo,
            since: (!is_full).then(|| self.now - self.lately()),
            everywhere: self.is_everywhere() && (is_full || !self.is_refused_before()),
            proved_at,
            told: &told,
            closing: &closing,
            memory: self.memory,
            trusted_since: if is_time { began } else { Some(read_before) },
            is_verifying: proved_at.iter().all(Option::is_some),
        };
        let mut start = Instant::now();
        let mut placed = self.noted(&task, outcome).await?;
        if !is_full && self.is_news(&placed) {
            // Which holds lack something, a look at everything tells.
            is_full = true;
            (task.since, task.everywhere) = (None, self.is_everywhere());
            start = Instant::now();
            placed = self.noted(&task, outcome).await?;
        }
        outcome.next_opening = placed.next_opening;
        // Somebody may be changing what was just read back: it is looked at again soon.
        outcome.is_pending = !placed.is_settled();
        if is_full {
            let verified_at = began.unwrap_or(self.now);
            outcome.verified_at = Some(verified_at);
            let took = SignedDuration::try_from(start.elapsed()).unwrap_or_default();
            let took = took + self.now.duration_since(verified_at);
            self.note_full(placed, &told, took, outcome);
        }
        outcome.proved.retain(|uid| !uncertain.contains_key(uid));
        let from = outcome.verified_at.unwrap_or(self.now);
        let is_refused = if is_full { outcome.refused.is_some() } else { self.is_refused_before() };
        outcome.verify_at = outcome.verify_every.map(|every| from + paced(every, is_refused));
        if !is_full {
            outcome.verify_at = outcome.verify_at.into_iter().chain(self.retry_at()).min();
        }
        outcome.unacknowledged_since = self.unacknowledged_since(outcome);
        Ok(())
    }

    /// The open holds of which nothing can be proved yet, and for how long: a request that lets go of something that they cover
    /// now was sent before they counted, got no answer, and may still land. One of this process is remembered; one of a leader
    /// that was lost there may be where a hold is being released, or was until lately. What was proved was let go of by nobody
    /// since.
    fn uncertain(&self, proved_at: &[Option<Timestamp>]) -> BTreeMap<String, SignedDuration> {
        let unproved = self.plan.open.values().zip(proved_at);
        let unproved = unproved.filter(|(_, proved_at)| proved_at.is_none());
        let of_leader = self.release_from.duration_since(self.now);
        let of_leader = Some(of_leader).filter(|left| left.is_positive() && self.is_releasing());
        let bucket = &self.bucket.operator.bucket;
        let left = |entry: &Entry| {
            let own = self.memory.may_let_go(bucket, &entry.uid, &entry.scope(), &entry.cover());
            let own = own.map(|left| SignedDuration::try_from(left).unwrap_or_default());
            own.max(of_leader)
        };
        let uncertain = unproved.filter_map(|(entry, _)| Some((entry.uid.clone(), left(entry)?)));
        uncertain.collect()
    }

    /// Whether a hold is being released, or was until so lately that requests for it may be under way.
    fn is_releasing(&self) -> bool {
        let lately = self.now - SignedDuration::try_from(SIGNATURE).unwrap_or_default();
        let released_at = |hold: &IncidentHold| hold.status.as_ref()?.placement.as_ref()?.released_at.clone();
        !self.plan.closing.is_empty()
            || self.plan.closed.iter().any(|entry| entry.closed_at.is_none_or(|at| at > lately))
            || self.holds.iter().filter_map(released_at).any(|at| at.0 > lately)
    }

    /// What a pass over everything tells of each hold.
    fn note_full(&self, placed: Placed, told: &[Arc<Told>], took: SignedDuration, outcome: &mut Outcome) {
        let versions = placed.coverage.iter().map(|coverage| coverage.segments).sum();
        outcome.verify_every = Some(verify_every(&placed, versions, took));
        // What there was no room for, the store has not refused.
        let is_of_store = |why: &&Refused| !matches!(why.first, HoldError::NoRoom { .. });
        let unread = outcome.unread.values().find(is_of_store);
        outcome.refused = placed.refused.or_else(|| unread.cloned());
        // A hold only grows: a version that its manifest lists and that is not there any more is gone, whoever is silent.
        for ((entry, coverage), told) in self.plan.open.values().zip(&placed.coverage).zip(told) {
            if outcome.unread.contains_key(&entry.uid) {
                continue;
            }
            match told.lost(coverage) {
                0 => (),
                lost => {
                    outcome.note_lost(&entry.name, lost);
                    outcome.lost.insert(entry.uid.clone(), lost);
                }
            }
        }
        outcome.coverage = self.plan.open.keys().cloned().zip(placed.coverage).collect();
        for (uid, coverage) in &mut outcome.coverage {
            // What it had lost is not known.
            let unread = outcome.unread.get(uid);
            coverage.refused = coverage.refused.take().or_else(|| unread.cloned());
        }
        let proved = outcome.coverage.iter().filter(|(uid, coverage)| {
            let is_acknowledged = outcome.acknowledged.contains(uid);
            is_placed(coverage.disputed, coverage.refused.as_ref(), is_acknowledged)
        });
        outcome.proved = proved.map(|(uid, _)| uid.clone()).collect();
        self.memory.forget(self.now - FORGOTTEN_AFTER);
    }

    /// Forgets manifests of holds that nobody asks about any more.
    fn keep_told(&self) {
        let open = self.plan.open.keys();
        let closing = self.plan.closing.iter().map(|entry| &entry.uid);
        self.memory.keep_told(&open.chain(closing).map(String::as_str).collect());
    }

    /// How far back segments are looked for that came since everything was listed: those that arrive, and those whose embargo
    /// ends.
    fn lately(&self) -> SignedDuration {
        let embargo = self.bucket.embargo.unwrap_or_default();
        (ARRIVING + embargo).min(LATELY)
    }

    /// What the manifests of the open holds list, in their order; and why some could not be read. That keeps nothing from being
    /// held; but nothing is claimed of these holds, since what they lost is not known.
    async fn told(&self) -> Result<(Vec<Arc<Told>>, BTreeMap<String, Refused>), RetentionError> {
        let (mut all, mut unread) = (Vec::new(), BTreeMap::new());
        for entry in self.plan.open.values() {
            let work = manifest::told(&self.bucket.operator, entry, self.memory);
            let told = self.fence.guard(work).await?;
            if let Some(why) = told.as_ref().map_or_else(|error| Some(error.clone()), |told| told.shortage())
            {
                unread.insert(entry.uid.clone(), Refused::by(&why));
            }
            all.push(told.unwrap_or_default());
        }
        Ok((all, unread))
    }

    /// Since when recorders have had something to acknowledge.
    fn unacknowledged_since(&self, outcome: &Outcome) -> Option<Timestamp> {
        let open = self.plan.open.values();
        let waits = open.filter(|entry| !outcome.acknowledged.contains(&entry.uid));
        waits.map(|entry| entry.accepted_at).max()
    }

    /// Runs a pass that places, and notes what it did, be it broken off.
    async fn noted(&self, task: &Task<'_>, outcome: &mut Outcome) -> Result<Placed, RetentionError> {
        let work = place(&self.bucket.operator, task, (self.clock)());
        let (placed, ended) = BrokenOff::apart(self.fence.guard(work).await?);
        outcome.note(&placed);
        ended?;
        Ok(placed)
    }

    async fn release(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        // One that was refused lately, whose recorders are silent, or whose manifest cannot be read keeps no other from being
        // released.
        let (mut closing, mut waits, mut unread) = (Vec::new(), None, None);
        let mut short = Vec::new();
        for entry in &self.plan.closing {
            if let Some(again) = self.release_again(entry) {
                outcome.put_off.insert(entry.uid.clone());
                outcome.release_again = outcome.release_again.into_iter().chain([again]).min();
                continue;
            }
            let resolved_at = entry.resolved_at.unwrap_or(self.now);
            let bucket = &self.bucket.operator.bucket;
            if let Some(left) = self.memory.may_land(bucket, &entry.cover(), &self.plan.covers()) {
                let left = SignedDuration::try_from(left).unwrap_or_default();
                outcome.release_from = outcome.release_from.max(Some(self.now + left));
                continue;
            }
            match may_release(self.release_from, self.recorders_follow(), resolved_at, self.now) {
                Ok(()) => {
                    self.memory.forget_short();
                    let work = manifest::told(&self.bucket.operator, entry, self.memory);
                    match self.fence.guard(work).await? {
                        Ok(told) => match told.shortage() {
                            None => closing.push(entry.clone()),
                            Some(why) => short.push((entry.uid.clone(), Refused::by(&why))),
                        },
                        Err(error) => unread = Some(error.into()),
                    }
                }
                Err(Wait::Until(from)) => outcome.release_from = outcome.release_from.max(Some(from)),
                Err(Wait::Recorders) => waits = waits.max(Some(resolved_at)),
            }
        }
        outcome.unacknowledged_since = outcome.unacknowledged_since.max(waits);
        let let_go = if closing.is_empty() { Ok(()) } else { self.let_go(closing, outcome).await };
        outcome.unreleased.extend(short);
        let_go.and(unread.map_or(Ok(()), Err))
    }

    /// Releases what `closing` covered, and ends their entries once that is proved.
    async fn let_go(&self, mut closing: Vec<Entry>, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let all = closing.clone();
        let mut release = Release::new(&all, self.declared, &self.bucket.ceilings, self.memory);
        for number in 1..=PASSES {
            let work = release.pass(&self.bucket.operator, Time::of((self.clock)()));
            let (released, ended) = BrokenOff::apart(self.fence.guard(work).await?);
            outcome.count("released", released.released);
            outcome.count("deleted", released.deleted);
            ended?;
            outcome.unreleased.clone_from(&released.refused);
            if let Some(why) = &released.untold_since {
                let untold = released.untold.iter();
                outcome.unreleased.extend(untold.map(|uid| (uid.clone(), Refused::by(why))));
            }
            outcome.unseen.clone_from(&released.unseen);
            outcome.is_undecided = !released.undecided.is_empty();
            if released.is_settled() || number == PASSES {
                closing.retain(|entry| released.is_proved_of(entry));
                outcome.is_pending |= !released.is_settled();
                break;
            }
        }
        self.close(closing, outcome).await
    }

    /// Ends holds whose recordings are released: the manifest goes first, since after the ledger's last word nobody would come back
    /// for it. One that stays keeps no other from its end.
    async fn close(&self, closing: Vec<Entry>, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let operator = &self.bucket.operator;
        for entry in closing {
            let end = async {
                if !self.plan.is_open(&entry.name) {
                    manifest::remove(operator, &entry.name).await?;
                }
                ledger::write_all(operator, &[entry.closed(self.now)]).await
            };
            match self.fence.guard(end).await? {
                Ok(()) => outcome.released.push(entry.uid),
                Err(HoldError::Storage(error)) => {
                    let stays = Refused::by(&HoldError::NotEnded(error));
                    outcome.unreleased.insert(entry.uid, stays);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn sweep(&self, outcome: &mut Outcome) -> Result<(), RetentionError> {
        let swept_at = self.before().and_then(|before| past(before.swept_at.as_ref()?.0, self.now));
        if let Some(again) = swept_at.map(|at| at + SWEEP_EVERY).filter(|again| *again > self.now) {
            outcome.sweep_at = again;
            return Ok(());
        }
        let day = |at: Timestamp| jiff::tz::TimeZone::UTC.to_datetime(at).date();
        // Keys that cannot be true are anywhere: daily, everything is gone through.
        let is_first_today = swept_at.is_none_or(|at| day(at) != day(self.now));
        let reach = if is_first_today { Reach::All } else { Reach::Boundary };
        // What will be over its ceiling before the next sweep goes now: on a store without lifecycle nothing else would
        // delete it in time.
        let time = Time { read: self.now, now: self.now + SWEEP_EVERY * 2 };
        let (target, ceilings) = (&self.bucket.operator, &self.bucket.ceilings);
        let work = sweep(target, ceilings, self.declared, self.memory, reach, time);
        let swept = self.fence.guard(work).await??;
        outcome.count("deleted", swept.deleted);
        outcome.count("retagged", swept.retagged);
        outcome.swept = Some(swept);
        Ok(())
    }
}

/// How long a store's lifecycle lets a recording be.
fn kept_for(ceiling: Days) -> SignedDuration {
    let days = lifecycle_days(ceiling).unwrap_or_default();
    SignedDuration::from_hours(24 * i64::from(days))
}

#[cfg(test)]
#[path = "crowded_tests.rs"]
mod crowded_tests;
#[cfg(test)]
#[path = "refused_tests.rs"]
mod refused_tests;
#[cfg(test)]
#[path = "reread_tests.rs"]
mod reread_tests;
#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
