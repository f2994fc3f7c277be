//! RecordingPolicy: whether the cluster accepts it, whether it is in force, and the sites and cameras that use it.
//!
//! dereference → validate → status. A policy has no objects to plan or apply.

mod dereference;
mod status;
mod validate;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;
use kube::runtime::watcher;

use self::dereference::dereference;
use self::validate::validate;
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, controller_of, scoped_api, select_in_namespace};
use super::{requeue, runner};
use crate::api::{RecordingPolicy, Site};

/// Field manager of a policy's status.
const MANAGER: &str = "toezicht/policy";

/// Returns the controller of the policies of `scope`, or of all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<DeserializeGuard<RecordingPolicy>> {
    let controller = controller_of::<RecordingPolicy>(&context.client, scope);
    let policies = controller.store();
    let sites = scoped_api::<DeserializeGuard<Site>>(&context.client, scope);
    controller.watches(sites, watcher::Config::default(), move |site| {
        // All policies of the namespace, which are few: the event does not say which policy the site used before.
        select_in_namespace(&policies, &site, |_| true)
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
        let usage = dereference(&self.context.client, policy).await?;
        let valid = validate(&policy.spec, &self.context.config.ceilings, now);
        let next = status::policy_status(policy, &valid, usage, now);
        let is_changed = runner::report(&self.context, MANAGER, policy, next).await?;
        Ok(Reconciled { action: requeue::at(now, valid.next_change), is_changed })
    }
}
