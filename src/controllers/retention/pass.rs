//! One pass over a bucket: place, release, sweep; each goes on where the last was stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::error::RetentionPassError;
use super::intervals::{MIN_VERIFY_INTERVAL, effective_interval, verify_interval};
use super::outcome::PassOutcome;
use super::plan::HoldPlan;
use crate::api::{Days, IncidentHold, Site, reject_future};
use crate::controllers::handoff::SiteBucket;
use crate::leader::fence::Fence;
use crate::rules::hold::claim::{ReleaseWait, is_placed, may_release};
use crate::rules::hold::entry::LedgerEntry;
use crate::rules::hold::scope::HoldScope;
use crate::rules::retention::lifecycle_expiration_days;
use crate::storage::DecisionTime;
use crate::storage::recordings::error::{HoldError, Incomplete, PassErrors};
use crate::storage::recordings::hold::protection_cache::{ManifestVersions, ProtectionCache};
use crate::storage::recordings::hold::{PlaceInput, PlaceReport, Release, manifest, place};
use crate::storage::recordings::ledger;
use crate::storage::recordings::open_holds::OpenHolds;
use crate::storage::recordings::sweep::state::ScanRange;
use crate::storage::recordings::sweep::sweep;
use crate::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;

/// How often what is due is swept, though nothing else happens.
const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// Segments arrive within this after their beginning, unless the store or the network was away.
const MAX_ARRIVAL_DELAY: SignedDuration = SignedDuration::from_mins(70);
/// The most that is listed between passes over everything.
const MAX_RECENT_WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// Marks that were read longer ago than any interval between verifications are forgotten.
const CACHE_MAX_AGE: SignedDuration = SignedDuration::from_hours(48);
/// A release that had to write something is followed by another, to prove it.
const MAX_RELEASE_PASSES: usize = 3;

/// Everything that a pass decides by. It needs no Kubernetes client, so the simulation in `tests/sim` runs it as it is.
pub struct RetentionPass<'a> {
    pub fence: &'a Fence,
    /// The first instant at which this process may release: requests of the previous leader can no longer land then.
    pub release_from: Timestamp,
    /// The open holds of the API server, read again immediately before anything is deleted.
    pub api_holds: &'a dyn OpenHolds,
    /// The time now, read again before each step.
    pub clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
    /// The Site, as read before the pass.
    pub site: &'a Site,
    /// Its bucket, as the Site controller handed it over.
    pub bucket: &'a SiteBucket,
    /// Its holds, as read before the pass.
    pub holds: &'a [IncidentHold],
    pub plan: &'a HoldPlan,
    /// What is known of its held versions.
    pub protection_cache: &'a ProtectionCache,
    pub now: Timestamp,
}

impl RetentionPass<'_> {
    /// Runs it. Where it ends early, what came of it until then counts.
    pub async fn run(&self) -> (PassOutcome, Option<RetentionPassError>) {
        let mut outcome = PassOutcome {
            verified_at: self
                .previous_status()
                .and_then(|before| reject_future(before.last_verification_time.as_ref()?.0, self.now)),
            verify_interval: self.previous_verify_interval(),
            sweep_at: self.now + SWEEP_INTERVAL,
            gaps: self.bucket.gaps.clone(),
            lifecycle_period: lifecycle_period(self.bucket.terms.ceilings.video),
            ..PassOutcome::default()
        };
        let failed = self.run_steps(&mut outcome).await.err();
        (outcome, failed)
    }

    /// Runs every step even if an earlier one failed: a version that cannot be held must not stop the sweep.
    async fn run_steps(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        self.evict_unused_manifests();
        let placed = if self.plan.open.is_empty() {
            // There is nothing to place by what is remembered.
            self.protection_cache.evict_before(Timestamp::MAX);
            self.protection_cache.place_deadline.reset();
            Ok(())
        } else {
            self.place_open_holds(outcome).await
        };
        let released =
            if self.plan.closing.is_empty() { Ok(()) } else { self.release_closing_holds(outcome).await };
        // Each is said of the holds that it is about. A sweep that failed says nothing of any.
        let problem = |done: &Result<(), RetentionPassError>| done.as_ref().err().map(ToString::to_string);
        outcome.place_error = problem(&placed);
        outcome.release_error = problem(&released);
        let mut go_on = |done| match done {
            // It is no failure: the others have their turn, and then it goes on.
            Err(RetentionPassError::Hold(HoldError::PassTimeout { .. })) => {
                outcome.needs_another_pass = true;
                Ok(())
            }
            done => done,
        };
        let done = go_on(placed).and(go_on(released));
        done.and(self.sweep_if_due(outcome).await)
    }

    async fn place_open_holds(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        let proved_at = self.proved_at();
        let uncertain = self.holds_in_doubt(&proved_at);
        let placed = self.run_place_passes(&proved_at, &uncertain, outcome).await;
        if let Some(left) = uncertain.into_values().max() {
            // Whatever was read may change until then, and is read once more, however the pass ended.
            self.protection_cache.evict_before(Timestamp::MAX);
            outcome.verify_at = outcome.verify_at.min(Some(self.now + left));
        }
        placed
    }

    async fn run_place_passes(
        &self,
        proved_at: &[Option<Timestamp>],
        uncertain: &BTreeMap<String, SignedDuration>,
        outcome: &mut PassOutcome,
    ) -> Result<(), RetentionPassError> {
        let mut is_full = self.is_full_pass_due(uncertain);
        if is_full {
            self.protection_cache.evict_over_budget();
        }
        let (scopes, (manifests, unread)) = (self.plan.scopes(), self.read_manifests().await?);
        outcome.unreadable_manifests = unread;
        is_full |= self.has_stale_manifest(&manifests, &outcome.unreadable_manifests);
        // Before the first page is listed.
        let is_followed = self.have_recorders_acknowledged();
        let acknowledged =
            self.plan.open.values().filter(|entry| is_followed || self.was_acknowledged(entry));
        outcome.acknowledged = acknowledged.map(|entry| entry.uid.clone()).collect();
        let closing: Vec<HoldScope> = self.plan.closing.iter().map(LedgerEntry::scope).collect();
        let read_before = self.now - self.previous_verify_interval().unwrap_or(MIN_VERIFY_INTERVAL);
        // A verification that was interrupted goes on.
        let is_time = self.is_verify_due();
        let began = self.protection_cache.place_deadline.started_at();
        let began = began.filter(|began| is_time && *began <= self.now);
        let mut task = PlaceInput {
            scopes: &scopes,
            cameras: &self.bucket.cameras,
            terms: &self.bucket.terms,
            since: (!is_full).then(|| self.now - self.recent_window()),
            is_every_day: self.has_misplaced_versions() && (is_full || !self.has_previous_rejection()),
            verified_at: proved_at,
            manifests: &manifests,
            closing_scopes: &closing,
            cache: self.protection_cache,
            trusted_since: if is_time { began } else { Some(read_before) },
            is_verifying: proved_at.iter().all(Option::is_some),
        };
        let mut start = Instant::now();
        let mut placed = self.run_place_pass(&task, outcome).await?;
        if !is_full && self.has_new_rejection(&placed) {
            // Which holds lack something, a look at everything tells.
            is_full = true;
            (task.since, task.is_every_day) = (None, self.has_misplaced_versions());
            start = Instant::now();
            placed = self.run_place_pass(&task, outcome).await?;
        }
        outcome.next_opening = placed.next_embargo_end;
        // Somebody may be changing what was just read back: it is looked at again soon.
        outcome.needs_another_pass = !placed.is_confirmed();
        if is_full {
            let verified_at = began.unwrap_or(self.now);
            outcome.verified_at = Some(verified_at);
            let took = SignedDuration::try_from(start.elapsed()).unwrap_or_default();
            let took = took + self.now.duration_since(verified_at);
            self.record_full_pass(placed, &manifests, took, outcome);
        }
        outcome.proved.retain(|uid| !uncertain.contains_key(uid));
        let from = outcome.verified_at.unwrap_or(self.now);
        let is_refused = if is_full { outcome.rejection.is_some() } else { self.has_previous_rejection() };
        outcome.verify_at = outcome.verify_interval.map(|every| from + effective_interval(every, is_refused));
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
    fn holds_in_doubt(&self, proved_at: &[Option<Timestamp>]) -> BTreeMap<String, SignedDuration> {
        let unproved = self.plan.open.values().zip(proved_at);
        let unproved = unproved.filter(|(_, proved_at)| proved_at.is_none());
        let of_leader = self.release_from.duration_since(self.now);
        let of_leader = Some(of_leader).filter(|left| left.is_positive() && self.is_releasing());
        let bucket = &self.bucket.operator.target().bucket;
        let left = |entry: &LedgerEntry| {
            let own = self.protection_cache.release_in_doubt_for(
                bucket,
                &entry.uid,
                &entry.scope_hash(),
                &entry.scope(),
            );
            let own = own.map(|left| SignedDuration::try_from(left).unwrap_or_default());
            own.max(of_leader)
        };
        let uncertain = unproved.filter_map(|(entry, _)| Some((entry.uid.clone(), left(entry)?)));
        uncertain.collect()
    }

    /// Whether a hold is being released, or was until so lately that requests for it may be under way.
    fn is_releasing(&self) -> bool {
        let lately = self.now - SignedDuration::try_from(SIGNATURE_VALIDITY).unwrap_or_default();
        let released_at =
            |hold: &IncidentHold| hold.status.as_ref()?.placement.as_ref()?.release_time.clone();
        !self.plan.closing.is_empty()
            || self.plan.closed.iter().any(|entry| entry.closed_at.is_none_or(|at| at > lately))
            || self.holds.iter().filter_map(released_at).any(|at| at.0 > lately)
    }

    /// What a pass over everything tells of each hold.
    fn record_full_pass(
        &self,
        placed: PlaceReport,
        told: &[Arc<ManifestVersions>],
        took: SignedDuration,
        outcome: &mut PassOutcome,
    ) {
        let versions = placed.coverage.iter().map(|coverage| coverage.segments).sum();
        outcome.verify_interval = Some(verify_interval(&placed, versions, took));
        // What there was no room for, the store has not refused.
        let is_of_store = |why: &&PassErrors| !matches!(why.first_error, HoldError::TooManyVersions { .. });
        let unread = outcome.unreadable_manifests.values().find(is_of_store);
        outcome.rejection = placed.errors.or_else(|| unread.cloned());
        // A hold only grows: a version that its manifest lists and that is not there any more is gone, whoever is silent.
        for ((entry, coverage), told) in self.plan.open.values().zip(&placed.coverage).zip(told) {
            if outcome.unreadable_manifests.contains_key(&entry.uid) {
                continue;
            }
            match told.lost(coverage) {
                0 => (),
                lost => {
                    outcome.record_lost(&entry.name, lost);
                    outcome.lost.insert(entry.uid.clone(), lost);
                }
            }
        }
        outcome.coverage = self.plan.open.keys().cloned().zip(placed.coverage).collect();
        for (uid, coverage) in &mut outcome.coverage {
            // What it had lost is not known.
            let unread = outcome.unreadable_manifests.get(uid);
            coverage.errors = coverage.errors.take().or_else(|| unread.cloned());
        }
        let proved = outcome.coverage.iter().filter(|(uid, coverage)| {
            let is_acknowledged = outcome.acknowledged.contains(uid);
            is_placed(coverage.unconfirmed, coverage.errors.is_some(), is_acknowledged)
        });
        outcome.proved = proved.map(|(uid, _)| uid.clone()).collect();
        self.protection_cache.evict_before(self.now - CACHE_MAX_AGE);
    }

    /// Forgets manifests of holds that nobody asks about any more.
    fn evict_unused_manifests(&self) {
        let open = self.plan.open.keys();
        let closing = self.plan.closing.iter().map(|entry| &entry.uid);
        self.protection_cache.retain_manifests(&open.chain(closing).map(String::as_str).collect());
    }

    /// How far back segments are looked for that came since everything was listed: those that arrive, and those whose embargo
    /// ends.
    fn recent_window(&self) -> SignedDuration {
        (MAX_ARRIVAL_DELAY + self.bucket.terms.embargo.age()).min(MAX_RECENT_WINDOW)
    }

    /// What the manifests of the open holds list, in their order; and why some could not be read. That keeps nothing from being
    /// held; but nothing is claimed of these holds, since what they lost is not known.
    async fn read_manifests(
        &self,
    ) -> Result<(Vec<Arc<ManifestVersions>>, BTreeMap<String, PassErrors>), RetentionPassError> {
        let (mut all, mut unread) = (Vec::new(), BTreeMap::new());
        for entry in self.plan.open.values() {
            let work = manifest::load(&self.bucket.operator, entry, self.protection_cache);
            let told = self.fence.guard(work).await?;
            if let Some(why) =
                told.as_ref().map_or_else(|error| Some(error.clone()), |told| told.budget_error())
            {
                unread.insert(entry.uid.clone(), PassErrors::without_versions(&why));
            }
            all.push(told.unwrap_or_default());
        }
        Ok((all, unread))
    }

    /// Since when recorders have had something to acknowledge.
    fn unacknowledged_since(&self, outcome: &PassOutcome) -> Option<Timestamp> {
        let open = self.plan.open.values();
        let waits = open.filter(|entry| !outcome.acknowledged.contains(&entry.uid));
        waits.map(|entry| entry.accepted_at).max()
    }

    /// Runs a pass that places, and notes what it did, be it broken off.
    async fn run_place_pass(
        &self,
        task: &PlaceInput<'_>,
        outcome: &mut PassOutcome,
    ) -> Result<PlaceReport, RetentionPassError> {
        let work = place(&self.bucket.operator, task, (self.clock)());
        let (placed, ended) = Incomplete::into_parts(self.fence.guard(work).await?);
        outcome.record_placement(&placed);
        ended?;
        Ok(placed)
    }

    async fn release_closing_holds(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        // One that was refused lately, whose recorders are silent, or whose manifest cannot be read keeps no other from being
        // released.
        let (mut closing, mut waits, mut unread) = (Vec::new(), None, None);
        let mut short = Vec::new();
        for entry in &self.plan.closing {
            if let Some(again) = self.release_retry_at(entry) {
                outcome.deferred_releases.insert(entry.uid.clone());
                outcome.release_retry_at = outcome.release_retry_at.into_iter().chain([again]).min();
                continue;
            }
            let resolved_at = entry.resolved_at.unwrap_or(self.now);
            let bucket = &self.bucket.operator.target().bucket;
            if let Some(left) =
                self.protection_cache.protect_in_doubt_for(bucket, &entry.scope(), &self.plan.scopes())
            {
                let left = SignedDuration::try_from(left).unwrap_or_default();
                outcome.release_from = outcome.release_from.max(Some(self.now + left));
                continue;
            }
            match may_release(self.release_from, self.have_recorders_acknowledged(), resolved_at, self.now) {
                Ok(()) => {
                    self.protection_cache.evict_over_budget();
                    let work = manifest::load(&self.bucket.operator, entry, self.protection_cache);
                    match self.fence.guard(work).await? {
                        Ok(told) => match told.budget_error() {
                            None => closing.push(entry.clone()),
                            Some(why) => short.push((entry.uid.clone(), PassErrors::without_versions(&why))),
                        },
                        Err(error) => unread = Some(error.into()),
                    }
                }
                Err(ReleaseWait::Until(from)) => outcome.release_from = outcome.release_from.max(Some(from)),
                Err(ReleaseWait::Recorders) => waits = waits.max(Some(resolved_at)),
            }
        }
        outcome.unacknowledged_since = outcome.unacknowledged_since.max(waits);
        let let_go = if closing.is_empty() { Ok(()) } else { self.release_entries(closing, outcome).await };
        outcome.release_rejections.extend(short);
        let_go.and(unread.map_or(Ok(()), Err))
    }

    /// Releases what `closing` covered, and ends their entries once that is proved.
    async fn release_entries(
        &self,
        mut closing: Vec<LedgerEntry>,
        outcome: &mut PassOutcome,
    ) -> Result<(), RetentionPassError> {
        let all = closing.clone();
        let mut release =
            Release::new(&all, self.api_holds, &self.bucket.terms.ceilings, self.protection_cache);
        for number in 1..=MAX_RELEASE_PASSES {
            let work = release.run_pass(&self.bucket.operator, DecisionTime::at((self.clock)()));
            let (released, ended) = Incomplete::into_parts(self.fence.guard(work).await?);
            outcome.count_change("released", released.released);
            outcome.count_change("deleted", released.deleted);
            ended?;
            outcome.release_rejections.clone_from(&released.errors);
            if let Some(why) = &released.manifest_error {
                let untold = released.waiting_for_manifest.iter();
                outcome
                    .release_rejections
                    .extend(untold.map(|uid| (uid.clone(), PassErrors::without_versions(why))));
            }
            outcome.unseen.clone_from(&released.unchecked);
            outcome.has_undecided_versions = !released.waiting_for_ledger.is_empty();
            if released.is_unchanged() || number == MAX_RELEASE_PASSES {
                closing.retain(|entry| released.is_verified_for(entry));
                outcome.needs_another_pass |= !released.is_unchanged();
                break;
            }
        }
        self.close_entries(closing, outcome).await
    }

    /// Ends holds whose recordings are released: the manifest goes first, since after the ledger's last word nobody would come back
    /// for it. One that stays keeps no other from its end.
    async fn close_entries(
        &self,
        closing: Vec<LedgerEntry>,
        outcome: &mut PassOutcome,
    ) -> Result<(), RetentionPassError> {
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
                    let stays = PassErrors::without_versions(&HoldError::CleanupFailed(error));
                    outcome.release_rejections.insert(entry.uid, stays);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn sweep_if_due(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        let swept_at = self
            .previous_status()
            .and_then(|before| reject_future(before.last_sweep_time.as_ref()?.0, self.now));
        if let Some(again) = swept_at.map(|at| at + SWEEP_INTERVAL).filter(|again| *again > self.now) {
            outcome.sweep_at = again;
            return Ok(());
        }
        let day = |at: Timestamp| jiff::tz::TimeZone::UTC.to_datetime(at).date();
        // Keys that cannot be true are anywhere: daily, everything is gone through.
        let is_first_today = swept_at.is_none_or(|at| day(at) != day(self.now));
        let reach = if is_first_today { ScanRange::All } else { ScanRange::Boundary };
        // What will be over its ceiling before the next sweep goes now: on a store without lifecycle nothing else would
        // delete it in time.
        let time = DecisionTime { clock_reading: self.now, now: self.now + SWEEP_INTERVAL * 2 };
        let (target, ceilings) = (&self.bucket.operator, &self.bucket.terms.ceilings);
        let work = sweep(target, ceilings, self.api_holds, self.protection_cache, reach, time);
        let swept = self.fence.guard(work).await??;
        outcome.count_change("deleted", swept.deleted);
        outcome.count_change("retagged", swept.retagged);
        outcome.swept = Some(swept);
        Ok(())
    }
}

/// How long a store's lifecycle lets a recording be.
fn lifecycle_period(ceiling: Days) -> SignedDuration {
    let days = lifecycle_expiration_days(ceiling).unwrap_or_default();
    SignedDuration::from_hours(24 * i64::from(days))
}

#[cfg(test)]
mod crowded_tests;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod reread_tests;
#[cfg(test)]
mod tests;
