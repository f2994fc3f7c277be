//! Step one: counts the sites and cameras that a policy governs.

use kube::ResourceExt;

use crate::api::RecordingPolicy;
use crate::controllers::runner::readable;
use crate::controllers::site_policies::governing_policy;
use crate::controllers::watch_cache::WatchCache;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyUsage {
    pub sites: i32,
    /// Sum of the cameras that the sites report.
    pub cameras: i32,
}

pub fn dereference(cache: &WatchCache, policy: &RecordingPolicy) -> PolicyUsage {
    let mut usage = PolicyUsage::default();
    for site in readable(&cache.sites.in_namespace(&policy.namespace().unwrap_or_default())) {
        if governing_policy(site) == policy.name_any() {
            let cameras = site.status.as_ref().and_then(|status| status.cameras).unwrap_or_default();
            usage.sites = usage.sites.saturating_add(1);
            usage.cameras = usage.cameras.saturating_add(cameras);
        }
    }
    usage
}
