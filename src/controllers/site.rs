//! The Site controller: the bucket that the protocol demands, and recorders that record into it.
//!
//! dereference → validate → bucket → plan → apply → status. The first needs the API server only; the second
//! and fourth are pure; nothing is connected to before the second has found a grant for it, and nothing is
//! recorded before the third has read the bucket back.

pub mod bucket;
mod compliance;
pub(crate) mod dereference;
#[cfg(test)]
mod fixtures;
pub mod recorders;
pub(crate) mod secret_finalizers;
mod status;
mod validate;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use self::bucket::evaluation::{BucketEvaluation, describe_changes};
use self::bucket::{BucketCache, Stores};
use self::recorders::delete::{BlockingHolds, DeletionPhase};
use self::recorders::identity::IdentityError;
use self::recorders::names::{FIELD_MANAGER, FINALIZER};
use self::status::StatusInputs;
pub use self::watches::{controller, controller_with_stores};
use super::context::{Context, ControllerKind};
use super::handoff::HoldAck;
use super::kubernetes::apply::ApplyError;
use super::kubernetes::error::{ApiError, KubeErrorExt};
use super::kubernetes::{event, meta, status as kit_status};
use super::requeue;
use super::runner::{Reconciled, Reconciler};
use crate::api::{DeletionPolicy, Site, SiteStatus};
use crate::controllers::{hold, retention};
use crate::leader::fence::NotLeader;
use crate::storage::Subresource;

/// While cameras should record, their recorders are asked this often.
const RECORDER_POLL_INTERVAL: Duration = Duration::from_secs(15);
/// While a recorder does not follow yet what is held, this often.
const HOLD_ACK_POLL_INTERVAL: Duration = Duration::from_millis(500);

struct SiteReconciler {
    context: Context,
    stores: Arc<dyn Stores>,
    bucket_cache: BucketCache,
}

/// Why a Site could not be looked after.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SiteError {
    /// The API server did not do it.
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    /// A child could not be applied.
    #[error(transparent)]
    #[strum(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    #[strum(transparent)]
    Identity(#[from] IdentityError),
    /// This replica does not lead any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}

impl Reconciler for SiteReconciler {
    type Object = Site;
    type Failure = SiteError;
    const KIND: ControllerKind = ControllerKind::Site;
    const REFETCH: bool = true;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn reconcile(&self, site: &Site, now: Timestamp) -> Result<Reconciled, SiteError> {
        if meta::is_deleting(site) {
            return self.delete(site, now).await;
        }
        if meta::is_paused(site) {
            let before = site.status.clone().unwrap_or_default();
            let conditions =
                kit_status::paused_conditions(&before.conditions, before.observed_generation, now);
            let is_changed = self.report(site, SiteStatus { conditions, ..before }).await?;
            return Ok(Reconciled { action: requeue::at(now, []), is_changed });
        }
        // Before anything is made that would have to be waited for.
        meta::add_finalizer(&self.context.client, site, FINALIZER, FIELD_MANAGER).await?;
        Box::pin(self.ensure(site, now)).await
    }
}

impl SiteReconciler {
    async fn ensure(&self, site: &Site, now: Timestamp) -> Result<Reconciled, SiteError> {
        let Context { client, config, fence, recorders, .. } = &self.context;
        let reported = site.status.as_ref().and_then(|status| status.storage.as_ref());

        let observed = dereference::dereference(client, site).await?;
        let valid = validate::validate(site, &observed, config, &self.context.cluster_id, now);
        let holds = retention::list_holds(client, site).await?;
        let is_held = holds.iter().any(|hold| hold::may_protect_recordings(hold, now));
        let has_secret_finalizer =
            secret_finalizers::ensure_secret_finalizers(client, site, &observed, is_held).await?;
        let bucket =
            bucket::ensure(&*self.stores, &self.bucket_cache, fence, valid.access.as_ref(), reported, now)
                .await?;
        let identity = self::recorders::identity::ensure_identity(
            observed.recorder_config.as_ref().map(|config| &config.status_api),
            now,
        )?;
        let held = self.context.handoff.holds(site);
        let plan = self::recorders::plan::plan(site, &observed, &valid, &bucket, &identity, held, config);
        let applied = Box::pin(self::recorders::apply::apply(client, recorders, &valid.names, plan)).await;
        let replies = match applied.as_ref().ok().and_then(|applied| applied.recorders.as_ref()) {
            Some(running) => self::recorders::query::query_recorders(recorders, &valid.names, running).await,
            None => Vec::new(),
        };
        let site_bucket = self::bucket::handoff::site_bucket(
            site,
            &observed,
            &valid,
            &bucket,
            applied.as_ref().ok(),
            &replies,
            &self.context.handoff,
        );
        let is_hold_ack_pending = site_bucket.as_ref().is_some_and(|open| open.hold_ack == HoldAck::Unknown);
        self.context.handoff.set_bucket(site, site_bucket);
        let inputs = StatusInputs { valid: &valid, bucket: &bucket, applied: &applied, replies: &replies };
        let (next, stalls_at) = status::status(site, &inputs, now);
        let is_reported = self.report(site, next).await?;

        event::publish(&self.context.events, site, &storage_events(&bucket)).await;
        for change in bucket.changes.iter().filter(|_| bucket.is_drift) {
            self.context.telemetry.record_drift(site, change.subresource, 1);
        }
        self.bucket_cache.mark_reported(&valid.names.uid);
        let is_changed = match applied {
            Ok(applied) => applied.is_changed || is_reported || !bucket.changes.is_empty(),
            // A person has to act; the watch tells when it happened.
            Err(ApplyError::ForeignObject { .. }) => is_reported,
            // Nothing can be created any more, and the Site goes soon.
            Err(ApplyError::Api(ApiError(error))) if error.is_namespace_terminating() => is_reported,
            Err(error) => return Err(error.into()),
        };
        let ask_every = if is_hold_ack_pending { HOLD_ACK_POLL_INTERVAL } else { RECORDER_POLL_INTERVAL };
        let ask_again = (has_secret_finalizer || !replies.is_empty()).then(|| now + ask_every);
        let deadlines =
            [valid.permission.next_change, bucket.recheck_at, Some(identity.renew_at), ask_again, stalls_at];
        Ok(Reconciled { action: requeue::at(now, deadlines.into_iter().flatten()), is_changed })
    }

    async fn delete(&self, site: &Site, now: Timestamp) -> Result<Reconciled, SiteError> {
        if !site.finalizers().iter().any(|name| name == FINALIZER) {
            return Ok(Reconciled { action: Action::await_change(), is_changed: false });
        }
        let step =
            self::recorders::delete::delete(&self.context.client, &self.context.recorders, site, now).await?;
        let blocking = self.blocking_holds(site, &step, now).await?;
        let waits_for = match step {
            DeletionPhase::Done if blocking.has_holds() => blocking.to_string(),
            DeletionPhase::Done => {
                meta::remove_finalizer(&self.context.client, site, FINALIZER, FIELD_MANAGER).await?;
                self.bucket_cache.forget(&site.uid().unwrap_or_default());
                self.context.handoff.forget(site);
                event::publish(&self.context.events, site, &bucket_retained_event(site)).await;
                tracing::info!(
                    site = meta::namespaced_name(site),
                    "the recorders are gone; the bucket keeps its rules"
                );
                return Ok(Reconciled { action: Action::await_change(), is_changed: true });
            }
            DeletionPhase::Draining(segments) => {
                format!(
                    "waits until the recorders have uploaded what is in their spools: {segments} segments"
                )
            }
            DeletionPhase::Terminating(lost) => {
                event::publish(&self.context.events, site, &recordings_lost_event(lost)).await;
                "the recorders are going".to_owned()
            }
            DeletionPhase::WaitingForPods(pods) => {
                format!("waits until these recorders are gone: {}", pods.join(", "))
            }
        };
        let before = site.status.clone().unwrap_or_default();
        let message = format!("being deleted: {waits_for}");
        let conditions = status::deleting_conditions(
            &before.conditions,
            before.observed_generation,
            &message,
            blocking.bucket_unusable.as_ref(),
            now,
        );
        let is_changed = self.report(site, SiteStatus { conditions, ..before }).await?;
        Ok(Reconciled { action: Action::requeue(self::recorders::delete::POD_POLL_INTERVAL), is_changed })
    }

    /// The holds that a deleted Site waits for. They are looked after until then, as far as the store can still be reached.
    async fn blocking_holds(
        &self,
        site: &Site,
        step: &DeletionPhase,
        now: Timestamp,
    ) -> Result<BlockingHolds, SiteError> {
        let Context { client, config, cluster_id, handoff: buckets, .. } = &self.context;
        let holds = retention::list_holds(client, site).await?;
        let mut blocking = BlockingHolds::from_holds(&holds, now);
        if !blocking.has_holds() && *step != DeletionPhase::Done {
            return Ok(blocking);
        }
        let observed = dereference::dereference(client, site).await?;
        secret_finalizers::ensure_secret_finalizers(client, site, &observed, blocking.has_holds()).await?;
        if blocking.has_holds() {
            let valid = validate::validate(site, &observed, config, cluster_id, now);
            let hold_ack = if *step == DeletionPhase::Done { HoldAck::NoRecorders } else { HoldAck::Unknown };
            let site_bucket =
                self::bucket::handoff::deleted_site_bucket(site, &observed, &valid, hold_ack, buckets);
            blocking.bucket_unusable = site_bucket.is_none().then_some(valid.accepted);
            buckets.set_bucket(site, site_bucket);
        }
        Ok(blocking)
    }

    /// Writes the status where it differs, and tells people what changed.
    async fn report(&self, site: &Site, next: SiteStatus) -> Result<bool, ApiError> {
        let api = Api::<Site>::namespaced(self.context.client.clone(), &site.namespace().unwrap_or_default());
        let (current, next) = (site.status.clone().map(owned_fields), owned_fields(next));
        let is_written = kit_status::report(&api, FIELD_MANAGER, site, current.as_ref(), &next).await?;
        if is_written {
            let before = site.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            event::publish(&self.context.events, site, &event::condition_changes(before, &next.conditions))
                .await;
        }
        Ok(is_written)
    }
}

/// The part of a status that this controller writes.
fn owned_fields(status: SiteStatus) -> SiteStatus {
    SiteStatus { retention: None, audit: None, ..status }
}

/// What becomes of the bucket is said where it is not what the Site asks for.
fn bucket_retained_event(site: &Site) -> Vec<kube::runtime::events::Event> {
    match site.spec.deletion_policy {
        DeletionPolicy::Retain => Vec::new(),
        DeletionPolicy::DeleteWhenEmpty => vec![event::normal(
            "BucketRetained",
            "Delete",
            "this version deletes no buckets: the bucket stays with all its rules, so what is in it goes in time; delete it by hand once it is empty",
        )],
    }
}

/// What the store did not take in time goes with the spools, and somebody should know.
fn recordings_lost_event(segments: u64) -> Vec<kube::runtime::events::Event> {
    if segments == 0 {
        return Vec::new();
    }
    let note = format!(
        "the store did not take {segments} segments in ten minutes: they go with the recorders' spools"
    );
    vec![event::warning("RecordingsLost", "Delete", &note)]
}

/// One event for all that was changed in a bucket: what is not as it was left is worth reading about.
fn storage_events(bucket: &BucketEvaluation) -> Vec<kube::runtime::events::Event> {
    if bucket.changes.is_empty() {
        return Vec::new();
    }
    let changes = describe_changes(&bucket.changes);
    let action = "StorageEnforced";
    vec![if bucket.is_drift {
        let is_gone = bucket.changes.iter().any(|change| change.subresource == Subresource::Bucket);
        let happened = if is_gone {
            "the bucket was gone, with all that was in it"
        } else {
            "somebody else had changed the bucket"
        };
        let note = format!("{happened}; put back: {changes}");
        event::warning("StorageDrifted", action, &note)
    } else {
        let note = format!("the bucket's configuration was changed: {changes}");
        event::normal("StorageConfigured", action, &note)
    }]
}
