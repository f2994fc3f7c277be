//! Watches of the Site controller: sites, their references, and their children.
//!
//! References stay within a namespace, so a controller for one namespace sees all it needs.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;

use super::recorders::names::site_of_child;
use crate::api::{Camera, Site};
use crate::controllers::context::Context;
use crate::controllers::handoff::sites_in_scope;
use crate::controllers::hold::site_of_hold;
use crate::controllers::kubernetes::cached::Cached;
use crate::controllers::runner::select;
use crate::controllers::watch_cache::{Guarded, WatchCache};

/// Returns the controller of the Sites of `scope`, or of all namespaces.
pub fn controller(context: &Context, scope: Option<&str>) -> Controller<Guarded<Site>> {
    let cache = &context.cache;
    let WatchCache { sites, policies, cameras, holds, pods, .. } = cache;
    let (by_policy, listed) = (sites.clone(), sites.store());
    context.telemetry.register_site_lister(Box::new(move || listed.state()));
    sites
        .controller(sites.changes())
        .watches_shared_stream(cache.workloads.changes(), |workload| site_of(&*workload))
        .watches_shared_stream(cache.recorder_configs.changes(), |secret| site_of(&*secret))
        .watches_shared_stream(cache.services.changes(), |service| site_of(&*service))
        .watches_shared_stream(cache.service_accounts.changes(), |account| site_of(&*account))
        .watches_shared_stream(pods.changes(), |pod| site_of(&*pod))
        .watches_shared_stream(cache.claims.changes(), |claim| site_of(&*claim))
        .watches_shared_stream(cameras.changes_of_spec(), |camera| site_of_camera(&camera))
        // All Sites of the namespace: the policy may replace the one that a Site names.
        .watches_shared_stream(policies.changes_of_spec(), move |policy| {
            select(by_policy.in_namespace(&policy.namespace().unwrap_or_default()), |_| true)
        })
        .watches_shared_stream(cache.store_secrets.changes(), sites_in_namespace(sites))
        .watches_shared_stream(cache.ca_secrets.changes(), sites_in_namespace(sites))
        .watches_shared_stream(cache.camera_secrets.changes(), sites_in_namespace(sites))
        // Recorders follow an accepted hold before the ledger has it.
        .watches_shared_stream(holds.changes_of_spec(), |hold| site_of_hold(&hold))
        // A change of holds must reach the recorders.
        .reconcile_on(sites_in_scope(context.handoff.hold_changes(), scope))
}

/// Selects all Sites of a Secret's namespace: each can name it, itself or through a camera.
fn sites_in_namespace(
    sites: &Cached<Guarded<Site>>,
) -> impl Fn(Arc<Secret>) -> Vec<ObjectRef<Guarded<Site>>> + Send + Sync + use<> {
    let sites = sites.clone();
    move |secret| select(sites.in_namespace(&secret.namespace().unwrap_or_default()), |_| true)
}

fn site_of(child: &impl ResourceExt) -> Option<ObjectRef<Guarded<Site>>> {
    Some(ObjectRef::new(&site_of_child(child)?).within(&child.namespace()?))
}

fn site_of_camera(camera: &Guarded<Camera>) -> Option<ObjectRef<Guarded<Site>>> {
    let camera = camera.0.as_ref().ok()?;
    Some(ObjectRef::new(&camera.spec.site_ref.name).within(&camera.namespace()?))
}
