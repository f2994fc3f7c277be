//! Watches of the Site controller: sites, their references, and their children.
//!
//! References stay within a namespace, so a controller for one namespace sees all it needs. Children, pods and Secrets are
//! watched by their metadata only, and only Secrets of the operator's own types.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::ResourceExt;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;

use super::recorders::names::{RECORDER_SELECTOR, SITE_LABEL};
use crate::api::{Camera, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site};
use crate::controllers::context::Context;
use crate::controllers::handoff::sites_in_scope;
use crate::controllers::runner::{controller_of, scoped_api, select_in_namespace};

type GuardedSite = DeserializeGuard<Site>;

/// Returns the controller of the Sites of `scope`, or of all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<GuardedSite> {
    let (client, all) = (&context.client, watcher::Config::default);
    let recorders = || all().labels(RECORDER_SELECTOR);
    let secrets = || scoped_api::<PartialObjectMeta<Secret>>(client, scope);
    let of_type = |type_: &str| all().fields(&format!("type={type_}"));
    let controller = controller_of::<Site>(client, scope);
    let (sites, by_policy, listed) = (controller.store(), controller.store(), controller.store());
    context.telemetry.register_site_lister(Box::new(move || {
        listed.state().iter().filter_map(|site| site.0.as_ref().ok().cloned()).collect()
    }));
    let sites_of_policy = move |policy: DeserializeGuard<RecordingPolicy>| {
        select_in_namespace(&by_policy, &policy, |site| site.spec.policy_ref.name == policy.name_any())
    };
    controller
        .owns(scoped_api::<PartialObjectMeta<StatefulSet>>(client, scope), recorders())
        .owns(scoped_api::<PartialObjectMeta<Secret>>(client, scope), recorders())
        .owns(scoped_api::<PartialObjectMeta<Service>>(client, scope), recorders())
        .owns(scoped_api::<PartialObjectMeta<ServiceAccount>>(client, scope), recorders())
        .watches(scoped_api::<PartialObjectMeta<Pod>>(client, scope), recorders(), site_of_pod)
        .watches(scoped_api::<DeserializeGuard<Camera>>(client, scope), all(), site_of_camera)
        .watches(scoped_api::<DeserializeGuard<RecordingPolicy>>(client, scope), all(), sites_of_policy)
        .watches(secrets(), of_type(SECRET_TYPE_S3), sites_in_namespace(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CA), sites_in_namespace(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), sites_in_namespace(&sites))
        // A change of holds must reach the recorders.
        .reconcile_on(sites_in_scope(context.handoff.hold_changes(), scope))
}

/// Selects all Sites of a Secret's namespace: each can name it, itself or through a camera.
fn sites_in_namespace(
    sites: &Store<GuardedSite>,
) -> impl Fn(PartialObjectMeta<Secret>) -> Vec<ObjectRef<GuardedSite>> + Send + Sync + use<> {
    let sites = sites.clone();
    move |secret| select_in_namespace(&sites, &secret, |_| true)
}

fn site_of_pod(pod: PartialObjectMeta<Pod>) -> Option<ObjectRef<GuardedSite>> {
    let site = pod.labels().get(SITE_LABEL)?;
    Some(ObjectRef::new(site).within(&pod.namespace()?))
}

fn site_of_camera(camera: DeserializeGuard<Camera>) -> Option<ObjectRef<GuardedSite>> {
    let camera = camera.0.ok()?;
    Some(ObjectRef::new(&camera.spec.site_ref.name).within(&camera.namespace()?))
}
