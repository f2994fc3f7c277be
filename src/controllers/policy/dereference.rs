//! Step one: what is under a policy.

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use crate::api::{RecordingPolicy, Site};
use crate::controllers::kubernetes::error::ApiError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyUsage {
    pub sites: i32,
    /// How many cameras these sites say they have.
    pub cameras: i32,
}

/// Counts what is under `policy`.
pub async fn dereference(client: &Client, policy: &RecordingPolicy) -> Result<PolicyUsage, ApiError> {
    let namespace = policy.namespace().unwrap_or_default();
    let sites = Api::<DeserializeGuard<Site>>::namespaced(client.clone(), &namespace);
    let all = sites.list(&ListParams::default()).await?;
    Ok(count_usage(&policy.name_any(), all.items.into_iter().filter_map(|site| site.0.ok())))
}

fn count_usage(policy: &str, sites: impl Iterator<Item = Site>) -> PolicyUsage {
    sites.filter(|site| site.spec.policy_ref.name == policy).fold(PolicyUsage::default(), |under, site| {
        PolicyUsage {
            sites: under.sites.saturating_add(1),
            cameras: under
                .cameras
                .saturating_add(site.status.and_then(|status| status.cameras).unwrap_or_default()),
        }
    })
}
