//! What makes the controller look at a camera: itself, its Site, policy and Secrets, and its recorder.

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use super::Cameras;
use crate::api::{Camera, CameraSpec, LocalRef, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, Site};
use crate::controllers::drive;
use crate::controllers::kit::context::Context;
use crate::controllers::site::names::{RECORDERS, SITE_LABEL};

/// Looks after the cameras of `scope`, or of all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let controller =
        Controller::new(drive::api::<DeserializeGuard<Camera>>(&client, scope), watcher::Config::default());
    let secrets = || drive::api::<PartialObjectMeta<core::Secret>>(&client, scope);
    let of_type = |type_: &str| watcher::Config::default().fields(&format!("type={type_}"));
    let recorders = || watcher::Config::default().labels(RECORDERS);
    let cameras = || controller.store();
    let (by_site, by_policy, by_login, by_ca, by_pod, by_config) =
        (cameras(), cameras(), cameras(), cameras(), cameras(), cameras());
    let controller = controller
        .watches(
            drive::api::<PartialObjectMeta<Site>>(&client, scope),
            watcher::Config::default(),
            move |site| drive::all_in(&by_site, &site, |camera| hangs_at(camera, &site.name_any())),
        )
        // Which sites are under it is not known here.
        .watches(
            drive::api::<PartialObjectMeta<RecordingPolicy>>(&client, scope),
            watcher::Config::default(),
            move |policy| drive::all_in(&by_policy, &policy, |_| true),
        )
        // Secrets by their metadata alone, and of our own types alone.
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), move |secret| {
            drive::all_in(&by_login, &secret, |camera| names(login, camera, &secret.name_any()))
        })
        .watches(secrets(), of_type(SECRET_TYPE_CA), move |secret| {
            drive::all_in(&by_ca, &secret, |camera| names(authority, camera, &secret.name_any()))
        })
        .watches(drive::api::<PartialObjectMeta<core::Pod>>(&client, scope), recorders(), move |pod| {
            drive::all_in(&by_pod, &pod, |camera| carries(&pod, camera))
        })
        .watches(secrets(), recorders(), move |config| {
            drive::all_in(&by_config, &config, |camera| carries(&config, camera))
        });
    drive::drive(controller, Cameras::new(context), leader)
}

fn hangs_at(camera: &Camera, site: &str) -> bool {
    camera.spec.site_ref.name == site
}

fn carries<K: ResourceExt>(of_recorder: &K, camera: &Camera) -> bool {
    of_recorder.labels().get(SITE_LABEL).is_some_and(|site| hangs_at(camera, site))
}

fn names(which: fn(&CameraSpec) -> Option<&LocalRef>, camera: &Camera, name: &str) -> bool {
    which(&camera.spec).is_some_and(|reference| reference.name == name)
}

fn login(spec: &CameraSpec) -> Option<&LocalRef> {
    spec.stream.credentials_ref.as_ref()
}

fn authority(spec: &CameraSpec) -> Option<&LocalRef> {
    spec.stream.ca_ref.as_ref()
}
