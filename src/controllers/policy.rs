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
use self::validate::{PolicySuccession, validate};
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, select};
use super::site_policies::{governing_policy, policy_links};
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
        let cameras = site.status.as_ref().and_then(|status| status.cameras);
        Some((governing_policy(site).to_owned(), cameras))
    });
    let others = policies.clone();
    policies
        .controller(policies.changes())
        // All policies of the namespace, which are few: one may replace another, or no longer.
        .watches_shared_stream(policies.changes_of_spec(), move |policy| {
            select(others.in_namespace(&policy.namespace().unwrap_or_default()), |_| true)
        })
        .watches_shared_stream(usage, move |site| {
            // All: the event does not say which policy the site used before.
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
        let Context { cache, config, .. } = &self.context;
        let usage = dereference(cache, policy);
        let links = policy_links(cache, &policy.namespace().unwrap_or_default(), &config.ceilings);
        let name = policy.name_any();
        let succession = PolicySuccession { error: links.error(&name), replaced_by: links.successor(&name) };
        let valid = validate(&policy.spec, succession, &config.ceilings, now);
        let next = status::policy_status(policy, &valid, usage, now);
        let is_changed = runner::report(&self.context, MANAGER, policy, next).await?;
        Ok(Reconciled { action: requeue::at(now, valid.next_change), is_changed })
    }
}
