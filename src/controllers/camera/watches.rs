//! Watches of the Camera controller: cameras, sites, policies, Secrets, and the recorders' pods and configuration.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;

use crate::api::{Camera, LocalRef};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::cached::Cached;
use crate::controllers::runner::select;
use crate::controllers::site::recorders::names::SITE_LABEL;
use crate::controllers::watch_cache::{Guarded, WatchCache};

/// Returns the controller of the cameras of the context's scope.
pub fn controller(context: &Context) -> Controller<Guarded<Camera>> {
    let WatchCache { cameras, sites, policies, pods, recorder_configs, camera_secrets, ca_secrets, .. } =
        context.cache.clone();
    let [by_site, by_policy, by_login, by_ca, by_pod, by_config] = std::array::from_fn(|_| cameras.clone());
    cameras
        .controller(cameras.changes())
        .watches_shared_stream(sites.changes_of_spec(), move |site| {
            select(by_site.of_site(&site.namespace().unwrap_or_default(), &site.name_any()), |_| true)
        })
        // All cameras of the namespace: a policy does not say which sites use it.
        .watches_shared_stream(policies.changes_of_spec(), move |policy| {
            select(by_policy.in_namespace(&policy.namespace().unwrap_or_default()), |_| true)
        })
        .watches_shared_stream(camera_secrets.changes(), move |secret| {
            let cameras = by_login.in_namespace(&secret.namespace().unwrap_or_default());
            select(cameras, |camera| names_secret(camera.spec.stream.credentials_ref.as_ref(), &secret))
        })
        .watches_shared_stream(ca_secrets.changes(), move |secret| {
            let cameras = by_ca.in_namespace(&secret.namespace().unwrap_or_default());
            select(cameras, |camera| names_secret(camera.spec.stream.ca_ref.as_ref(), &secret))
        })
        .watches_shared_stream(pods.changes(), move |pod| select_of_site(&by_pod, &*pod))
        .watches_shared_stream(recorder_configs.changes(), move |config| select_of_site(&by_config, &*config))
}

/// Selects the cameras of the Site that `child` belongs to.
fn select_of_site(
    cameras: &Cached<Guarded<Camera>>,
    child: &impl ResourceExt,
) -> Vec<ObjectRef<Guarded<Camera>>> {
    let site = child.labels().get(SITE_LABEL);
    site.map_or_else(Vec::new, |site| {
        select(cameras.of_site(&child.namespace().unwrap_or_default(), site), |_| true)
    })
}

fn names_secret(reference: Option<&LocalRef>, secret: &Secret) -> bool {
    reference.is_some_and(|reference| reference.name == secret.name_any())
}
