//! Metadata of an object: pause, deletion, owner and finalizers.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::ApiError;

/// Annotation that pauses a resource: with `"true"`, its controller changes nothing.
pub const PAUSED_ANNOTATION: &str = "toezicht.dev/paused";

/// Type of object that the API server stores.
pub trait StoredObject: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug {}

impl<K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug> StoredObject for K {}

pub fn is_paused<K: Resource>(object: &K) -> bool {
    object.annotations().get(PAUSED_ANNOTATION).is_some_and(|value| value == "true")
}

pub fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Returns `namespace/name`, for logs and for [`super::error::ReconcileBackoff`].
pub fn namespaced_name<K: Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether the object with `uid` is the controller of `object`.
pub fn is_controlled_by<K: Resource>(object: &K, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Adds a finalizer to `object`, unless it has it. Returns the written object.
pub async fn add_finalizer<K: StoredObject<Scope = NamespaceResourceScope>>(
    client: &Client,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<Option<PartialObjectMeta<K>>, ApiError> {
    if object.finalizers().iter().any(|name| name == finalizer) {
        return Ok(None);
    }
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(finalizer.to_owned());
    set_finalizers(client, object, &finalizers, manager).await
}

/// Removes a finalizer from `object`, if it has it. Returns the written object.
pub async fn remove_finalizer<K: StoredObject<Scope = NamespaceResourceScope>>(
    client: &Client,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<Option<PartialObjectMeta<K>>, ApiError> {
    let rest: Vec<String> = object.finalizers().iter().filter(|name| *name != finalizer).cloned().collect();
    if rest.len() == object.finalizers().len() {
        return Ok(None);
    }
    set_finalizers(client, object, &rest, manager).await
}

async fn set_finalizers<K: StoredObject<Scope = NamespaceResourceScope>>(
    client: &Client,
    object: &K,
    finalizers: &[String],
    manager: &str,
) -> Result<Option<PartialObjectMeta<K>>, ApiError> {
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let (name, meta) = (object.name_any(), object.meta());
    let observed = ObservedMeta {
        name: &name,
        uid: meta.uid.as_deref(),
        resource_version: meta.resource_version.as_deref(),
    };
    patch_finalizers(&api, observed, finalizers, manager).await
}

/// Deletes an object with what it owns, but no other that took its name.
pub async fn delete_exactly<K: StoredObject>(
    api: &Api<K>,
    name: &str,
    uid: Option<String>,
) -> Result<(), ApiError> {
    let preconditions = Preconditions { uid, resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    match api.delete(name, &params).await.map_err(ApiError) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Identity and version of an object as it was read.
#[derive(Clone, Copy, Debug)]
pub struct ObservedMeta<'a> {
    pub name: &'a str,
    pub uid: Option<&'a str>,
    pub resource_version: Option<&'a str>,
}

/// Sets the finalizers of an object that did not change since it was `observed`. Returns the written object. Skips one that was
/// deleted.
pub async fn patch_finalizers<K: StoredObject>(
    api: &Api<K>,
    observed: ObservedMeta<'_>,
    finalizers: &[String],
    manager: &str,
) -> Result<Option<PartialObjectMeta<K>>, ApiError> {
    // A merge patch replaces the whole list. With the resourceVersion, the server answers 409 if another party changed
    // its finalizers meanwhile, and the next reconcile retries; without it, theirs would be lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers, "resourceVersion": observed.resource_version, "uid": observed.uid,
    }});
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(observed.name, &params, &Patch::Merge(&patch)).await.map_err(ApiError) {
        Err(error) if error.is_not_found() => Ok(None),
        written => written.map(Some),
    }
}
