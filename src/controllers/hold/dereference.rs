//! Step one: the site that a hold names, its policy and its cameras.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{Ceilings, IncidentHold, RecordingPolicy, Site};
use crate::controllers::runner::{get, readable};
use crate::controllers::site_policies::{SitePolicies, site_policies};
use crate::controllers::watch_cache::WatchCache;

/// Site, policy and cameras of a hold. `None`: it does not exist or cannot be deserialized.
#[derive(Clone, Debug, Default)]
pub struct HoldReferences {
    pub site: Option<Site>,
    pub policy: Option<RecordingPolicy>,
    /// Name of the policy that governs the site, even if it does not exist.
    pub policy_name: String,
    /// Names of the site's cameras.
    pub cameras: Vec<String>,
}

pub fn dereference(
    cache: &WatchCache,
    hold: &IncidentHold,
    cluster: &Ceilings,
    now: Timestamp,
) -> HoldReferences {
    let namespace = hold.namespace().unwrap_or_default();
    let Some(site) = get(&cache.sites, &namespace, &hold.spec.site_ref.name) else {
        return HoldReferences::default();
    };
    let SitePolicies { policy, name: policy_name, .. } = site_policies(cache, &site, cluster, now);
    let cameras = cache.cameras.of_site(&namespace, &site.name_any());
    let cameras = readable(&cameras).map(ResourceExt::name_any).collect();
    HoldReferences { site: Some(site), policy_name, policy, cameras }
}
