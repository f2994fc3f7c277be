//! Step one: counts the sites and cameras that use a policy.

use kube::{Client, ResourceExt};

use crate::api::{RecordingPolicy, Site};
use crate::controllers::kubernetes::ApiError;
use crate::controllers::runner;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyUsage {
    pub sites: i32,
    /// Sum of the cameras that the sites report.
    pub cameras: i32,
}

pub async fn dereference(client: &Client, policy: &RecordingPolicy) -> Result<PolicyUsage, ApiError> {
    let mut usage = PolicyUsage::default();
    for site in runner::list::<Site>(client, &policy.namespace().unwrap_or_default()).await? {
        if site.spec.policy_ref.name == policy.name_any() {
            let cameras = site.status.and_then(|status| status.cameras).unwrap_or_default();
            usage.sites = usage.sites.saturating_add(1);
            usage.cameras = usage.cameras.saturating_add(cameras);
        }
    }
    Ok(usage)
}
