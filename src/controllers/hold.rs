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
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;

use self::dereference::dereference;
pub use self::status::FINALIZER;
use self::status::has_taken_effect;
use self::validate::validate;
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, select};
use super::watch_cache::WatchCache;
use super::{requeue, runner};
use crate::api::{IncidentHold, Site};
use crate::rules::hold::resolution::is_resolved;

/// Field manager of a hold's status.
pub const MANAGER: &str = "toezicht/hold";

/// Returns the controller of the holds of the context's scope.
pub fn controller(context: &Context) -> Controller<DeserializeGuard<IncidentHold>> {
    let WatchCache { holds, sites, policies, .. } = context.cache.clone();
    let by_policy = holds.clone();
    holds
        .controller(holds.changes())
        .watches_shared_stream(sites.changes(), move |site| {
            select(holds.of_site(&site.namespace().unwrap_or_default(), &site.name_any()), |_| true)
        })
        // All holds of the namespace: a policy does not say which sites use it.
        .watches_shared_stream(policies.changes_of_spec(), move |policy| {
            select(by_policy.in_namespace(&policy.namespace().unwrap_or_default()), |_| true)
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

/// Whether recordings may be needed for a hold, now or later. A hold that is not resolved takes effect only when its ledger can be
/// written, and a person may correct one that is not accepted.
pub fn may_need_recordings(hold: &IncidentHold, now: Timestamp) -> bool {
    !is_resolved(hold, now) || may_protect_recordings(hold, now)
}

/// Returns the Site of a hold; `None`: the hold cannot be deserialized.
pub fn site_of_hold(hold: &DeserializeGuard<IncidentHold>) -> Option<ObjectRef<DeserializeGuard<Site>>> {
    let hold = hold.0.as_ref().ok()?;
    Some(ObjectRef::new(&hold.spec.site_ref.name).within(&hold.namespace()?))
}

impl Reconciler for HoldReconciler {
    type Object = IncidentHold;
    type Failure = ApiError;
    const REFETCH: bool = true;

    async fn reconcile(&self, hold: &IncidentHold, now: Timestamp) -> Result<Reconciled, ApiError> {
        let references = dereference(&self.context.cache, hold, &self.context.config.ceilings, now);
        let valid = validate(&hold.spec, &references, now);
        let (next, next_change) = status::hold_status(hold, &valid, now);
        let is_changed = runner::report(&self.context, MANAGER, hold, next).await?;
        // After the status: without its last finalizer, the hold is gone.
        if meta::is_deleting(hold) && may_remove_finalizer(hold, now) {
            runner::remove_finalizer(&self.context, hold, FINALIZER, MANAGER).await?;
        }
        Ok(Reconciled { action: requeue::at(now, next_change), is_changed })
    }
}
