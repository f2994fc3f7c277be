//! Triggers of a Site's retention: the Site, its holds, its policy and its bucket.

use kube::ResourceExt;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;

use crate::api::{IncidentHold, RecordingPolicy, Site};
use crate::controllers::context::Context;
use crate::controllers::handoff::sites_in_scope;
use crate::controllers::runner::{controller_of, scoped_api, select_in_namespace};

type GuardedSite = DeserializeGuard<Site>;

/// Returns the controller of the retention of the Sites in `scope`, or in all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<GuardedSite> {
    let (client, all) = (&context.client, watcher::Config::default);
    let controller = controller_of::<Site>(client, scope);
    let sites = controller.store();
    let opened = sites_in_scope(context.handoff.bucket_changes(), scope);
    controller
        .watches(scoped_api::<DeserializeGuard<IncidentHold>>(client, scope), all(), site_of_hold)
        .watches(scoped_api::<PartialObjectMeta<RecordingPolicy>>(client, scope), all(), move |policy| {
            select_in_namespace(&sites, &policy, |site| site.spec.policy_ref.name == policy.name_any())
        })
        .reconcile_on(opened)
}

fn site_of_hold(hold: DeserializeGuard<IncidentHold>) -> Option<ObjectRef<GuardedSite>> {
    let hold = hold.0.ok()?;
    Some(ObjectRef::new(&hold.spec.site_ref.name).within(&hold.namespace()?))
}
