//! What makes a Site be looked at: itself, what it names, and what it has.
//!
//! References stay within a namespace, so one controller a namespace (or one for all) sees all it needs.
//! Children, pods and Secrets are watched by their metadata alone, and Secrets of our types only.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::NamespaceResourceScope;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Config, Controller, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::bucket::{Memory, Stores};
use super::names::{RECORDERS, SITE_LABEL};
use super::{Sites, on_error, reconcile};
use crate::api::{Camera, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site};
use crate::controllers::drive;
use crate::controllers::kit::context::{Context, Kind};
use crate::controllers::kit::error::{Backoff, Failure};

/// So many Sites are looked after at once: a store that does not answer must not hold up the others.
const AT_ONCE: u16 = 16;

type GuardedSite = DeserializeGuard<Site>;

/// Looks after the Sites of `namespace`, or of all, until `shutdown`; what is under way then is finished.
pub async fn controller(
    context: Context,
    stores: Arc<dyn Stores>,
    namespace: Option<String>,
    shutdown: CancellationToken,
) {
    let client = context.client.clone();
    let namespace = namespace.as_deref();
    let recorders = || watcher::Config::default().labels(RECORDERS);
    let of_type = |type_: &str| watcher::Config::default().fields(&format!("type={type_}"));
    let controller = Controller::new(
        scoped::<GuardedSite>(&client, namespace),
        watcher::Config::default(),
    )
    .with_config(Config::default().concurrency(AT_ONCE))
    .owns(
        scoped::<PartialObjectMeta<StatefulSet>>(&client, namespace),
        recorders(),
    )
    .owns(
        scoped::<PartialObjectMeta<Secret>>(&client, namespace),
        recorders(),
    )
    .owns(
        scoped::<PartialObjectMeta<Service>>(&client, namespace),
        recorders(),
    )
    .owns(
        scoped::<PartialObjectMeta<ServiceAccount>>(&client, namespace),
        recorders(),
    )
    .watches(
        scoped::<PartialObjectMeta<Pod>>(&client, namespace),
        recorders(),
        site_of_pod,
    )
    .watches(
        scoped::<DeserializeGuard<Camera>>(&client, namespace),
        watcher::Config::default(),
        site_of_camera,
    );
    let sites = controller.store();
    drive::announce(&context.hooks, Kind::Site, sites.clone());
    let by_policy = sites.clone();
    let controller = controller.watches(
        scoped::<DeserializeGuard<RecordingPolicy>>(&client, namespace),
        watcher::Config::default(),
        move |policy| {
            sites_that(&by_policy, &policy, |site| {
                site.spec.policy_ref.name == policy.name_any()
            })
        },
    );
    let secrets = || scoped::<PartialObjectMeta<Secret>>(&client, namespace);
    let all_of = |sites: &Store<GuardedSite>| {
        let sites = sites.clone();
        // Any Site of the namespace may name it, by itself or through a camera.
        move |secret: PartialObjectMeta<Secret>| sites_that(&sites, &secret, |_| true)
    };
    controller
        .watches(secrets(), of_type(SECRET_TYPE_S3), all_of(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CA), all_of(&sites))
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), all_of(&sites))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            reconcile,
            on_error,
            Arc::new(Sites {
                context,
                stores,
                memory: Memory::default(),
                backoff: Backoff::default(),
            }),
        )
        .for_each(|result| async {
            if let Err(error) = result {
                note(&error);
            }
        })
        .await;
}

/// Says what went wrong around a reconcile; what went wrong in it was said by `on_error`.
fn note<E: Failure + 'static>(error: &ControllerError<E, watcher::Error>) {
    match error {
        ControllerError::ReconcilerFailed(..) => {}
        // It was deleted between being queued and being looked at.
        ControllerError::ObjectNotFound(object) => tracing::debug!(%object, "gone before it was looked at"),
        ControllerError::QueueError(_) => tracing::warn!("a watch failed and is started anew"),
        ControllerError::RunnerError(error) => tracing::error!(%error, "the controller's queue failed"),
    }
}

/// All objects of a kind in `namespace`, or in all.
fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn site_of_pod(pod: PartialObjectMeta<Pod>) -> Option<ObjectRef<GuardedSite>> {
    let site = pod.labels().get(SITE_LABEL)?;
    Some(ObjectRef::new(site).within(&pod.namespace()?))
}

fn site_of_camera(camera: DeserializeGuard<Camera>) -> Option<ObjectRef<GuardedSite>> {
    let camera = camera.0.ok()?;
    Some(ObjectRef::new(&camera.spec.site_ref.name).within(&camera.namespace()?))
}

/// The Sites in the namespace of `object` for which `names` holds.
fn sites_that<K>(
    sites: &Store<GuardedSite>,
    object: &K,
    names: impl Fn(&Site) -> bool,
) -> Vec<ObjectRef<GuardedSite>>
where
    K: Resource + Debug,
{
    let namespace = object.meta().namespace.as_deref();
    let all = sites
        .state()
        .into_iter()
        .filter(|site| site.meta().namespace.as_deref() == namespace);
    all.filter(|site| site.0.as_ref().is_ok_and(&names))
        .map(|site| ObjectRef::from_obj(&*site))
        .collect()
}
