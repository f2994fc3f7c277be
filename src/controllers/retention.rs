//! Retention: the only writer of a bucket's holds, and the sweep (article 6).
//!
//! Handles each Site with a bucket that the Site controller has verified. Combines the holds of the API server and the
//! ledger ([`plan`]), writes the ledger, then runs a pass ([`pass`]): place, release, sweep. Reports the outcome
//! ([`report`]).
//!
//! One task reconciles a Site at a time, so writes to a bucket's holds never overlap.

pub(crate) mod api_holds;
pub mod error;
mod missing;
pub mod outcome;
mod pass;
pub mod plan;
mod report;
mod schedule;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;

use self::api_holds::{ApiHolds, list_declared_holds};
use self::error::RetentionPassError;
pub use self::outcome::PassOutcome;
pub use self::pass::RetentionPass;
use self::plan::{HoldPlan, plan_holds};
pub use self::report::{placement_status, retention_status};
use super::context::{Context, ControllerKind};
use super::handoff::{HoldAck, SiteBucket, sites_in_scope};
use super::hold::site_of_hold;
use super::kubernetes::{ApiError, event, meta};
use super::runner::{Reconciled, Reconciler, fetch, select};
use super::site_policies::site_policies;
use super::watch_cache::WatchCache;
use super::{requeue, runner};
use crate::api::{IncidentHold, RecordingPolicy, Site, later};
use crate::storage::recordings::hold::coverage::MAX_UPLOAD_DELAY;
use crate::storage::recordings::ledger;
use crate::storage::{PassErrors, Subresource};

/// Requeue delay for a bucket that is not available, in case its notification is missed.
const UNAVAILABLE_RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// Interval between passes while an open hold still gains recordings: each gets its legal hold within a minute.
const ONGOING_HOLD_INTERVAL: SignedDuration = SignedDuration::from_secs(20);
/// Delay before a pass that waits for recorders or repeats a verification.
const FOLLOW_UP_DELAY: SignedDuration = SignedDuration::from_secs(2);
/// Longest pause between two passes while recorders do not acknowledge.
const MAX_ACKNOWLEDGEMENT_POLL: SignedDuration = SignedDuration::from_mins(1);

/// Returns the controller of the retention of the Sites in `scope`, or in all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<DeserializeGuard<Site>> {
    let WatchCache { sites, holds, policies, .. } = context.cache.clone();
    let opened = sites_in_scope(context.handoff.bucket_changes(), scope);
    sites
        .controller(sites.changes_of_spec())
        .watches_shared_stream(holds.changes(), |hold| site_of_hold(&hold))
        // All Sites of the namespace: the policy may replace the one that a Site names.
        .watches_shared_stream(policies.changes_of_spec(), move |policy| {
            select(sites.in_namespace(&policy.namespace().unwrap_or_default()), |_| true)
        })
        .reconcile_on(opened)
}

pub struct RetentionReconciler {
    pub context: Context,
}

impl Reconciler for RetentionReconciler {
    type Object = Site;
    type Failure = RetentionPassError;
    const KIND: ControllerKind = ControllerKind::Retention;
    const REFETCH: bool = true;

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
                action: requeue::at(now, [later(now, UNAVAILABLE_RETRY_INTERVAL)]),
                is_changed,
            });
        };
        match Box::pin(self.plan_holds_in_ledger(site, now, &bucket)).await {
            Ok((holds, plan)) => Box::pin(self.run_pass(site, bucket, &holds, &plan, now)).await,
            Err(error) => {
                // An error of the ledger may need a person. Errors of the API server and a lost lease are only
                // retried.
                if let RetentionPassError::Hold(_) = error {
                    self.report_error(site, &error.to_string()).await?;
                }
                Err(error)
            }
        }
    }
}

impl RetentionReconciler {
    /// Plans the site's holds from the API server and the ledger. The ledger has every planned entry before anything is
    /// done.
    async fn plan_holds_in_ledger(
        &self,
        site: &Site,
        now: Timestamp,
        bucket: &SiteBucket,
    ) -> Result<(Vec<IncidentHold>, HoldPlan), RetentionPassError> {
        let Context { client, fence, cache, config, .. } = &self.context;
        let namespace = site.namespace().unwrap_or_default();
        let holds = list_holds(client, site).await?;
        // Only a new hold needs a policy, which must accept it.
        let policy = if holds.is_empty() {
            None
        } else {
            let governing = site_policies(cache, site, &config.ceilings, now).name;
            fetch::<RecordingPolicy>(client, &namespace, &governing).await?
        };
        let memory = self.context.handoff.protection_cache(site);
        let new = memory.unregistered(bucket.cameras.keys());
        if !new.is_empty() {
            // Before the pass: recordings of a camera must be found even if its Camera is deleted meanwhile.
            fence.guard(ledger::register(&bucket.operator, &new)).await??;
            memory.note_registered(new);
        }
        let asked = holds.iter().filter(|hold| plan::needs_ledger_lookup(hold, now));
        let asked = asked.filter_map(ResourceExt::uid).collect();
        let entries = fence.guard(ledger::read_all(&bucket.operator, &asked)).await??;
        let plan = plan_holds(&entries, &holds, policy.as_ref().map(|policy| &policy.spec), now);
        fence.guard(ledger::write_all(&bucket.operator, &plan.to_write)).await??;
        // After the ledger: a resource that is deleted in between leaves an orphaned entry, which stays in force.
        self.ensure_finalizers(&holds, &plan).await?;
        Ok((holds, plan))
    }

    /// Runs a pass by `plan` and reports its outcome.
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
        // Read after the scopes are set: an earlier acknowledgement may be of other scopes.
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
        // Without the lease nothing is reported: the next leader writes the statuses.
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
        // Before the status, which may fail: the next pass no longer finds drift that this one restored.
        event::publish(events, site, &report::events(&outcome)).await;
        let is_reported =
            report::report_pass(&self.context, site, holds, plan, &outcome, failed.as_ref(), now).await?;
        let (forgotten, written) = pass.write_manifests(&mut outcome).await;
        if forgotten > 0 {
            // Only now: as long as a manifest lists a lost version, the next pass counts it again.
            self.context.telemetry.record_drift(site, Subresource::HeldVersion, forgotten);
        }
        // Only now: the statuses and manifests of unaffected holds are written even if the pass failed.
        written?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        Ok(Reconciled {
            action: requeue::at(now, deadlines(plan, &outcome, now)),
            is_changed: is_reported || outcome.is_changed() || !plan.to_write.is_empty(),
        })
    }

    /// Reports in the statuses why no pass runs.
    async fn report_error(&self, site: &Site, problem: &str) -> Result<bool, RetentionPassError> {
        let holds = list_holds(&self.context.client, site).await?;
        Ok(report::report_error(&self.context, site, &holds, problem).await?)
    }

    /// Adds the finalizer to holds in effect: the API server keeps the resource until the hold is released. This
    /// includes a hold that was resolved before it took effect and has taken over its predecessor's scope.
    async fn ensure_finalizers(&self, holds: &[IncidentHold], plan: &HoldPlan) -> Result<(), ApiError> {
        for hold in holds {
            let counts = hold.uid().is_some_and(|uid| plan.is_in_effect(&uid));
            if counts && !meta::is_deleting(hold) {
                runner::add_finalizer(
                    &self.context,
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

/// Returns the site's holds as the API server has them now, not from a cache. Omits resources in an unknown form: their
/// ledger entries stay open.
pub async fn list_holds(client: &kube::Client, site: &Site) -> Result<Vec<IncidentHold>, ApiError> {
    let all = list_declared_holds(client, site).await?;
    Ok(all.into_iter().filter_map(Result::ok).collect())
}

/// Returns the times at which a pass is due. The next one runs at the earliest. Pure.
pub fn deadlines(plan: &HoldPlan, outcome: &PassOutcome, now: Timestamp) -> Vec<Timestamp> {
    // The last segment that overlaps an ended window is still being uploaded, and then a pass must find it.
    let last = MAX_UPLOAD_DELAY + ONGOING_HOLD_INTERVAL * 9;
    let is_ongoing = |entry: &crate::rules::hold::entry::LedgerEntry| {
        entry.scope.window.until.is_none_or(|until| later(until, last) > now)
    };
    let mut deadlines = vec![outcome.sweep_at];
    if plan.open.values().any(is_ongoing) {
        deadlines.push(later(now, ONGOING_HOLD_INTERVAL));
    }
    if outcome.needs_another_pass {
        deadlines.push(later(now, FOLLOW_UP_DELAY));
    }
    // The Site controller notifies of acknowledgements. The poll covers a missed notification, less and less often.
    if let Some(since) = outcome.unacknowledged_since {
        let wait = (now.duration_since(since) / 4).clamp(FOLLOW_UP_DELAY, MAX_ACKNOWLEDGEMENT_POLL);
        deadlines.push(later(now, wait));
    }
    let has_failed = outcome.rejection.as_ref().is_some_and(PassErrors::is_transient);
    if !outcome.release_rejections.is_empty() || outcome.has_undecided_versions || has_failed {
        deadlines.push(later(now, schedule::REJECTED_RETRY_DELAY));
    }
    let of_open = outcome.coverage.iter();
    let mut of_open = of_open.filter_map(|(_, coverage)| coverage.errors.as_ref());
    if !outcome.unseen.is_empty() || of_open.any(|refused| !refused.has_versions()) {
        deadlines.push(later(now, schedule::UNVISITED_RETRY_DELAY));
    }
    deadlines.extend(outcome.verify_at);
    deadlines.extend(outcome.next_opening);
    deadlines.extend(outcome.release_from);
    deadlines.extend(outcome.release_retry_at);
    deadlines
}
