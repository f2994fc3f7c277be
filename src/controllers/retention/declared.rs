//! The holds that the API server knows of, for who is about to delete or release.

use async_trait::async_trait;
use jiff::Timestamp;
use kube::Client;

use super::list_declared_holds;
use super::rules::open_scopes;
use crate::api::Site;
use crate::controllers::kit::error::Failure;
use crate::protocol::cover::HoldScope;
use crate::storage::sweep::{OpenHolds, OpenHoldsError};

/// The holds of the API server that are open, read from it at each question. One that cannot be read may keep anything.
pub struct ApiHolds<'a> {
    pub client: &'a Client,
    pub site: &'a Site,
}

#[async_trait]
impl OpenHolds for ApiHolds<'_> {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        let all = list_declared_holds(self.client, self.site).await;
        let all = all.map_err(|error| OpenHoldsError(Failure::safe_message(&error)))?;
        let all: Result<Vec<_>, String> = all.into_iter().collect();
        let all = all.map_err(|name| {
            OpenHoldsError(format!(
                "IncidentHold {name} is in a form that this operator does not know: apply it anew"
            ))
        })?;
        Ok(open_scopes(&all, Timestamp::now()))
    }
}
