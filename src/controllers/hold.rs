//! IncidentHold: whether it is accepted, and its state for a person. The retention controller places and releases holds: it
//! alone writes to the bucket.
//!
//! dereference → validate → status.

mod dereference;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod recordings_found;
pub(crate) mod stall_causes;
pub mod status;
mod validate;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::watcher;

use self::dereference::dereference;
pub use self::status::FINALIZER;
use self::status::has_taken_effect;
use self::validate::validate;
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, controller_of, scoped_api, select_in_namespace};
use super::{requeue, runner};
use crate::api::{IncidentHold, RecordingPolicy, Site};
use crate::rules::hold::resolution::is_resolved;

/// Field manager of a hold's status.
pub const MANAGER: &str = "toezicht/hold";

/// Returns the controller of the holds of `scope`, or of all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<DeserializeGuard<IncidentHold>> {
    let (client, all) = (&context.client, watcher::Config::default);
    let controller = controller_of::<IncidentHold>(client, scope);
    let (by_site, by_policy) = (controller.store(), controller.store());
    controller
        .watches(scoped_api::<PartialObjectMeta<Site>>(client, scope), all(), move |site| {
            select_in_namespace(&by_site, &site, |hold| hold.spec.site_ref.name == site.name_any())
        })
        // All holds of the namespace: the metadata of a policy does not say which sites use it.
        .watches(scoped_api::<PartialObjectMeta<RecordingPolicy>>(client, scope), all(), move |policy| {
            select_in_namespace(&by_policy, &policy, |_| true)
        })
}

pub struct HoldReconciler {
    pub context: Context,
}

/// Whether the operator keeps nothing for a hold, so that the resource may be deleted.
pub fn may_remove_finalizer(hold: &IncidentHold, now: Timestamp) -> bool {
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    status::is_fully_released(hold, placement, is_resolved(hold, now))
}

/// Whether the operator may keep recordings for a hold: it took effect once, and was not released.
pub fn may_protect_recordings(hold: &IncidentHold, now: Timestamp) -> bool {
    has_taken_effect(hold) && !may_remove_finalizer(hold, now)
}

impl Reconciler for HoldReconciler {
    type Object = IncidentHold;
    type Failure = ApiError;

    async fn reconcile(&self, hold: &IncidentHold, now: Timestamp) -> Result<Reconciled, ApiError> {
        let client = &self.context.client;
        let references = dereference(client, hold).await?;
        let valid = validate(&hold.spec, &references, now);
        let (next, next_change) = status::hold_status(hold, &valid, now);
        let is_changed = runner::report(&self.context, MANAGER, hold, next).await?;
        // After the status: without its last finalizer, the hold is gone.
        if meta::is_deleting(hold) && may_remove_finalizer(hold, now) {
            meta::remove_finalizer(client, hold, FINALIZER, MANAGER).await?;
        }
        Ok(Reconciled { action: requeue::at(now, next_change), is_changed })
    }
}
