//! Step one: the site that a hold names, its policy, and its cameras.

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use crate::api::{Camera, IncidentHold, RecordingPolicy, Site};
use crate::controllers::kubernetes::error::ApiError;
use crate::controllers::runner::fetch;

/// What a hold names, as far as it exists and can be read.
#[derive(Clone, Debug, Default)]
pub struct HoldReferences {
    pub site: Option<Site>,
    /// The policy that the site is under.
    pub policy: Option<RecordingPolicy>,
    /// The names of the site's cameras now.
    pub cameras: Vec<String>,
}

/// Fetches what `hold` names.
pub async fn dereference(client: &Client, hold: &IncidentHold) -> Result<HoldReferences, ApiError> {
    let namespace = hold.namespace().unwrap_or_default();
    let Some(site) = fetch::<Site>(client, &namespace, &hold.spec.site_ref.name).await? else {
        return Ok(HoldReferences::default());
    };
    let policy = fetch::<RecordingPolicy>(client, &namespace, &site.spec.policy_ref.name).await?;
    let cameras = Api::<DeserializeGuard<Camera>>::namespaced(client.clone(), &namespace)
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|camera| camera.0.ok())
        .filter(|camera| camera.spec.site_ref.name == site.name_any())
        .map(|camera| camera.name_any())
        .collect();
    Ok(HoldReferences { site: Some(site), policy, cameras })
}
