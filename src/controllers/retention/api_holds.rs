//! The open holds of the API server, read before anything is deleted or released.

use async_trait::async_trait;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use crate::api::{IncidentHold, Site};
use crate::controllers::kubernetes::ApiError;
use crate::rules::HoldScope;
use crate::rules::hold::proof::open_scopes;
use crate::storage::{OpenHolds, OpenHoldsError};

/// Returns the site's holds as the API server has them now, and the names of resources in an unknown form.
pub(crate) async fn list_declared_holds(
    client: &kube::Client,
    site: &Site,
) -> Result<Vec<Result<IncidentHold, String>>, ApiError> {
    let api = Api::<DeserializeGuard<IncidentHold>>::namespaced(
        client.clone(),
        &site.namespace().unwrap_or_default(),
    );
    let fields = format!("spec.siteRef.name={}", site.name_any());
    let all = api.list(&ListParams::default().fields(&fields)).await?;
    let all =
        all.items.into_iter().map(|hold| hold.0.map_err(|invalid| invalid.metadata.name.unwrap_or_default()));
    Ok(all.collect())
}

/// Reads the open holds from the API server on each call. A resource in an unknown form is an error: it may hold
/// anything.
pub struct ApiHolds<'a> {
    pub client: &'a Client,
    pub site: &'a Site,
}

#[async_trait]
impl OpenHolds for ApiHolds<'_> {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        let all = list_declared_holds(self.client, self.site).await;
        let all = all.map_err(|error| OpenHoldsError(error.to_string()))?;
        let all: Result<Vec<_>, String> = all.into_iter().collect();
        let all = all.map_err(|name| {
            OpenHoldsError(format!(
                "IncidentHold {name}: this operator does not know its form; apply it again"
            ))
        })?;
        Ok(open_scopes(&all, Timestamp::now()))
    }
}
