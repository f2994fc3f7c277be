//! Triggers of a Site's retention: the Site, its holds, its policy and its bucket.

use kube::ResourceExt;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use super::RetentionReconciler;
use crate::api::{IncidentHold, RecordingPolicy, Site};
use crate::controllers::context::Context;
use crate::controllers::handoff::sites_in_scope;
use crate::controllers::runner::{run_controller, scoped_api, select_in_namespace};

type GuardedSite = DeserializeGuard<Site>;

/// Runs the retention of the Sites in `scope`, or in all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let controller = Controller::new(scoped_api::<GuardedSite>(&client, scope), watcher::Config::default());
    let sites = controller.store();
    let opened = sites_in_scope(context.handoff.bucket_changes(), scope);
    let controller = controller
        .watches(
            scoped_api::<DeserializeGuard<IncidentHold>>(&client, scope),
            watcher::Config::default(),
            site_of_hold,
        )
        .watches(
            scoped_api::<PartialObjectMeta<RecordingPolicy>>(&client, scope),
            watcher::Config::default(),
            move |policy| {
                select_in_namespace(&sites, &policy, |site| site.spec.policy_ref.name == policy.name_any())
            },
        )
        .reconcile_on(opened);
    run_controller(controller, RetentionReconciler { context }, leader)
}

fn site_of_hold(hold: DeserializeGuard<IncidentHold>) -> Option<ObjectRef<GuardedSite>> {
    let hold = hold.0.ok()?;
    Some(ObjectRef::new(&hold.spec.site_ref.name).within(&hold.namespace()?))
}
