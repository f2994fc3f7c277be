//! Watches of the Camera controller: cameras, sites, policies, Secrets, and the recorders' pods and configuration.

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::watcher;

use crate::api::{Camera, LocalRef, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, Site};
use crate::controllers::context::Context;
use crate::controllers::runner::{controller_of, scoped_api, select_in_namespace};
use crate::controllers::site::recorders::names::{RECORDER_SELECTOR, SITE_LABEL};

/// Returns the controller of the cameras of `scope`, or of all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<DeserializeGuard<Camera>> {
    let (client, all) = (&context.client, watcher::Config::default);
    let controller = controller_of::<Camera>(client, scope);
    let sites = scoped_api::<PartialObjectMeta<Site>>(client, scope);
    let policies = scoped_api::<PartialObjectMeta<RecordingPolicy>>(client, scope);
    let pods = scoped_api::<PartialObjectMeta<core::Pod>>(client, scope);
    // Metadata only, and only of the operator's own types: no other Secret passes through the operator.
    let secrets = || scoped_api::<PartialObjectMeta<core::Secret>>(client, scope);
    let of_type = |type_: &str| all().fields(&format!("type={type_}"));
    let recorders = || all().labels(RECORDER_SELECTOR);
    let [by_site, by_policy, by_login, by_ca, by_pod, by_config] =
        std::array::from_fn(|_| controller.store());
    controller
        .watches(sites, all(), move |site| {
            select_in_namespace(&by_site, &site, |camera| camera.spec.site_ref.name == site.name_any())
        })
        // All cameras of the namespace: the metadata of a policy does not say which sites use it.
        .watches(policies, all(), move |policy| select_in_namespace(&by_policy, &policy, |_| true))
        .watches(secrets(), of_type(SECRET_TYPE_CAMERA), move |secret| {
            select_in_namespace(&by_login, &secret, |camera| {
                names_secret(camera.spec.stream.credentials_ref.as_ref(), &secret)
            })
        })
        .watches(secrets(), of_type(SECRET_TYPE_CA), move |secret| {
            select_in_namespace(&by_ca, &secret, |camera| {
                names_secret(camera.spec.stream.ca_ref.as_ref(), &secret)
            })
        })
        .watches(pods, recorders(), move |pod| {
            select_in_namespace(&by_pod, &pod, |camera| is_of_same_site(camera, &pod))
        })
        .watches(secrets(), recorders(), move |config| {
            select_in_namespace(&by_config, &config, |camera| is_of_same_site(camera, &config))
        })
}

fn is_of_same_site(camera: &Camera, child: &impl ResourceExt) -> bool {
    child.labels().get(SITE_LABEL).is_some_and(|site| camera.spec.site_ref.name == *site)
}

fn names_secret(reference: Option<&LocalRef>, secret: &PartialObjectMeta<core::Secret>) -> bool {
    reference.is_some_and(|reference| reference.name == secret.name_any())
}
