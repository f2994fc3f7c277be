//! The holds that the API server knows of, for who is about to delete or release.

use async_trait::async_trait;
use jiff::Timestamp;
use kube::Client;

use super::declared;
use super::rules::open_covers;
use crate::api::Site;
use crate::controllers::kit::error::Failure;
use crate::protocol::cover::Cover;
use crate::storage::sweep::{HoldsUnknown, OpenHolds};

/// The holds of the API server that are open, read from it at each question. One that cannot be read may keep anything.
pub struct Declared<'a> {
    pub client: &'a Client,
    pub site: &'a Site,
}

#[async_trait]
impl OpenHolds for Declared<'_> {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        let all = declared(self.client, self.site).await;
        let all = all.map_err(|error| HoldsUnknown(Failure::safe_message(&error)))?;
        let all: Result<Vec<_>, String> = all.into_iter().collect();
        let all = all.map_err(|name| {
            HoldsUnknown(format!(
                "IncidentHold {name} is in a form that this operator does not know: apply it anew"
            ))
        })?;
        Ok(open_covers(&all, Timestamp::now()))
    }
}
