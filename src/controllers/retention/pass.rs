//! One pass over a bucket: place, release, sweep. Each step resumes after an interruption.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::error::RetentionPassError;
use super::outcome::PassOutcome;
use super::plan::HoldPlan;
use super::schedule::{SWEEP_INTERVAL, Schedule, effective_interval, next_verify_interval};
use crate::api::{Days, IncidentHold, ReleaseWait, Site, earlier, later};
use crate::controllers::handoff::SiteBucket;
use crate::leader::fence::Fence;
use crate::rules::hold::proof::{is_placed, may_release};
use crate::rules::retention::lifecycle_expiration_days;
use crate::rules::{HoldScope, LedgerEntry};
use crate::storage::recordings::error::Incomplete;
use crate::storage::recordings::hold::manifest::ManifestContent;
use crate::storage::recordings::hold::memory_budget::VersionSet;
use crate::storage::recordings::hold::protection_cache::{ManifestVersions, ProtectionCache};
use crate::storage::recordings::hold::{PlaceInput, PlaceReport, Release, manifest, place};
use crate::storage::recordings::ledger;
use crate::storage::recordings::sweep::sweep;
use crate::storage::{DecisionTime, HoldError, OpenHolds, PassErrors};

/// Longest delay between the beginning of a segment and its arrival, without an outage.
const MAX_ARRIVAL_DELAY: SignedDuration = SignedDuration::from_mins(70);
/// Longest period that a pass lists between full passes.
const MAX_RECENT_WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// Age at which cached protections are dropped: longer than any verification interval.
const CACHE_MAX_AGE: SignedDuration = SignedDuration::from_hours(48);
/// Passes of one release. The second verifies the writes of the first.
const MAX_RELEASE_PASSES: usize = 3;

/// Inputs of a pass. It needs no Kubernetes client, so the simulation in `tests/sim` runs it unchanged.
pub struct RetentionPass<'a> {
    pub fence: &'a Fence,
    /// Earliest time at which this process may release: requests of the previous leader can no longer arrive then.
    pub release_from: Timestamp,
    /// Open holds of the API server, read immediately before each deletion.
    pub api_holds: &'a dyn OpenHolds,
    /// Current time, read before each step.
    pub clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
    /// The Site, as read before the pass.
    pub site: &'a Site,
    /// Its bucket, from the Site controller.
    pub bucket: &'a SiteBucket,
    /// Its holds, as read before the pass.
    pub holds: &'a [IncidentHold],
    pub plan: &'a HoldPlan,
    pub protection_cache: &'a ProtectionCache,
    pub now: Timestamp,
}

impl RetentionPass<'_> {
    /// Runs the pass. The outcome counts even if the pass ends with an error.
    pub async fn run(&self) -> (PassOutcome, Option<RetentionPassError>) {
        let schedule = self.schedule();
        let mut outcome = PassOutcome {
            verified_at: schedule.verified_at(),
            verify_interval: schedule.verify_interval(),
            sweep_at: later(self.now, SWEEP_INTERVAL),
            gaps: self.bucket.gaps.clone(),
            lifecycle_period: lifecycle_period(self.bucket.terms.ceilings.video),
            ..PassOutcome::default()
        };
        let failed = self.run_steps(&mut outcome).await.err();
        (outcome, failed)
    }

    fn schedule(&self) -> Schedule<'_> {
        let Self { site, holds, plan, now, .. } = *self;
        Schedule { site, holds, plan, hold_ack: &self.bucket.hold_ack, now }
    }

    /// Runs every step even if an earlier one failed: a version that cannot be held must not stop the sweep.
    async fn run_steps(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        self.evict_unused_manifests();
        let placed = if self.plan.open.is_empty() {
            // Without an open hold, nothing is placed by the cached protections.
            self.protection_cache.evict_before(Timestamp::MAX);
            self.protection_cache.place_deadline.reset();
            Ok(())
        } else {
            self.place_open_holds(outcome).await
        };
        let released =
            if self.plan.closing.is_empty() { Ok(()) } else { self.release_closing_holds(outcome).await };
        // Each error concerns certain holds. A failed sweep concerns none.
        let problem = |done: &Result<(), RetentionPassError>| done.as_ref().err().map(ToString::to_string);
        outcome.place_error = problem(&placed);
        outcome.release_error = problem(&released);
        let mut go_on = |done| match done {
            // No failure: the other steps have their turn, and the next pass resumes.
            Err(RetentionPassError::Hold(HoldError::PassTimeout { .. })) => {
                outcome.needs_another_pass = true;
                Ok(())
            }
            done => done,
        };
        // `and` evaluates its argument in any case: the sweep runs even after an error, and the first error counts.
        let done = go_on(placed).and(go_on(released));
        done.and(self.sweep_if_due(outcome).await)
    }

    async fn place_open_holds(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        let proved_at = self.schedule().proved_at();
        let uncertain = self.holds_in_doubt(&proved_at);
        let placed = self.run_place_passes(&proved_at, &uncertain, outcome).await;
        if let Some(left) = uncertain.into_values().max() {
            // A request in doubt may still change these protections, so they are read again after it, even if this pass
            // failed.
            self.protection_cache.evict_before(Timestamp::MAX);
            outcome.verify_at = outcome.verify_at.min(Some(later(self.now, left)));
        }
        placed
    }

    async fn run_place_passes(
        &self,
        proved_at: &[Option<Timestamp>],
        uncertain: &BTreeMap<String, SignedDuration>,
        outcome: &mut PassOutcome,
    ) -> Result<(), RetentionPassError> {
        let schedule = self.schedule();
        let mut is_full = schedule.is_full_pass_due(uncertain);
        if is_full {
            self.protection_cache.evict_over_budget();
        }
        let (scopes, (manifests, unread)) = (self.plan.scopes(), self.read_manifests().await?);
        outcome.unreadable_manifests = unread;
        is_full |= schedule.has_stale_manifest(&manifests, &outcome.unreadable_manifests);
        // Before the first page is listed: a recorder that acknowledges later may upload unprotected segments during
        // the listing.
        let is_followed = schedule.have_recorders_acknowledged();
        let acknowledged =
            self.plan.open.values().filter(|entry| is_followed || schedule.was_acknowledged(entry));
        outcome.acknowledged = acknowledged.map(|entry| entry.uid.clone()).collect();
        let closing: Vec<HoldScope> = self.plan.closing.iter().map(|entry| entry.scope.clone()).collect();
        // Resumes an interrupted verification: protections read since its start are trusted.
        let is_time = schedule.is_verify_due();
        let began = self.protection_cache.place_deadline.started_at();
        let began = began.filter(|began| is_time && *began <= self.now);
        let mut task = PlaceInput {
            scopes: &scopes,
            cameras: &self.bucket.cameras,
            terms: &self.bucket.terms,
            since: (!is_full).then(|| earlier(self.now, self.recent_window())),
            is_every_day: schedule.has_misplaced_versions()
                && (is_full || !schedule.has_previous_rejection()),
            verified_at: proved_at,
            manifests: &manifests,
            closing_scopes: &closing,
            cache: self.protection_cache,
            trusted_since: if is_time { began } else { Some(schedule.trusted_since()) },
            is_verifying: proved_at.iter().all(Option::is_some),
        };
        let mut start = Instant::now();
        let mut placed = self.run_place_pass(&task, outcome).await?;
        if !is_full && schedule.has_new_rejection(&placed) {
            // Only a full pass can attribute the rejection to its holds.
            is_full = true;
            (task.since, task.is_every_day) = (None, schedule.has_misplaced_versions());
            start = Instant::now();
            placed = self.run_place_pass(&task, outcome).await?;
        }
        outcome.next_opening = placed.next_embargo_end;
        // Somebody may be changing the versions that failed the read-back.
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
        let is_refused =
            if is_full { outcome.rejection.is_some() } else { schedule.has_previous_rejection() };
        let interval = outcome.verify_interval.map(|every| effective_interval(every, is_refused));
        outcome.verify_at = interval.map(|interval| later(from, interval));
        if !is_full {
            outcome.verify_at = outcome.verify_at.into_iter().chain(schedule.retry_at()).min();
        }
        outcome.unacknowledged_since = self.unacknowledged_since(outcome);
        Ok(())
    }

    /// Returns the open holds that cannot be verified yet, and for how long: a release of a version that they cover may
    /// have got no answer and may still arrive.
    ///
    /// The cache knows the requests of this process. A lost leader may have sent others if a hold is being released, or
    /// was until recently. No release concerns a hold that is already verified.
    fn holds_in_doubt(&self, proved_at: &[Option<Timestamp>]) -> BTreeMap<String, SignedDuration> {
        let unproved = self.plan.open.values().zip(proved_at);
        let unproved = unproved.filter(|(_, proved_at)| proved_at.is_none());
        let of_leader = self.release_from.duration_since(self.now);
        let of_leader = Some(of_leader).filter(|left| left.is_positive() && self.schedule().is_releasing());
        let bucket = &self.bucket.operator.target().bucket;
        let left = |entry: &LedgerEntry| {
            let own = self.protection_cache.release_in_doubt_for(
                bucket,
                &entry.uid,
                &entry.scope_hash(),
                &entry.scope,
            );
            let own = own.map(|left| SignedDuration::try_from(left).unwrap_or_default());
            own.max(of_leader)
        };
        let uncertain = unproved.filter_map(|(entry, _)| Some((entry.uid.clone(), left(entry)?)));
        uncertain.collect()
    }

    /// Records the findings of a full pass for each hold.
    fn record_full_pass(
        &self,
        placed: PlaceReport,
        told: &[Arc<ManifestVersions>],
        took: SignedDuration,
        outcome: &mut PassOutcome,
    ) {
        let versions = placed.coverage.iter().map(|coverage| coverage.segments).sum();
        outcome.verify_interval = Some(next_verify_interval(&placed, versions, took));
        // A manifest that exceeds the memory budget is no rejection by the store.
        let is_of_store = |why: &&PassErrors| !matches!(why.first_error, HoldError::TooManyVersions { .. });
        let unread = outcome.unreadable_manifests.values().find(is_of_store);
        outcome.rejection = placed.errors.or_else(|| unread.cloned());
        // A hold's scope only grows. A missing version that the manifest lists is therefore lost, even if a recorder
        // has not acknowledged.
        for ((entry, coverage), told) in self.plan.open.values().zip(&placed.coverage).zip(told) {
            if outcome.unreadable_manifests.contains_key(&entry.uid) {
                continue;
            }
            let lost = told.lost(coverage);
            if lost > 0 {
                outcome.record_lost(entry, lost);
            }
        }
        outcome.coverage = self.plan.open.keys().cloned().zip(placed.coverage).collect();
        for (uid, coverage) in &mut outcome.coverage {
            // Without the manifest, losses are unknown.
            let unread = outcome.unreadable_manifests.get(uid);
            coverage.errors = coverage.errors.take().or_else(|| unread.cloned());
        }
        let proved = outcome.coverage.iter().filter(|(uid, coverage)| {
            let is_acknowledged = outcome.acknowledged.contains(uid);
            is_placed(coverage.unconfirmed, coverage.errors.is_some(), is_acknowledged)
        });
        outcome.proved = proved.map(|(uid, _)| uid.clone()).collect();
        self.protection_cache.evict_before(earlier(self.now, CACHE_MAX_AGE));
    }

    /// Drops cached manifests of holds that are no longer planned.
    fn evict_unused_manifests(&self) {
        let open = self.plan.open.keys();
        let closing = self.plan.closing.iter().map(|entry| &entry.uid);
        self.protection_cache.retain_manifests(&open.chain(closing).map(String::as_str).collect());
    }

    /// Returns how far back a pass looks for segments that are new since the last full pass, or whose embargo ends.
    fn recent_window(&self) -> SignedDuration {
        MAX_ARRIVAL_DELAY.saturating_add(self.bucket.terms.embargo.age()).min(MAX_RECENT_WINDOW)
    }

    /// Returns the versions in the manifests of the open holds, in their order, and the reasons that some are unknown.
    /// An unknown manifest does not stop the placing, but its hold is not verified: its losses are unknown.
    async fn read_manifests(
        &self,
    ) -> Result<(Vec<Arc<ManifestVersions>>, BTreeMap<String, PassErrors>), RetentionPassError> {
        let (mut all, mut unread) = (Vec::new(), BTreeMap::new());
        for entry in self.plan.open.values() {
            let work = manifest::load(&self.bucket.operator, entry, self.protection_cache);
            let told = self.fence.guard(work).await?;
            if let Some(why) =
                told.as_ref().map_or_else(|error| Some(error.clone()), |told| told.versions.budget_error())
            {
                unread.insert(entry.uid.clone(), PassErrors::without_versions(&why));
            }
            all.push(told.unwrap_or_default());
        }
        Ok((all, unread))
    }

    /// Returns the time since which recorders have something to acknowledge.
    fn unacknowledged_since(&self, outcome: &PassOutcome) -> Option<Timestamp> {
        let open = self.plan.open.values();
        let waits = open.filter(|entry| !outcome.acknowledged.contains(&entry.uid));
        waits.map(|entry| entry.accepted_at).max()
    }

    /// Runs a place pass and records its changes, even if it ends early.
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
        let schedule = self.schedule();
        // A hold that must wait does not delay the release of the others.
        let (mut closing, mut waits, mut unread) = (Vec::new(), None, None);
        let mut short = Vec::new();
        for entry in &self.plan.closing {
            if let Some(again) = schedule.release_retry_at(entry) {
                outcome.deferred_releases.insert(entry.uid.clone());
                outcome.release_retry_at = outcome.release_retry_at.into_iter().chain([again]).min();
                continue;
            }
            let resolved_at = entry.resolved_at.unwrap_or(self.now);
            let bucket = &self.bucket.operator.target().bucket;
            if let Some(left) =
                self.protection_cache.in_doubt.protect_in_doubt_for(bucket, &entry.scope, &self.plan.scopes())
            {
                let left = SignedDuration::try_from(left).unwrap_or_default();
                outcome.release_from = outcome.release_from.max(Some(later(self.now, left)));
                outcome.release_waits.insert(entry.uid.clone(), ReleaseWait::EarlierRequests);
                continue;
            }
            match may_release(
                self.release_from,
                schedule.have_recorders_acknowledged(),
                resolved_at,
                self.now,
            ) {
                Ok(()) => {
                    self.protection_cache.evict_over_budget();
                    let work = manifest::load(&self.bucket.operator, entry, self.protection_cache);
                    match self.fence.guard(work).await? {
                        Ok(told) => match told.versions.budget_error() {
                            None => closing.push(entry.clone()),
                            Some(why) => short.push((entry.uid.clone(), PassErrors::without_versions(&why))),
                        },
                        Err(error) => unread = Some(error.into()),
                    }
                }
                Err(wait) => {
                    outcome.release_waits.insert(entry.uid.clone(), wait);
                    match wait {
                        ReleaseWait::EarlierRequests => {
                            outcome.release_from = outcome.release_from.max(Some(self.release_from));
                        }
                        ReleaseWait::Recorders => waits = waits.max(Some(resolved_at)),
                    }
                }
            }
        }
        outcome.unacknowledged_since = outcome.unacknowledged_since.max(waits);
        let let_go = if closing.is_empty() { Ok(()) } else { self.release_entries(closing, outcome).await };
        outcome.release_rejections.extend(short);
        let_go.and(unread.map_or(Ok(()), Err))
    }

    /// Releases the versions that `closing` covered, and closes the verified entries.
    async fn release_entries(
        &self,
        mut closing: Vec<LedgerEntry>,
        outcome: &mut PassOutcome,
    ) -> Result<(), RetentionPassError> {
        let all = closing.clone();
        let mut release =
            Release::new(&all, self.api_holds, &self.bucket.terms.ceilings, self.protection_cache);
        // A store may accept writes and not persist them, so only a pass without writes proves the release.
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

    /// Closes the entries of released holds. The manifest goes first: once the ledger entry is closed, nothing would
    /// find the manifest again. A manifest that remains does not block the other holds.
    async fn close_entries(
        &self,
        closing: Vec<LedgerEntry>,
        outcome: &mut PassOutcome,
    ) -> Result<(), RetentionPassError> {
        let operator = &self.bucket.operator;
        for entry in closing {
            let end = async {
                // The folder of a manifest has the name of the hold. An open successor of that name still uses it.
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

    /// Writes the manifests of open holds, for their readers.
    ///
    /// Runs after the report, since a written manifest no longer lists lost versions. Releases the memory of the versions that
    /// the pass found. Returns the number of losses that no later pass finds again, and whether every manifest is written.
    pub async fn write_manifests(&self, outcome: &mut PassOutcome) -> (u64, Result<(), RetentionPassError>) {
        let (mut forgotten, mut unwritten) = (0, Ok(()));
        let mut all = std::mem::take(&mut outcome.coverage);
        for (entry, (uid, coverage)) in self.plan.open.values().zip(&mut all) {
            if outcome.unreadable_manifests.contains_key(uid) {
                continue;
            }
            let lost = outcome.lost.get(uid).copied().unwrap_or_default();
            // An incomplete manifest would hide losses from later passes. One that lists unprotected versions would
            // mislead its readers.
            if !coverage.is_complete() {
                // These losses are reported now. Otherwise, each pass would report them until the manifest can be written.
                self.protection_cache.forget_lost(uid, coverage);
                forgotten += lost;
                continue;
            }
            let missing = &outcome.missing(coverage, entry.accepted_at);
            let content = ManifestContent { entry, coverage, missing, terms: &self.bucket.terms };
            let work = manifest::write(&self.bucket.operator, content, self.protection_cache, self.now);
            match self.fence.guard(work).await {
                Ok(Ok(())) => forgotten += lost,
                Ok(Err(error)) => unwritten = unwritten.and(Err(error.into())),
                Err(not_leader) => return (forgotten, Err(not_leader.into())),
            }
            // The cached manifest has these versions now: they must not count twice against the memory budget.
            coverage.present = VersionSet::default();
        }
        outcome.coverage = all;
        (forgotten, unwritten)
    }

    async fn sweep_if_due(&self, outcome: &mut PassOutcome) -> Result<(), RetentionPassError> {
        let range = match self.schedule().sweep_range() {
            Ok(range) => range,
            Err(next) => {
                outcome.sweep_at = next;
                return Ok(());
            }
        };
        // Versions that expire before the next sweep are deleted now: on a store without lifecycle rules, nothing else
        // would delete them in time.
        let time = DecisionTime { clock_reading: self.now, now: later(self.now, SWEEP_INTERVAL * 2) };
        let (target, ceilings) = (&self.bucket.operator, &self.bucket.terms.ceilings);
        let work = sweep(target, ceilings, self.api_holds, self.protection_cache, range, time);
        let swept = self.fence.guard(work).await??;
        outcome.count_change("deleted", swept.deleted);
        outcome.count_change("retagged", swept.retagged);
        outcome.swept = Some(swept);
        Ok(())
    }
}

/// Returns the lifetime that the store's lifecycle rules allow a recording.
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
