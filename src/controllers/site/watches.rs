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

use super::SiteReconciler;
use super::bucket::{BucketCache, S3, Stores};
use super::recorders::names::{RECORDER_SELECTOR, SITE_LABEL};
use crate::api::{Camera, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site};
use crate::controllers::context::Context;
use crate::controllers::handoff::sites_in_scope;
use crate::controllers::runner::{run_controller, scoped_api, select_in_namespace};

type GuardedSite = DeserializeGuard<Site>;

/// Looks after the Sites of `scope`, or of all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let stores = S3 { handoff: context.handoff.clone() };
    controller_with_stores(context, Arc::new(stores), scope, leader)
}

/// [`controller`], with the stores passed in.
pub fn controller_with_stores(
    context: Context,
    stores: Arc<dyn Stores>,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let all = watcher::Config::default;
    let recorders = || watcher::Config::default().labels(RECORDER_SELECTOR);
    let controller = Controller::new(scoped_api::<GuardedSite>(&client, scope), all())
        .owns(scoped_api::<PartialObjectMeta<StatefulSet>>(&client, scope), recorders())
        .owns(scoped_api::<PartialObjectMeta<Secret>>(&client, scope), recorders())
        .owns(scoped_api::<PartialObjectMeta<Service>>(&client, scope), recorders())
        .owns(scoped_api::<PartialObjectMeta<ServiceAccount>>(&client, scope), recorders())
        .watches(scoped_api::<PartialObjectMeta<Pod>>(&client, scope), recorders(), site_of_pod)
        .watches(scoped_api::<DeserializeGuard<Camera>>(&client, scope), all(), site_of_camera);
    let sites = controller.store();
    let sites_of_policy = move |policy: DeserializeGuard<RecordingPolicy>| {
        select_in_namespace(&sites, &policy, |site: &Site| site.spec.policy_ref.name == policy.name_any())
    };
    let sites = controller.store();
    let controller = controller.watches(
        scoped_api::<DeserializeGuard<RecordingPolicy>>(&client, scope),
        all(),
        sites_of_policy,
    );
    context.telemetry.register_site_lister(Box::new({
        let sites = controller.store();
        move || sites.state().iter().filter_map(|site| site.0.as_ref().ok().cloned()).collect()
    }));
    let hold_changes = sites_in_scope(context.handoff.hold_changes(), scope);
    let secrets = || scoped_api::<PartialObjectMeta<Secret>>(&client, scope);
    let of_type = |type_: &str| watcher::Config::default().fields(&format!("type={type_}"));
    let controller = controller
        .watches(secrets(), of_type(SECRET_TYPE_S3), sites_in_namespace(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CA), sites_in_namespace(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), sites_in_namespace(&sites))
        // Recorders are told of what is held.
        .reconcile_on(hold_changes);
    run_controller(
        controller,
        SiteReconciler { context, stores, bucket_cache: BucketCache::default() },
        leader,
    )
}

/// Any Site of its namespace may name a Secret, by itself or through a camera.
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
