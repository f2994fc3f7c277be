//! The bucket that a probe from the command line is given: made for it, or empty.

use serde_json::Value;

use super::canary::is_canary;
use super::standalone::{ProbeError, Survey};
use crate::storage::client::Store;
use crate::storage::error::StoreError;
use crate::storage::policy::{Policy, statements};
use crate::storage::statements::bootstrap;
use crate::storage::{apply, observe};

/// What an empty bucket had before anything was written.
pub(super) struct Ground {
    /// Statements that let the operator in, to be put back; `None`: the policy cannot be read.
    pub(super) policy: Option<Vec<Value>>,
    /// `None`: the store has no lifecycle, or does not show it.
    pub(super) lifecycle: Result<bool, StoreError>,
}

/// Makes the bucket, or looks whether it is empty.
pub(super) async fn ground(operator: &Store, survey: &Survey) -> Result<Ground, ProbeError> {
    let in_use = |what: &str| Err(ProbeError::InUse(what.to_owned()));
    let client = &operator.client;
    let page = client.list_object_versions().bucket(&operator.bucket).send().await;
    match page.map_err(|error| StoreError::of("ListObjectVersions", &error)) {
        Ok(_) if survey.create => return Err(ProbeError::Exists),
        Ok(page) => {
            let mut keys = page.versions().iter().filter_map(|it| it.key());
            let mut markers = page.delete_markers().iter().filter_map(|it| it.key());
            let foreign = |key: &str| !is_canary(key);
            if keys.any(foreign) || markers.any(foreign) {
                return in_use("objects");
            }
        }
        Err(error) if error.is_absent() && survey.create => {
            apply::create(operator).await?;
        }
        Err(error) if error.is_absent() => return Err(ProbeError::NoBucket),
        Err(error) => return Err(error.into()),
    }
    // A retention would keep the canaries.
    if let Ok((_, Some(retention))) = observe::lock(operator).await {
        return in_use(&format!("a default retention ({retention})"));
    }
    let lifecycle = match observe::lifecycle(operator).await {
        Ok(Some(rules)) if !rules.is_empty() => return in_use("lifecycle rules"),
        Ok(rules) => Ok(rules.is_some()),
        Err(error) => Err(error),
    };
    let policy = match observe::policy(operator).await {
        Ok(None) => Some(Vec::new()),
        Ok(Some(text)) => {
            let document = serde_json::from_str::<Value>(&text).unwrap_or_default();
            let found = statements(&document).unwrap_or_default();
            let principal = survey.operator_principal.as_deref().unwrap_or_default();
            let needed = Policy::of(&bootstrap(operator.into(), principal, true)).unwrap_or_default();
            if !Policy::of(&found).is_ok_and(|found| !found.is_empty() && found.is_within(&needed)) {
                return in_use("a policy");
            }
            Some(found)
        }
        Err(_) => None,
    };
    Ok(Ground { policy, lifecycle })
}
