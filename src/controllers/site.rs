//! Site: a bucket as the protocol requires, and recorders that record into it.
//!
//! dereference → validate → bucket → plan → apply → status. The first step needs the API server only. The second and the
//! fourth are pure. The operator connects to nothing before the second step found a grant, and records nothing before the
//! third step read the bucket back.

pub mod bucket;
mod compliance;
pub(crate) mod dereference;
#[cfg(test)]
mod fixtures;
mod missing_reference;
mod problem;
pub mod recorders;
pub(crate) mod secret_finalizers;
mod spool_persistence;
mod status;
mod validate;
mod watches;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action;
use kube::runtime::events::Event;
use kube::{Api, ResourceExt};

use self::bucket::evaluation::{BucketEvaluation, describe_changes};
use self::bucket::handoff::{deleted_site_bucket, site_bucket};
use self::bucket::{BucketCache, S3};
use self::recorders::apply::{AppliedPlan, apply};
use self::recorders::claims::has_claims;
use self::recorders::delete::{BlockingHolds, DeletionPhase, POD_POLL_INTERVAL, delete};
use self::recorders::drain::{drain_end, drain_start};
use self::recorders::identity::{IdentityError, ensure_identity};
use self::recorders::lost;
use self::recorders::names::{ChildNames, FIELD_MANAGER, FINALIZER};
use self::recorders::plan::{may_record, plan};
use self::recorders::queried::query_all;
use self::recorders::recording::denial;
use self::recorders::site_holds::SiteHolds;
use self::recorders::spool_report::describe_discard;
use self::recorders::workload::delete_other_children;
use self::secret_finalizers::ensure_secret_finalizers;
use self::status::StatusInputs;
use self::validate::RecordingVerdict;
pub use self::watches::controller;
use super::context::Context;
use super::handoff::HoldAck;
use super::kubernetes::status as kube_status;
use super::kubernetes::status::ReportedStatus;
use super::kubernetes::{ApiError, ApplyError, event, meta};
use super::runner::{Reconciled, Reconciler};
use super::{requeue, runner};
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{DeletionPolicy, Site, SiteStatus, later};
use crate::controllers::hold;
use crate::controllers::retention::api_holds::list_declared_holds;
use crate::controllers::site_policies::site_policies;
use crate::leader::fence::NotLeader;
use crate::rules::hold::accept;
use crate::rules::suspension;
use crate::storage::Subresource;

/// Interval between two queries of the recorders.
const RECORDER_POLL_INTERVAL: Duration = Duration::from_secs(15);
/// Interval while a recorder has not acknowledged the open holds.
const HOLD_ACK_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Interval while recorders that answer take a configuration.
const CONFIG_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Delay before the first status after the creation of a StatefulSet, if no pod appears before.
const CREATED_POLL_INTERVAL: Duration = Duration::from_secs(1);

pub struct SiteReconciler {
    pub context: Context,
    pub bucket_cache: BucketCache,
}

#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SiteError {
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    #[strum(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    #[strum(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}

impl Reconciler for SiteReconciler {
    type Object = Site;
    type Failure = SiteError;
    const REFETCH: bool = true;

    async fn reconcile(&self, site: &Site, now: Timestamp) -> Result<Reconciled, SiteError> {
        if meta::is_deleting(site) {
            return self.delete(site, now).await;
        }
        if meta::is_paused(site) {
            self.context.lagging.forget(&site.uid().unwrap_or_default());
            let paused = site.status.clone().unwrap_or_default().paused(now);
            let is_changed = self.report(site, paused).await?;
            return Ok(Reconciled { action: requeue::at(now, []), is_changed });
        }
        // First, so that no recorder ever exists without the finalizer that waits for it.
        runner::add_finalizer(&self.context, site, FINALIZER, FIELD_MANAGER).await?;
        let outcome = Box::pin(self.ensure(site, now)).await;
        if let Err(SiteError::Api(error)) = &outcome
            && error.is_rejected()
        {
            // The status would otherwise stay as it was, perhaps `Ready`, for as long as the reconciles fail.
            self.report_failure(site, error, now).await?;
        }
        outcome
    }
}

impl SiteReconciler {
    async fn ensure(&self, site: &Site, now: Timestamp) -> Result<Reconciled, SiteError> {
        let Context { cache, config, fence, handoff, .. } = &self.context;
        let reported = site.status.as_ref().and_then(|status| status.storage.as_ref());

        let mut observed = dereference::dereference(&self.context, site, now).await?;
        observed.losses = lost::observe(&self.context, site, observed.recorder_config.as_ref(), now).await?;
        let valid = validate::validate(site, &observed, config, &self.context.cluster_id, now);
        let holds = cache.holds.of_site(&site.namespace().unwrap_or_default(), &site.name_any());
        // Also those that only the ledger has, and those that the cache does not have yet.
        let open = handoff.holds(site);
        let is_held = open.as_ref().is_some_and(|open| !open.is_empty())
            || runner::readable(&holds).any(|hold| hold::may_need_recordings(hold, now));
        ensure_secret_finalizers(&self.context, site, &observed, is_held).await?;
        let (access, stores) = (valid.access.as_ref(), S3 { handoff: handoff.clone() });
        let bucket = bucket::ensure(&stores, &self.bucket_cache, fence, access, reported, now).await?;
        let existing = observed.recorder_config.as_ref().map(|config| &config.status_api);
        let identity = ensure_identity(existing, now)?;
        let may_record = may_record(&observed, &valid, &bucket);
        let policy = observed.policies.policy.as_ref().map(|policy| &policy.spec);
        let site_holds = SiteHolds::new(handoff.holds(site), runner::readable(&holds), policy, now);
        // Before the ledger was read, there may be holds. A hold that is not accepted keeps nothing, and must not cost reads for ever.
        let may_be_held = open.is_none() || !site_holds.recorder_scopes(None).is_empty();
        let plan = plan(site, &observed, &valid, &bucket, &identity, &site_holds, config);
        let planned = plan.as_ref().map(|plan| plan.expected.clone());
        let applied = Box::pin(apply(&self.context, site, &valid.names, plan, may_be_held, now)).await;
        let queried = query_all(&self.context, &valid.names, planned, &applied).await;
        let lagging = queried.lagging(
            denial(&valid, may_record).is_some(),
            observed.recorder_config.as_ref(),
            &observed.cameras,
            now,
        );
        let lagging = self.context.lagging.note(&valid.names.uid, lagging, now);
        let replies = queried.replies;
        let mut lost_recorders = site.status.as_ref().map(|s| s.lost_recorders.clone()).unwrap_or_default();
        if applied.is_ok() {
            // Not before: the status must not have a move that did not take place.
            let previous = observed.recorder_config.as_ref();
            let events;
            (lost_recorders, events) = lost::update(&observed.losses, previous, &observed.cameras, now);
            event::publish(&self.context.events, site, &events).await;
        }
        let site_bucket =
            site_bucket(site, &observed, &valid, &bucket, applied.as_ref().ok(), &replies, handoff);
        let is_hold_ack_pending =
            site_bucket.as_ref().is_some_and(|bucket| bucket.hold_ack == HoldAck::Unknown);
        let is_removal_pending = applied.as_ref().is_ok_and(AppliedPlan::is_removal_pending);
        // A lost recorder acknowledges nothing for hours, and its pod changes when it returns.
        let is_waiting_for_return = lost_recorders.iter().any(lost::may_return);
        handoff.set_bucket(site, site_bucket);
        self.record_lost_recordings(site);
        if applied.as_ref().is_ok_and(|applied| applied.is_created) {
            // Its pods are created now, and the watch reports them. If the children of all Sites are gone, they are created before the
            // first status says so.
            return Ok(Reconciled { action: Action::requeue(CREATED_POLL_INTERVAL), is_changed: true });
        }
        let workload = cache.workloads.get(&valid.names.namespace, &valid.names.recorder);
        let inputs = StatusInputs {
            valid: &valid,
            has_claims: workload.as_deref().map(has_claims),
            may_record,
            bucket: &bucket,
            applied: &applied,
            replies: &replies,
            lagging: &lagging,
            lost_recorders,
            failed_watch: cache.failed_kind(),
        };
        let (next, stalls_at) = status::status(site, &inputs, now);
        let is_reported = self.report(site, next).await?;

        self.report_bucket_changes(site, &valid.names.uid, &bucket).await;
        let is_changed = is_reported | is_changed_by(applied)? | !bucket.changes.is_empty();
        let may_acknowledge = !is_removal_pending && !is_waiting_for_return;
        let interval = if is_hold_ack_pending && may_be_held && !holds.is_empty() && may_acknowledge {
            HOLD_ACK_POLL_INTERVAL
        } else if lagging.iter().any(|recorder| recorder.is_handing_over(now)) {
            CONFIG_POLL_INTERVAL
        } else {
            RECORDER_POLL_INTERVAL
        };
        // No watch reports the release of a hold, after which the finalizers of its Secrets must go.
        let is_waiting = is_held || is_removal_pending || !replies.is_empty() || !lagging.is_empty();
        let next_query = is_waiting.then(|| later(now, interval));
        let grace_end = match valid.recording {
            RecordingVerdict::AllowedUntil(until) => Some(until),
            RecordingVerdict::Allowed | RecordingVerdict::Stopped => None,
        };
        let deadlines = [
            grace_end,
            // A hold may become acceptable.
            runner::readable(&holds).filter_map(|hold| accept::next_change(&hold.spec, now)).min(),
            valid.permission.next_change,
            valid.ceilings_change,
            suspension::next_boundary(&site.spec.suspensions, now),
            bucket.recheck_at,
            Some(identity.renew_at),
            next_query,
            stalls_at,
        ];
        Ok(Reconciled { action: requeue::at(now, deadlines.into_iter().flatten()), is_changed })
    }

    /// Reports that the API server rejects a request of the reconcile.
    async fn report_failure(&self, site: &Site, error: &ApiError, now: Timestamp) -> Result<(), ApiError> {
        let before = site.status.clone().unwrap_or_default();
        let message =
            format!("the operator cannot reconcile the Site: {error}; check its version and its permissions");
        let ready = ConditionFinding::new(ConditionType::Ready, false, Reason::Retrying, message);
        let conditions =
            kube_status::replace_condition(&before.conditions, &ready, before.observed_generation, now);
        self.report(site, SiteStatus { conditions, ..before }).await.map(drop)
    }

    /// Publishes and counts the changes in a bucket, once.
    async fn report_bucket_changes(&self, site: &Site, uid: &str, bucket: &BucketEvaluation) {
        event::publish(&self.context.events, site, &bucket_change_event(bucket)).await;
        for change in bucket.changes.iter().filter(|_| bucket.is_drift) {
            self.context.telemetry.record_drift(site, change.subresource, 1);
        }
        self.bucket_cache.mark_reported(uid);
    }

    async fn delete(&self, site: &Site, now: Timestamp) -> Result<Reconciled, SiteError> {
        let Context { client, cache, config, handoff, .. } = &self.context;
        if !site.finalizers().iter().any(|name| name == FINALIZER) {
            return Ok(Reconciled::AWAIT_CHANGE);
        }
        // By an old read, a Site that was deleted and created again would lose its recorders.
        let sites = Api::<Site>::namespaced(client.clone(), &site.namespace().unwrap_or_default());
        let current = sites.get_metadata_opt(&site.name_any()).await.map_err(ApiError::from)?;
        if current.is_none_or(|current| current.uid() != site.uid()) {
            return Ok(Reconciled::AWAIT_CHANGE);
        }
        let declared = list_declared_holds(client, site).await?;
        let (ledger, status) = (handoff.holds(site), site.status.as_ref());
        let retention = status.and_then(|status| status.retention.as_ref());
        let blocking = BlockingHolds::new(&declared, retention, ledger.is_some(), now);
        let policy = site_policies(cache, site, &config.ceilings, now).policy.map(|policy| policy.spec);
        let readable = declared.iter().filter_map(|hold| hold.as_ref().ok());
        let holds = SiteHolds::new(ledger, readable, policy.as_ref(), now);
        let phase = Box::pin(delete(&self.context, site, blocking.may_need_spools(), &holds, now)).await?;
        self.context.lagging.forget(&site.uid().unwrap_or_default());
        let blocking = self.continue_retention(site, &phase, blocking, now).await?;
        let is_drained = phase == DeletionPhase::Drained;
        let waits_for = match phase {
            DeletionPhase::Done if blocking.has_holds() => blocking.to_string(),
            DeletionPhase::Done => {
                self.finish_deletion(site).await?;
                return Ok(Reconciled { is_changed: true, ..Reconciled::AWAIT_CHANGE });
            }
            DeletionPhase::Draining(report) => {
                let (spools, limit) = (report.message(), blocking.spool_wait());
                format!("waiting until the spools of the recorders are empty: {spools}; {limit}")
            }
            DeletionPhase::Drained | DeletionPhase::Terminating => "the recorders are terminating".to_owned(),
            DeletionPhase::Foreign(remedy) => remedy,
            DeletionPhase::WaitingForPods(pods) => {
                format!("waiting until these recorders have terminated: {}", pods.join(", "))
            }
            DeletionPhase::WaitingForClaims(claims) => {
                format!("waiting until these volume claims are deleted: {}", claims.join(", "))
            }
        };
        let waits_for =
            [Some(waits_for), describe_discard(site)].into_iter().flatten().collect::<Vec<_>>().join("; ");
        self.record_lost_recordings(site);
        let before = site.status.clone().unwrap_or_default();
        let conditions = status::deleting_conditions(
            &before.conditions,
            before.observed_generation,
            &format!("being deleted: {waits_for}"),
            blocking.bucket_unusable.as_ref(),
            now,
        );
        let drain_start_time = Some(Time(drain_start(site, now)));
        let drain_end_time =
            if is_drained { Some(Time(drain_end(site, now))) } else { before.drain_end_time };
        let next =
            SiteStatus { conditions, drain_start_time, drain_end_time, recording_cameras: Some(0), ..before };
        let is_changed = self.report(site, next).await?;
        Ok(Reconciled { action: Action::requeue(POD_POLL_INTERVAL), is_changed })
    }

    /// Writes losses to the bucket's ledger, if the bucket may be used.
    fn record_lost_recordings(&self, site: &Site) {
        let Context { handoff, discards, fence, .. } = &self.context;
        if let Some(bucket) = handoff.bucket(site) {
            discards.flush(&site.uid().unwrap_or_default(), &bucket.operator, fence);
        }
    }

    async fn finish_deletion(&self, site: &Site) -> Result<(), SiteError> {
        delete_other_children(&self.context.client, &ChildNames::of(site)).await?;
        // Before the event: if this fails, the next reconcile comes here again, and must not publish it twice.
        runner::remove_finalizer(&self.context, site, FINALIZER, FIELD_MANAGER).await?;
        self.bucket_cache.forget(&site.uid().unwrap_or_default());
        self.context.handoff.forget(site);
        self.context.discards.forget(&site.uid().unwrap_or_default());
        self.context.unanswered.forget(&site.uid().unwrap_or_default());
        event::publish(&self.context.events, site, &bucket_retained_event(site)).await;
        tracing::info!(
            site = meta::namespaced_name(site),
            "site deleted: its recorders have terminated, and the bucket keeps its rules"
        );
        Ok(())
    }

    /// Lets the retention controller place and release the holds that the deletion waits for, if the bucket can still be
    /// used.
    async fn continue_retention(
        &self,
        site: &Site,
        phase: &DeletionPhase,
        mut blocking: BlockingHolds,
        now: Timestamp,
    ) -> Result<BlockingHolds, SiteError> {
        let Context { config, cluster_id, handoff, .. } = &self.context;
        if !blocking.has_holds() && *phase != DeletionPhase::Done {
            return Ok(blocking);
        }
        let observed = dereference::dereference(&self.context, site, now).await?;
        ensure_secret_finalizers(&self.context, site, &observed, blocking.has_holds()).await?;
        if blocking.has_holds() {
            let valid = validate::validate(site, &observed, config, cluster_id, now);
            let hold_ack =
                if *phase == DeletionPhase::Done { HoldAck::NoRecorders } else { HoldAck::Unknown };
            let site_bucket = deleted_site_bucket(site, &observed, &valid, hold_ack, handoff);
            blocking.bucket_unusable = match &site_bucket {
                Ok(Some(_)) => None,
                Ok(None) => Some(valid.accepted),
                Err(error) => {
                    let message = error.to_string();
                    Some(ConditionFinding::new(ConditionType::Accepted, false, Reason::InvalidField, message))
                }
            };
            handoff.set_bucket(site, site_bucket.ok().flatten());
        }
        Ok(blocking)
    }

    async fn report(&self, site: &Site, next: SiteStatus) -> Result<bool, ApiError> {
        runner::report(&self.context, FIELD_MANAGER, site, next).await
    }
}

/// Returns whether the apply changed anything. An error that only a person can solve is not retried: a watch reports the
/// solution.
fn is_changed_by(applied: Result<AppliedPlan, ApplyError>) -> Result<bool, ApplyError> {
    match applied {
        Ok(applied) => Ok(applied.is_changed),
        Err(ApplyError::ForeignObject { .. }) => Ok(false),
        // Nothing can be created any more, and the Site is about to be deleted.
        Err(ApplyError::Api(error)) if error.is_namespace_terminating() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns an event if the operator does not delete the bucket although the Site asks for it.
fn bucket_retained_event(site: &Site) -> Vec<Event> {
    match site.spec.deletion_policy {
        DeletionPolicy::Retain => Vec::new(),
        DeletionPolicy::DeleteWhenEmpty => vec![event::normal(
            "BucketRetained",
            "Delete",
            "this version does not delete buckets: the bucket keeps its rules, so its content expires; delete the bucket by hand \
             once it is empty",
        )],
    }
}

/// Returns one event for all changes in a bucket: a warning if another party had changed it.
fn bucket_change_event(bucket: &BucketEvaluation) -> Vec<Event> {
    if bucket.changes.is_empty() {
        return Vec::new();
    }
    let changes = describe_changes(&bucket.changes);
    let action = "StorageEnforced";
    if !bucket.is_drift {
        let note = format!("the operator changed the bucket's configuration: {changes}");
        return vec![event::normal("StorageConfigured", action, &note)];
    }
    let is_deleted = bucket.changes.iter().any(|change| change.subresource == Subresource::Bucket);
    let cause = if is_deleted {
        "the bucket was deleted, with its content"
    } else {
        "another party changed the bucket's configuration"
    };
    vec![event::warning("StorageDrifted", action, &format!("{cause}; restored: {changes}"))]
}
