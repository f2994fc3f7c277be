//! Retention: the one writer of a bucket's holds, and the sweep (article 6).
//!
//! For each Site whose bucket the Site controller has found as it must be: which holds count ([`plan`], from the API
//! server and the ledger), the ledger first, then a pass that places, one that releases, the sweep, and what came of it
//! ([`report`]). One Site is looked at by one task at a time, so all writes to a bucket's holds come one after another.

pub(crate) mod api_holds;
pub(crate) mod error;
pub(crate) mod intervals;
mod manifests;
pub(crate) mod outcome;
mod pass;
pub(crate) mod plan;
mod report;
pub(crate) mod schedule;
mod watches;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use self::api_holds::ApiHolds;
pub use self::outcome::PassOutcome;
pub use self::pass::RetentionPass;
use self::plan::{HoldPlan, plan_holds};
pub use self::report::{placement_status, retention_status};
pub use self::watches::controller;
use super::context::{Context, ControllerKind};
use super::handoff::{HoldAck, SiteBucket};
use super::kubernetes::error::ApiError;
use super::kubernetes::{event, meta};
use super::requeue;
use super::runner::{Reconciled, Reconciler, fetch};
use crate::api::{IncidentHold, RecordingPolicy, Site};
use crate::controllers::retention::api_holds::list_declared_holds;
use crate::controllers::retention::error::RetentionPassError;
use crate::storage::Subresource;
use crate::storage::recordings::error::PassErrors;
use crate::storage::recordings::hold::coverage::MAX_UPLOAD_DELAY;
use crate::storage::recordings::ledger;

/// A bucket that nobody has found as it must be is asked for again after this long, should nobody tell.
const UNAVAILABLE_RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// While something goes on being held, what came is looked at this often: a legal hold follows within a minute.
const ONGOING_HOLD_INTERVAL: SignedDuration = SignedDuration::from_secs(20);
/// A pass that waits for recorders, or has to prove something, is made again after this long.
const FOLLOW_UP_DELAY: SignedDuration = SignedDuration::from_secs(2);
/// The longest pause between two passes while recorders are silent.
const MAX_ACKNOWLEDGEMENT_POLL: SignedDuration = SignedDuration::from_mins(1);

struct RetentionReconciler {
    context: Context,
}

impl Reconciler for RetentionReconciler {
    type Object = Site;
    type Failure = RetentionPassError;
    const KIND: ControllerKind = ControllerKind::Retention;
    const REFETCH: bool = true;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn reconcile(&self, site: &Site, now: Timestamp) -> Result<Reconciled, RetentionPassError> {
        if meta::is_paused(site) {
            return Ok(Reconciled::AWAIT_CHANGE);
        }
        let Some(bucket) = self.context.handoff.bucket(site) else {
            let is_changed = if self.context.handoff.is_unavailable(site) {
                self.report_error(site, &report::bucket_unused_message(site)).await?
            } else {
                false
            };
            return Ok(Reconciled {
                action: requeue::at(now, [now + UNAVAILABLE_RETRY_INTERVAL]),
                is_changed,
            });
        };
        match Box::pin(self.plan_holds_in_ledger(site, now, &bucket)).await {
            Ok((holds, plan)) => Box::pin(self.run_pass(site, bucket, &holds, &plan, now)).await,
            Err(error) => {
                if let RetentionPassError::Hold(_) = error {
                    self.report_error(site, &error.to_string()).await?;
                }
                Err(error)
            }
        }
    }
}

impl RetentionReconciler {
    /// Which holds count, by the API and the ledger: as the ledger has it before anything goes by it.
    async fn plan_holds_in_ledger(
        &self,
        site: &Site,
        now: Timestamp,
        bucket: &SiteBucket,
    ) -> Result<(Vec<IncidentHold>, HoldPlan), RetentionPassError> {
        let Context { client, fence, .. } = &self.context;
        let namespace = site.namespace().unwrap_or_default();
        let policy = fetch::<RecordingPolicy>(client, &namespace, &site.spec.policy_ref.name).await?;
        let holds = list_holds(client, site).await?;
        let memory = self.context.handoff.protection_cache(site);
        let new = memory.unregistered(bucket.cameras.keys());
        if !new.is_empty() {
            fence.guard(ledger::register(&bucket.operator, &new)).await??;
            memory.note_registered(new);
        }
        let asked = holds.iter().filter(|hold| plan::needs_ledger_lookup(hold, now));
        let asked = asked.filter_map(ResourceExt::uid).collect();
        let entries = fence.guard(ledger::read_all(&bucket.operator, &asked)).await??;
        let plan = plan_holds(&entries, &holds, policy.as_ref().map(|policy| &policy.spec), now);
        fence.guard(ledger::write_all(&bucket.operator, &plan.to_write)).await??;
        self.ensure_finalizers(&holds, &plan).await?;
        Ok((holds, plan))
    }

    /// Runs a pass by `plan`, and reports what came of it.
    async fn run_pass(
        &self,
        site: &Site,
        bucket: SiteBucket,
        holds: &[IncidentHold],
        plan: &HoldPlan,
        now: Timestamp,
    ) -> Result<Reconciled, RetentionPassError> {
        let Context { client, events, handoff, fence, takeover_delay, .. } = &self.context;
        handoff.set_hold_scopes(site, plan.recorder_scopes());
        // Asked after that: what was known before may be of what was held before.
        let recorders = handoff.bucket(site).map_or(HoldAck::Unknown, |bucket| bucket.hold_ack);
        let bucket = SiteBucket { hold_ack: recorders, ..bucket };

        let declared = ApiHolds { client, site };
        let pass = RetentionPass {
            fence,
            release_from: takeover_delay.release_from(now),
            api_holds: &declared,
            clock: &Timestamp::now,
            site,
            bucket: &bucket,
            holds,
            plan,
            protection_cache: &handoff.protection_cache(site),
            now,
        };
        let (mut outcome, failed) = pass.run().await;
        if let Some(RetentionPassError::NotLeader(lost)) = failed {
            return Err(lost.into());
        }
        for (kind, count) in &outcome.changes {
            self.context.telemetry.record_retention_changes(kind, *count);
        }
        let drifted = outcome.drift.iter().flat_map(|drift| &drift.counts);
        for (what, count) in drifted.filter(|(what, _)| **what != Subresource::HeldVersion) {
            self.context.telemetry.record_drift(site, *what, *count);
        }
        // Before the status, which may fail: what was put back is not found again.
        event::publish(events, site, &report::events(&outcome)).await;
        let is_reported =
            report::report_pass(client, site, holds, plan, &outcome, failed.as_ref(), now).await?;
        let (forgotten, written) = pass.write_manifests(&mut outcome).await;
        if forgotten > 0 {
            // Not before: what a manifest still lists is found again.
            self.context.telemetry.record_drift(site, Subresource::HeldVersion, forgotten);
        }
        written?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        Ok(Reconciled {
            action: requeue::at(now, deadlines(plan, &outcome, now)),
            is_changed: is_reported || outcome.is_changed() || !plan.to_write.is_empty(),
        })
    }

    /// Says in the statuses why nothing is looked at.
    async fn report_error(&self, site: &Site, problem: &str) -> Result<bool, RetentionPassError> {
        let client = &self.context.client;
        let holds = list_holds(client, site).await?;
        Ok(report::report_error(client, site, &holds, problem).await?)
    }

    /// A hold that counts cannot be deleted away: its resource waits until it is released, also where it was resolved before it
    /// ever counted, and took over what its predecessor held.
    async fn ensure_finalizers(&self, holds: &[IncidentHold], plan: &HoldPlan) -> Result<(), ApiError> {
        for hold in holds {
            let counts = hold.uid().is_some_and(|uid| plan.is_in_effect(&uid));
            if counts && !meta::is_deleting(hold) {
                meta::add_finalizer(
                    &self.context.client,
                    hold,
                    super::hold::status::FINALIZER,
                    super::hold::MANAGER,
                )
                .await?;
            }
        }
        Ok(())
    }
}

/// The site's holds as the API server has them now, not as some cache remembers. Those that cannot be read are left out:
/// what the ledger has of them is kept.
pub async fn list_holds(client: &kube::Client, site: &Site) -> Result<Vec<IncidentHold>, ApiError> {
    let all = list_declared_holds(client, site).await?;
    Ok(all.into_iter().filter_map(Result::ok).collect())
}

/// The instants at which the next look is due; the first counts. Pure.
pub fn deadlines(plan: &HoldPlan, outcome: &PassOutcome, now: Timestamp) -> Vec<Timestamp> {
    // After the end of a window, the last segment that overlaps it is still on its way, and then has to be seen.
    let last = MAX_UPLOAD_DELAY + ONGOING_HOLD_INTERVAL * 9;
    let is_ongoing = |entry: &crate::rules::hold::entry::LedgerEntry| {
        entry.window.until.is_none_or(|until| until + last > now)
    };
    let mut deadlines = vec![outcome.sweep_at];
    if plan.open.values().any(is_ongoing) {
        deadlines.push(now + ONGOING_HOLD_INTERVAL);
    }
    if outcome.needs_another_pass {
        deadlines.push(now + FOLLOW_UP_DELAY);
    }
    // The Site controller says when recorders follow; whether it does is asked ever more rarely.
    if let Some(since) = outcome.unacknowledged_since {
        deadlines
            .push(now + (now.duration_since(since) / 4).clamp(FOLLOW_UP_DELAY, MAX_ACKNOWLEDGEMENT_POLL));
    }
    let has_failed = outcome.rejection.as_ref().is_some_and(PassErrors::is_transient);
    if !outcome.release_rejections.is_empty() || outcome.has_undecided_versions || has_failed {
        deadlines.push(now + schedule::REJECTED_RETRY_DELAY);
    }
    let of_open = outcome.coverage.iter();
    let mut of_open = of_open.filter_map(|(_, coverage)| coverage.errors.as_ref());
    if !outcome.unseen.is_empty() || of_open.any(|refused| !refused.has_versions()) {
        deadlines.push(now + schedule::UNVISITED_RETRY_DELAY);
    }
    deadlines.extend(outcome.verify_at);
    deadlines.extend(outcome.next_opening);
    deadlines.extend(outcome.release_from);
    deadlines.extend(outcome.release_retry_at);
    deadlines
}
