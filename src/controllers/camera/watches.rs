//! What makes the controller look at a camera: itself, its Site, policy and Secrets, and its recorder.

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use super::CameraReconciler;
use crate::api::{Camera, CameraSpec, LocalRef, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, Site};
use crate::controllers::context::Context;
use crate::controllers::runner;
use crate::controllers::site::recorders::names::{RECORDER_SELECTOR, SITE_LABEL};

/// Looks after the cameras of `scope`, or of all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let controller = Controller::new(
        runner::scoped_api::<DeserializeGuard<Camera>>(&client, scope),
        watcher::Config::default(),
    );
    let secrets = || runner::scoped_api::<PartialObjectMeta<core::Secret>>(&client, scope);
    let of_type = |type_: &str| watcher::Config::default().fields(&format!("type={type_}"));
    let recorders = || watcher::Config::default().labels(RECORDER_SELECTOR);
    let cameras = || controller.store();
    let (by_site, by_policy, by_login, by_ca, by_pod, by_config) =
        (cameras(), cameras(), cameras(), cameras(), cameras(), cameras());
    let controller = controller
        .watches(
            runner::scoped_api::<PartialObjectMeta<Site>>(&client, scope),
            watcher::Config::default(),
            move |site| {
                runner::select_in_namespace(&by_site, &site, |camera| is_at_site(camera, &site.name_any()))
            },
        )
        // Which sites are under it is not known here.
        .watches(
            runner::scoped_api::<PartialObjectMeta<RecordingPolicy>>(&client, scope),
            watcher::Config::default(),
            move |policy| runner::select_in_namespace(&by_policy, &policy, |_| true),
        )
        // Secrets by their metadata alone, and of our own types alone.
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), move |secret| {
            runner::select_in_namespace(&by_login, &secret, |camera| {
                references_secret(credentials_ref, camera, &secret.name_any())
            })
        })
        .watches(secrets(), of_type(SECRET_TYPE_CA), move |secret| {
            runner::select_in_namespace(&by_ca, &secret, |camera| {
                references_secret(ca_ref, camera, &secret.name_any())
            })
        })
        .watches(
            runner::scoped_api::<PartialObjectMeta<core::Pod>>(&client, scope),
            recorders(),
            move |pod| runner::select_in_namespace(&by_pod, &pod, |camera| is_at_labelled_site(&pod, camera)),
        )
        .watches(secrets(), recorders(), move |config| {
            runner::select_in_namespace(&by_config, &config, |camera| is_at_labelled_site(&config, camera))
        });
    runner::run_controller(controller, CameraReconciler::new(context), leader)
}

fn is_at_site(camera: &Camera, site: &str) -> bool {
    camera.spec.site_ref.name == site
}

fn is_at_labelled_site<K: ResourceExt>(of_recorder: &K, camera: &Camera) -> bool {
    of_recorder.labels().get(SITE_LABEL).is_some_and(|site| is_at_site(camera, site))
}

fn references_secret(which: fn(&CameraSpec) -> Option<&LocalRef>, camera: &Camera, name: &str) -> bool {
    which(&camera.spec).is_some_and(|reference| reference.name == name)
}

fn credentials_ref(spec: &CameraSpec) -> Option<&LocalRef> {
    spec.stream.credentials_ref.as_ref()
}

fn ca_ref(spec: &CameraSpec) -> Option<&LocalRef> {
    spec.stream.ca_ref.as_ref()
}
