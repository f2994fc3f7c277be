//! The bucket that a probe from the command line is given: made for it, or empty.

use serde_json::Value;

use super::canary::is_canary;
use super::request::{ProbeError, ProbeRequest};
use crate::storage::bucket::policy::document::{Policy, parse_statements};
use crate::storage::bucket::policy::statements::bootstrap;
use crate::storage::bucket::{apply, observe};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// What an empty bucket had before anything was written.
pub(crate) struct InitialBucket {
    /// Statements that let the operator in, to be put back; `None`: the policy cannot be read.
    pub(crate) policy: Option<Vec<Value>>,
    /// `None`: the store has no lifecycle, or does not show it.
    pub(crate) lifecycle: Result<bool, StoreError>,
}

/// Makes the bucket, or looks whether it is empty.
pub(crate) async fn prepare_bucket(
    operator: &BucketClient,
    request: &ProbeRequest,
) -> Result<InitialBucket, ProbeError> {
    let in_use_error = |what: &str| Err(ProbeError::InUse(what.to_owned()));
    let client = &operator.client;
    let page = client.list_object_versions().bucket(&operator.bucket).send().await;
    match page.map_err(|error| StoreError::from_sdk("ListObjectVersions", &error)) {
        Ok(_) if request.create => return Err(ProbeError::BucketExists),
        Ok(page) => {
            let mut keys = page.versions().iter().filter_map(|it| it.key());
            let mut markers = page.delete_markers().iter().filter_map(|it| it.key());
            let foreign = |key: &str| !is_canary(key);
            if keys.any(foreign) || markers.any(foreign) {
                return in_use_error("objects");
            }
        }
        Err(error) if error.is_not_found() && request.create => {
            apply::create_bucket(operator).await?;
        }
        Err(error) if error.is_not_found() => return Err(ProbeError::NoBucket),
        Err(error) => return Err(error.into()),
    }
    // A retention would keep the canaries.
    if let Ok((_, Some(retention))) = observe::read_object_lock(operator).await {
        return in_use_error(&format!("a default retention ({retention})"));
    }
    let lifecycle = match observe::read_lifecycle(operator).await {
        Ok(Some(rules)) if !rules.is_empty() => return in_use_error("lifecycle rules"),
        Ok(rules) => Ok(rules.is_some()),
        Err(error) => Err(error),
    };
    let policy = match observe::read_policy(operator).await {
        Ok(None) => Some(Vec::new()),
        Ok(Some(text)) => {
            let document = serde_json::from_str::<Value>(&text).unwrap_or_default();
            let found = parse_statements(&document).unwrap_or_default();
            let principal = request.operator_principal.as_deref().unwrap_or_default();
            let needed =
                Policy::from_statements(&bootstrap(operator.into(), principal, true)).unwrap_or_default();
            if !Policy::from_statements(&found)
                .is_ok_and(|found| !found.is_empty() && found.is_subset_of(&needed))
            {
                return in_use_error("a policy");
            }
            Some(found)
        }
        Err(_) => None,
    };
    Ok(InitialBucket { policy, lifecycle })
}
