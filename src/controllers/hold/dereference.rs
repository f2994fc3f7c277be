//! Step one: fetches the site that a hold names, its policy and its cameras.

use kube::{Client, ResourceExt};

use crate::api::{Camera, IncidentHold, RecordingPolicy, Site};
use crate::controllers::kubernetes::ApiError;
use crate::controllers::runner::{fetch, list};

/// Site, policy and cameras of a hold. `None`: it does not exist or cannot be deserialized.
#[derive(Clone, Debug, Default)]
pub struct HoldReferences {
    pub site: Option<Site>,
    pub policy: Option<RecordingPolicy>,
    /// Names of the site's cameras.
    pub cameras: Vec<String>,
}

pub async fn dereference(client: &Client, hold: &IncidentHold) -> Result<HoldReferences, ApiError> {
    let namespace = hold.namespace().unwrap_or_default();
    let Some(site) = fetch::<Site>(client, &namespace, &hold.spec.site_ref.name).await? else {
        return Ok(HoldReferences::default());
    };
    let policy = fetch::<RecordingPolicy>(client, &namespace, &site.spec.policy_ref.name).await?;
    let cameras = list::<Camera>(client, &namespace).await?;
    let cameras = cameras.iter().filter(|camera| camera.spec.site_ref.name == site.name_any());
    let cameras = cameras.map(ResourceExt::name_any).collect();
    Ok(HoldReferences { site: Some(site), policy, cameras })
}
