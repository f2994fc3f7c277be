//! The holds that the API server knows of, for who is about to delete or release.

use async_trait::async_trait;
use jiff::Timestamp;
use kube::Client;

use super::holds;
use crate::api::{IncidentHold, Site};
use crate::controllers::hold::is_resolved;
use crate::controllers::kit::error::Failure;
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Sources};
use crate::storage::sweep::{HoldsUnknown, OpenHolds};

/// The holds of the API server that are open, read from it at each question.
pub struct Declared<'a> {
    pub client: &'a Client,
    pub site: &'a Site,
}

#[async_trait]
impl OpenHolds for Declared<'_> {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        let all = holds(self.client, self.site).await;
        let all = all.map_err(|error| HoldsUnknown(Failure::safe_message(&error)))?;
        // Whether they can be accepted or not: when in doubt, nothing is deleted.
        let now = Timestamp::now();
        Ok(all
            .iter()
            .filter(|hold| !is_resolved(hold, now))
            .map(cover)
            .collect())
    }
}

fn cover(hold: &IncidentHold) -> Cover {
    let spec = &hold.spec;
    Cover {
        sources: if spec.cameras.is_empty() {
            Sources::All
        } else {
            Sources::Named(spec.cameras.iter().cloned().collect())
        },
        calls: spec.calls,
        window: Window::new(
            spec.window.from.0,
            spec.window.until.as_ref().map(|until| until.0),
        ),
    }
}
