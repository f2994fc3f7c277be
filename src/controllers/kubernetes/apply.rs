//! Server-side apply of children, with no write when in sync.
//!
//! A child is owned whole by one controller. Before it is touched its live state is read: one of that name
//! that is not ours is left alone, and one that is as desired is not written. "As desired" means both that
//! our last apply wanted the same (an annotation holds its hash, so that a field we no longer want is seen)
//! and that every field we want is there (so that what others changed is seen).

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::ApiError;
use super::{diff, meta};

/// Annotation with the hash of what was applied last.
pub const APPLIED_HASH_ANNOTATION: &str = "toezicht.dev/last-applied-hash";

/// Why a child was not applied.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum ApplyError {
    /// The API server did not do it.
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    /// An object of that name is not ours; it was left alone.
    #[error("a {kind} named {name:?} exists that this operator did not make: rename or delete it")]
    ForeignObject { kind: String, name: String },
    /// The desired object is not complete.
    #[error("the desired object cannot be written as JSON")]
    NotSerializable(#[from] serde_json::Error),
}

impl From<kube::Error> for ApplyError {
    fn from(error: kube::Error) -> Self {
        Self::Api(error.into())
    }
}

/// What came of applying a child: the object as it is now, and whether it had to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedObject<K> {
    /// The child as the server has it.
    pub object: K,
    /// Why it was written; `None`: it was in sync.
    pub write_reason: Option<WriteReason>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteReason {
    /// It did not exist.
    Created,
    /// We want it different from last time.
    Changed,
    /// Somebody else changed it, at this path.
    Drifted(String),
}

/// Applies `desired` as `manager`. Its controller reference says whose it is: an object of that name with
/// another controller, or none, is left alone.
pub async fn apply_child<K>(api: &Api<K>, manager: &str, desired: K) -> Result<AppliedObject<K>, ApplyError>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let name = desired.name_any();
    let owner = desired.owner_references().iter().find(|owner| owner.controller == Some(true)).cloned();
    let owner = owner.map(|owner| owner.uid).unwrap_or_default();
    let live = get_owned(api, &name, &owner).await?;
    let mut desired = with_hash_annotation(desired)?;
    let written = match &live {
        None => WriteReason::Created,
        Some(live) => match write_reason(&desired, live)? {
            None => {
                return Ok(AppliedObject { object: live.clone(), write_reason: None });
            }
            Some(reason) => reason,
        },
    };
    // The one that was looked at, and no other that took its name since: the server answers 409.
    let uid = live.as_ref().and_then(ResourceExt::uid);
    if let (Some(uid), Some(Value::Object(metadata))) = (uid, desired.get_mut("metadata")) {
        metadata.insert("uid".to_owned(), uid.into());
    }
    let object = api.patch(&name, &PatchParams::apply(manager).force(), &Patch::Apply(&desired)).await?;
    Ok(AppliedObject { object, write_reason: Some(written) })
}

/// The live object `name`, where there is one and the object with `owner` (a UID) controls it. Metadata is
/// looked at first, so that the content of what is not ours is never read.
pub async fn get_owned<K>(api: &Api<K>, name: &str, owner: &str) -> Result<Option<K>, ApplyError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let Some(metadata) = api.get_metadata_opt(name).await? else {
        return Ok(None);
    };
    if !meta::is_controlled_by(&metadata, owner) {
        return Err(ApplyError::ForeignObject { kind: K::kind(&()).into_owned(), name: name.to_owned() });
    }
    Ok(api.get_opt(name).await?)
}

/// `desired` as JSON, with type and the annotation with its hash.
fn with_hash_annotation<K: Resource<DynamicType = ()> + Serialize>(
    mut desired: K,
) -> Result<Value, serde_json::Error> {
    desired.annotations_mut().remove(APPLIED_HASH_ANNOTATION);
    let hash = hex::encode(Sha256::digest(serde_json::to_vec(&desired)?));
    desired.annotations_mut().insert(APPLIED_HASH_ANNOTATION.to_owned(), hash);
    let mut value = serde_json::to_value(&desired)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".to_owned(), K::api_version(&()).into());
        fields.insert("kind".to_owned(), K::kind(&()).into());
        fields.remove("status");
    }
    Ok(value)
}

/// Why `live` has to be written; `None` where it is in sync.
fn write_reason<K: Resource + Serialize>(
    desired: &Value,
    live: &K,
) -> Result<Option<WriteReason>, serde_json::Error> {
    let hash = live.annotations().get(APPLIED_HASH_ANNOTATION).map(String::as_str);
    if hash
        != desired
            .pointer("/metadata/annotations")
            .and_then(|all| all.get(APPLIED_HASH_ANNOTATION))
            .and_then(Value::as_str)
    {
        return Ok(Some(WriteReason::Changed));
    }
    Ok(diff::first_difference(desired, &serde_json::to_value(live)?).map(WriteReason::Drifted))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;
    use serde_json::json;

    use super::*;

    fn account(automount: bool) -> ServiceAccount {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "automountServiceAccountToken": automount}))
            .unwrap()
    }

    fn live(of: ServiceAccount) -> ServiceAccount {
        let mut live: ServiceAccount = serde_json::from_value(with_hash_annotation(of).unwrap()).unwrap();
        live.metadata.resource_version = Some("1".into());
        live.labels_mut().insert("added".into(), "by another".into());
        live
    }

    #[test]
    fn object_in_sync_needs_no_write() {
        let desired = with_hash_annotation(account(false)).unwrap();
        assert_eq!(write_reason(&desired, &live(account(false))).unwrap(), None);
    }

    #[test]
    fn changed_and_drifted_objects_are_written() {
        let desired = with_hash_annotation(account(false)).unwrap();
        assert_eq!(write_reason(&desired, &live(account(true))).unwrap(), Some(WriteReason::Changed));
        let mut drifted = live(account(false));
        drifted.automount_service_account_token = Some(true);
        assert_eq!(
            write_reason(&desired, &drifted).unwrap(),
            Some(WriteReason::Drifted("/automountServiceAccountToken".into()))
        );
    }

    #[test]
    fn hash_ignores_previous_hash_annotation() {
        assert_eq!(
            with_hash_annotation(live(account(false))).unwrap(),
            with_hash_annotation(live(live(account(false)))).unwrap()
        );
    }
}
