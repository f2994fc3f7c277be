//! Server-side apply of children, without a write if they are in sync.
//!
//! One controller owns a child as a whole. It never changes an object of that name that it does not own, and never writes one
//! that is in sync. The watch cache is enough to see that a child is in sync; before each write it reads the API server. A
//! child is in sync if both are true:
//! * The last apply had the same content. An annotation holds its hash, which shows a field that is not desired any more.
//! * Every desired field has the desired value, which shows a change by another party.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cached::{Cacheable, Cached};
use super::diff;
use super::error::ApiError;
use super::meta::StoredObject;

/// Annotation with the hash of the object as last applied.
pub const APPLIED_HASH_ANNOTATION: &str = "toezicht.dev/last-applied-hash";

/// Why a child was not applied.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum ApplyError {
    #[error(transparent)]
    #[strum(transparent)]
    Api(#[from] ApiError),
    /// The API server can never store the object as sent.
    #[error("{error} for the {kind} {name:?}")]
    #[strum(to_string = "api_invalid")]
    Invalid { kind: String, name: String, error: ApiError },
    #[error("a {kind} named {name:?} exists and does not belong to this Site: {}", foreign_remedy(kind))]
    ForeignObject { kind: String, name: String },
    #[error("the desired object cannot be written as JSON")]
    NotSerializable(#[from] serde_json::Error),
}

/// Returns the remedy for a foreign object. The Site's own StatefulSet seems foreign if somebody made another object its controller.
fn foreign_remedy(kind: &str) -> &'static str {
    if kind == "StatefulSet" {
        "if its pods are recorders of this Site, remove its controller from metadata.ownerReferences, since its deletion loses what \
         they have in emptyDir spools; otherwise delete it"
    } else {
        "delete it, or remove its controller from metadata.ownerReferences if it was the Site's"
    }
}

impl From<kube::Error> for ApplyError {
    fn from(error: kube::Error) -> Self {
        Self::Api(error.into())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AppliedObject<K> {
    /// Live object after the apply.
    pub object: K,
    /// Reason of the write; `None`: the object was in sync.
    pub write_reason: Option<WriteReason>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteReason {
    Created,
    /// The desired object changed.
    Changed,
    /// Another party changed the live object at this path.
    Drifted(String),
}

/// Applies `desired` as `manager`. Fails if an object of that name is not the controller's own: `is_own`.
pub async fn apply_child<K: Cacheable + Serialize>(
    api: &Api<K>,
    cached: &Cached<K>,
    manager: &str,
    desired: K,
    is_own: impl Fn(&ObjectMeta) -> bool,
) -> Result<AppliedObject<K>, ApplyError> {
    let (namespace, name) = (desired.namespace().unwrap_or_default(), desired.name_any());
    if let Some(live) = cached.get_current(&namespace, &name)
        && is_own(live.meta())
        && write_reason(&with_hash_annotation(desired.clone())?, &*live)?.is_none()
    {
        return Ok(AppliedObject { object: K::clone(&live), write_reason: None });
    }
    let live = get_owned(api, &name, is_own).await?;
    apply_over(api, cached, manager, desired, live).await
}

/// Applies `desired` like [`apply_child`] over the object that the API server or the watch cache has.
pub async fn apply_over<K: Cacheable + Serialize>(
    api: &Api<K>,
    cached: &Cached<K>,
    manager: &str,
    desired: K,
    live: Option<K>,
) -> Result<AppliedObject<K>, ApplyError> {
    let name = desired.name_any();
    let mut desired = with_hash_annotation(desired)?;
    let reason = match &live {
        None => WriteReason::Created,
        Some(live) => match write_reason(&desired, live)? {
            None => return Ok(AppliedObject { object: live.clone(), write_reason: None }),
            Some(reason) => reason,
        },
    };
    // With the UID, the server answers 409 if another object took the name since the read.
    let uid = live.as_ref().and_then(ResourceExt::uid);
    if let (Some(uid), Some(Value::Object(metadata))) = (uid, desired.get_mut("metadata")) {
        metadata.insert("uid".to_owned(), uid.into());
    }
    let object = api.patch(&name, &PatchParams::apply(manager).force(), &Patch::Apply(&desired)).await;
    let object = object.map_err(|error| rejection::<K>(&name, error.into()))?;
    cached.note_written(&object);
    Ok(AppliedObject { object, write_reason: Some(reason) })
}

fn rejection<K: StoredObject>(name: &str, error: ApiError) -> ApplyError {
    if error.is_invalid() {
        ApplyError::Invalid { kind: K::kind(&()).into_owned(), name: name.to_owned(), error }
    } else {
        ApplyError::Api(error)
    }
}

/// Returns the live object `name`, which must be the controller's own; `None`: there is none of that name.
pub async fn get_owned<K: StoredObject>(
    api: &Api<K>,
    name: &str,
    is_own: impl Fn(&ObjectMeta) -> bool,
) -> Result<Option<K>, ApplyError> {
    // Metadata first: the operator must not read the content of a Secret that belongs to somebody else.
    let Some(metadata) = api.get_metadata_opt(name).await? else {
        return Ok(None);
    };
    if !is_own(&metadata.metadata) {
        return Err(ApplyError::ForeignObject { kind: K::kind(&()).into_owned(), name: name.to_owned() });
    }
    Ok(api.get_opt(name).await?)
}

/// Returns `desired` as JSON, with its type and the hash annotation.
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

/// Returns the reason to write over `live`; `None` if it is in sync.
fn write_reason<K: Resource + Serialize>(
    desired: &Value,
    live: &K,
) -> Result<Option<WriteReason>, serde_json::Error> {
    let annotations = desired.pointer("/metadata/annotations");
    let desired_hash = annotations.and_then(|all| all.get(APPLIED_HASH_ANNOTATION)).and_then(Value::as_str);
    if live.annotations().get(APPLIED_HASH_ANNOTATION).map(String::as_str) != desired_hash {
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
