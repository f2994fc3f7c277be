//! RecordingPolicy: whether the cluster accepts it, whether it is in force, and the sites and cameras that use it.
//!
//! dereference → validate → status. A policy has no objects to plan or apply.

mod dereference;
mod status;
mod validate;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;

use self::dereference::dereference;
use self::validate::validate;
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, select};
use super::watch_cache::WatchCache;
use super::{requeue, runner};
use crate::api::RecordingPolicy;

/// Field manager of a policy's status.
const MANAGER: &str = "toezicht/policy";

/// Returns the controller of the policies of the context's scope.
pub fn controller(context: &Context) -> Controller<DeserializeGuard<RecordingPolicy>> {
    let WatchCache { policies, sites, .. } = context.cache.clone();
    // What the status of a policy counts.
    let usage = sites.changes_of(|site| {
        let site = site.0.as_ref().ok()?;
        Some((site.spec.policy_ref.name.clone(), site.status.as_ref().and_then(|status| status.cameras)))
    });
    policies.controller(policies.changes()).watches_shared_stream(usage, move |site| {
        // All policies of the namespace, which are few: the event does not say which policy the site used before.
        select(policies.in_namespace(&site.namespace().unwrap_or_default()), |_| true)
    })
}

pub struct PolicyReconciler {
    pub context: Context,
}

impl Reconciler for PolicyReconciler {
    type Object = RecordingPolicy;
    type Failure = ApiError;

    async fn reconcile(&self, policy: &RecordingPolicy, now: Timestamp) -> Result<Reconciled, ApiError> {
        if meta::is_deleting(policy) {
            return Ok(Reconciled::AWAIT_CHANGE);
        }
        if meta::is_paused(policy) {
            return runner::report_paused(&self.context, MANAGER, policy, now).await;
        }
        let usage = dereference(&self.context.cache, policy);
        let valid = validate(&policy.spec, &self.context.config.ceilings, now);
        let next = status::policy_status(policy, &valid, usage, now);
        let is_changed = runner::report(&self.context, MANAGER, policy, next).await?;
        Ok(Reconciled { action: requeue::at(now, valid.next_change), is_changed })
    }
}
