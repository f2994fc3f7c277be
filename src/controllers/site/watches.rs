//! What makes a Site be looked at: itself, what it names, and what it has.
//!
//! References stay within a namespace, so one controller a namespace (or one for all) sees all it needs.
//! Children, pods and Secrets are watched by their metadata alone, and Secrets of our types only.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::ResourceExt;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use super::Sites;
use super::bucket::{Memory, S3, Stores};
use super::names::{RECORDERS, SITE_LABEL};
use crate::api::{Camera, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site};
use crate::controllers::buckets::of_scope;
use crate::controllers::drive::{all_in, api, drive};
use crate::controllers::kit::context::Context;

type GuardedSite = DeserializeGuard<Site>;

/// Looks after the Sites of `scope`, or of all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    controller_with(context, Arc::new(S3), scope, leader)
}

/// [`controller`], with the stores passed in.
pub fn controller_with(
    context: Context,
    stores: Arc<dyn Stores>,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let all = watcher::Config::default;
    let recorders = || watcher::Config::default().labels(RECORDERS);
    let controller = Controller::new(api::<GuardedSite>(&client, scope), all())
        .owns(api::<PartialObjectMeta<StatefulSet>>(&client, scope), recorders())
        .owns(api::<PartialObjectMeta<Secret>>(&client, scope), recorders())
        .owns(api::<PartialObjectMeta<Service>>(&client, scope), recorders())
        .owns(api::<PartialObjectMeta<ServiceAccount>>(&client, scope), recorders())
        .watches(api::<PartialObjectMeta<Pod>>(&client, scope), recorders(), site_of_pod)
        .watches(api::<DeserializeGuard<Camera>>(&client, scope), all(), site_of_camera);
    let sites = controller.store();
    let under = move |policy: DeserializeGuard<RecordingPolicy>| {
        all_in(&sites, &policy, |site: &Site| site.spec.policy_ref.name == policy.name_any())
    };
    let sites = controller.store();
    let controller =
        controller.watches(api::<DeserializeGuard<RecordingPolicy>>(&client, scope), all(), under);
    context.hooks.sites(Box::new({
        let sites = controller.store();
        move || sites.state().iter().filter_map(|site| site.0.as_ref().ok().cloned()).collect()
    }));
    let newly_held = of_scope(context.buckets.newly_held(), scope);
    let secrets = || api::<PartialObjectMeta<Secret>>(&client, scope);
    let of_type = |type_: &str| watcher::Config::default().fields(&format!("type={type_}"));
    let controller = controller
        .watches(secrets(), of_type(SECRET_TYPE_S3), may_name(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CA), may_name(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), may_name(&sites))
        // Recorders are told of what is held.
        .reconcile_on(newly_held);
    drive(controller, Sites { context, stores, memory: Memory::default() }, leader)
}

/// Any Site of its namespace may name a Secret, by itself or through a camera.
fn may_name(
    sites: &Store<GuardedSite>,
) -> impl Fn(PartialObjectMeta<Secret>) -> Vec<ObjectRef<GuardedSite>> + Send + Sync + use<> {
    let sites = sites.clone();
    move |secret| all_in(&sites, &secret, |_| true)
}

fn site_of_pod(pod: PartialObjectMeta<Pod>) -> Option<ObjectRef<GuardedSite>> {
    let site = pod.labels().get(SITE_LABEL)?;
    Some(ObjectRef::new(site).within(&pod.namespace()?))
}

fn site_of_camera(camera: DeserializeGuard<Camera>) -> Option<ObjectRef<GuardedSite>> {
    let camera = camera.0.ok()?;
    Some(ObjectRef::new(&camera.spec.site_ref.name).within(&camera.namespace()?))
}
