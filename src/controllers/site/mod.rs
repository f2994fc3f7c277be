//! The Site controller: the bucket that the protocol demands, and recorders that record into it.
//!
//! dereference → validate → bucket → plan → apply → status. The first needs the API server only; the second
//! and fourth are pure; nothing is connected to before the second has found a grant for it, and nothing is
//! recorded before the third has read the bucket back.

mod access;
mod apply;
pub mod bucket;
mod compliance;
mod conformance;
mod delete;
pub(in crate::controllers) mod dereference;
mod drain;
#[cfg(test)]
mod fixtures;
mod found;
mod guard;
mod identity;
pub(in crate::controllers) mod names;
mod objects;
mod opened;
mod plan;
mod pod;
mod recording;
mod refusal;
mod status;
mod target;
mod told;
mod validate;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use self::bucket::{Memory, Stores};
use self::delete::{Deletion, Kept};
use self::found::{Bucket, joined};
use self::identity::IdentityError;
use self::names::{FINALIZER, MANAGER};
use self::status::Observed;
pub use self::watches::{controller, controller_with};
use crate::api::{DeletionPolicy, Site, SiteStatus};
use crate::controllers::buckets::Follow;
use crate::controllers::drive::{Look, Looks};
use crate::controllers::kit::apply::ApplyError;
use crate::controllers::kit::context::{Context, Kind};
use crate::controllers::kit::error::{ApiError, Failure, KubeErrorExt};
use crate::controllers::kit::fence::NotLeader;
use crate::controllers::kit::{event, meta, requeue, status as kit_status};
use crate::controllers::{hold, retention};
use crate::storage::Aspect;

/// While cameras should record, their recorders are asked this often.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// While a recorder does not follow yet what is held, this often.
const ASK_SOON: Duration = Duration::from_millis(500);

/// The Site controller's own.
struct Sites {
    context: Context,
    stores: Arc<dyn Stores>,
    memory: Memory,
}

/// Why a Site could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The API server did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A child could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No certificate could be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// This replica does not lead any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}

impl Failure for SiteError {
    fn category(&self) -> &'static str {
        match self {
            Self::Api(error) => error.category(),
            Self::Apply(error) => error.category(),
            Self::Identity(error) => error.category(),
            Self::NotLeader(_) => "not_leader",
        }
    }

    fn safe_message(&self) -> String {
        self.to_string()
    }
}

impl Looks for Sites {
    type Object = Site;
    type Failure = SiteError;
    const KIND: Kind = Kind::Site;
    const ANEW: bool = true;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn look(&self, site: &Site, now: Timestamp) -> Result<Look, SiteError> {
        if meta::is_deleting(site) {
            return self.delete(site, now).await;
        }
        if meta::is_paused(site) {
            let before = site.status.clone().unwrap_or_default();
            let conditions = kit_status::paused(&before.conditions, before.observed_generation, now);
            let is_changed = self.report(site, SiteStatus { conditions, ..before }).await?;
            return Ok(Look { action: requeue::at(now, []), is_changed });
        }
        // Before anything is made that would have to be waited for.
        meta::add_finalizer(&self.context.client, site, FINALIZER, MANAGER).await?;
        Box::pin(self.keep(site, now)).await
    }
}

impl Sites {
    /// The six steps.
    async fn keep(&self, site: &Site, now: Timestamp) -> Result<Look, SiteError> {
        let Context { client, config, fence, recorders, .. } = &self.context;
        let reported = site.status.as_ref().and_then(|status| status.storage.as_ref());

        let found = dereference::dereference(client, site).await?;
        let valid = validate::validate(site, &found, config, &self.context.cluster_id, now);
        let holds = retention::holds(client, site).await?;
        let is_held = holds.iter().any(|hold| hold::is_kept(hold, now));
        let is_guarded = guard::guard(client, site, &found, is_held).await?;
        let bucket =
            bucket::keep(&*self.stores, &self.memory, fence, valid.access.as_ref(), reported, now).await?;
        let identity = identity::keep_or_make(found.config.as_ref().map(|config| &config.status_api), now)?;
        let held = self.context.buckets.held(site);
        let plan = plan::plan(site, &found, &valid, &bucket, &identity, held, config);
        let applied = Box::pin(apply::apply(client, recorders, &valid.names, plan)).await;
        let answers = match applied.as_ref().ok().and_then(|applied| applied.recorders.as_ref()) {
            Some(running) => recording::ask(recorders, &valid.names, running).await,
            None => Vec::new(),
        };
        let open = opened::opened(site, &found, &valid, &bucket, applied.as_ref().ok(), &answers);
        let waits_for_holds = open.as_ref().is_some_and(|open| open.recorders == Follow::Unknown);
        self.context.buckets.set_open(site, open);
        let observed = Observed { valid: &valid, bucket: &bucket, applied: &applied, answers: &answers };
        let (next, stalls_at) = status::status(site, &observed, now);
        let is_reported = self.report(site, next).await?;

        event::publish(&self.context.events, site, &storage_events(&bucket)).await;
        for change in bucket.changes.iter().filter(|_| bucket.is_drift) {
            self.context.hooks.drifted(site, change.what, 1);
        }
        self.memory.told(&valid.names.uid);
        let is_changed = match applied {
            Ok(applied) => applied.is_changed || is_reported || !bucket.changes.is_empty(),
            // A person has to act; the watch tells when it happened.
            Err(ApplyError::ForeignObject { .. }) => is_reported,
            // Nothing can be created any more, and the Site goes soon.
            Err(ApplyError::Api(ApiError(error))) if error.is_namespace_terminating() => is_reported,
            Err(error) => return Err(error.into()),
        };
        let ask_every = if waits_for_holds { ASK_SOON } else { ASK_EVERY };
        let ask_again = (is_guarded || !answers.is_empty()).then(|| now + ask_every);
        let deadlines =
            [valid.permission.next_change, bucket.look_again, Some(identity.renew_at), ask_again, stalls_at];
        Ok(Look { action: requeue::at(now, deadlines.into_iter().flatten()), is_changed })
    }

    async fn delete(&self, site: &Site, now: Timestamp) -> Result<Look, SiteError> {
        if !site.finalizers().iter().any(|name| name == FINALIZER) {
            return Ok(Look { action: Action::await_change(), is_changed: false });
        }
        let step = delete::delete(&self.context.client, &self.context.recorders, site, now).await?;
        let kept = self.holds_of_deleted(site, &step, now).await?;
        let waits_for = match step {
            Deletion::Done if kept.is_any() => kept.to_string(),
            Deletion::Done => {
                meta::remove_finalizer(&self.context.client, site, FINALIZER, MANAGER).await?;
                self.memory.forget(&site.uid().unwrap_or_default());
                self.context.buckets.forget(site);
                event::publish(&self.context.events, site, &farewell(site)).await;
                tracing::info!(site = meta::key(site), "the recorders are gone; the bucket keeps its rules");
                return Ok(Look { action: Action::await_change(), is_changed: true });
            }
            Deletion::Draining(segments) => {
                format!(
                    "waits until the recorders have uploaded what is in their spools: {segments} segments"
                )
            }
            Deletion::Going(lost) => {
                event::publish(&self.context.events, site, &lost_recordings(lost)).await;
                "the recorders are going".to_owned()
            }
            Deletion::Waiting(pods) => format!("waits until these recorders are gone: {}", pods.join(", ")),
        };
        let before = site.status.clone().unwrap_or_default();
        let message = format!("being deleted: {waits_for}");
        let conditions = status::deleting(
            &before.conditions,
            before.observed_generation,
            &message,
            kept.unusable.as_ref(),
            now,
        );
        let is_changed = self.report(site, SiteStatus { conditions, ..before }).await?;
        Ok(Look { action: Action::requeue(delete::LOOK_AGAIN), is_changed })
    }

    /// The holds that a deleted Site waits for. They are looked after until then, as far as the store can still be reached.
    async fn holds_of_deleted(
        &self,
        site: &Site,
        step: &Deletion,
        now: Timestamp,
    ) -> Result<Kept, SiteError> {
        let Context { client, config, cluster_id, buckets, .. } = &self.context;
        let holds = retention::holds(client, site).await?;
        let mut kept = Kept::of(&holds, now);
        if !kept.is_any() && *step != Deletion::Done {
            return Ok(kept);
        }
        let found = dereference::dereference(client, site).await?;
        guard::guard(client, site, &found, kept.is_any()).await?;
        if kept.is_any() {
            let valid = validate::validate(site, &found, config, cluster_id, now);
            let recorders = if *step == Deletion::Done { Follow::NoRecorders } else { Follow::Unknown };
            let open = opened::of_deleted(site, &found, &valid, recorders);
            kept.unusable = open.is_none().then_some(valid.accepted);
            buckets.set_open(site, open);
        }
        Ok(kept)
    }

    /// Writes the status where it differs, and tells people what changed.
    async fn report(&self, site: &Site, next: SiteStatus) -> Result<bool, ApiError> {
        let api = Api::<Site>::namespaced(self.context.client.clone(), &site.namespace().unwrap_or_default());
        let (current, next) = (site.status.clone().map(ours), ours(next));
        let is_written = kit_status::report(&api, MANAGER, site, current.as_ref(), &next).await?;
        if is_written {
            let before = site.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            event::publish(&self.context.events, site, &event::changes(before, &next.conditions)).await;
        }
        Ok(is_written)
    }
}

/// The part of a status that this controller writes.
fn ours(status: SiteStatus) -> SiteStatus {
    SiteStatus { retention: None, audit: None, ..status }
}

/// What becomes of the bucket is said where it is not what the Site asks for.
fn farewell(site: &Site) -> Vec<kube::runtime::events::Event> {
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
fn lost_recordings(segments: u64) -> Vec<kube::runtime::events::Event> {
    if segments == 0 {
        return Vec::new();
    }
    let note = format!(
        "the store did not take {segments} segments in ten minutes: they go with the recorders' spools"
    );
    vec![event::warning("RecordingsLost", "Delete", &note)]
}

/// One event for all that was changed in a bucket: what is not as it was left is worth reading about.
fn storage_events(bucket: &Bucket) -> Vec<kube::runtime::events::Event> {
    if bucket.changes.is_empty() {
        return Vec::new();
    }
    let changes = joined(&bucket.changes);
    let action = "StorageEnforced";
    vec![if bucket.is_drift {
        let is_gone = bucket.changes.iter().any(|change| change.what == Aspect::Bucket);
        let happened = if is_gone {
            "the bucket was gone, with all that was in it"
        } else {
            "somebody else had changed the bucket"
        };
        let note = format!("{happened}; put back: {changes}");
        event::warning("StorageDrifted", action, &note)
    } else {
        let note = format!("the bucket's configuration was changed: {changes}");
        event::normal("StorageChanged", action, &note)
    }]
}
