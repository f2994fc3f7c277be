//! Questions about an object's metadata.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::{ApiError, KubeErrorExt};

/// Annotation that pauses a resource: with `"true"` its controller changes nothing.
pub const PAUSED_ANNOTATION: &str = "toezicht.dev/paused";

/// Whether `object` is paused by annotation.
pub fn is_paused<K: Resource>(object: &K) -> bool {
    object.annotations().get(PAUSED_ANNOTATION).is_some_and(|value| value == "true")
}

/// Whether `object` is being deleted.
pub fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// `namespace/name`, for logs and for [`super::error::ReconcileBackoff`].
pub fn namespaced_name<K: Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether the controller of `object` is the object with `uid`.
pub fn is_controlled_by<K: Resource>(object: &K, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Adds a finalizer to `object`, unless it has it.
pub async fn add_finalizer<K>(
    client: &Client,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    if object.finalizers().iter().any(|name| name == finalizer) {
        return Ok(());
    }
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(finalizer.to_owned());
    set_finalizers(client, object, &finalizers, manager).await
}

/// Removes a finalizer from `object`, if it has it.
pub async fn remove_finalizer<K>(
    client: &Client,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let rest: Vec<String> = object.finalizers().iter().filter(|name| *name != finalizer).cloned().collect();
    if rest.len() == object.finalizers().len() {
        return Ok(());
    }
    set_finalizers(client, object, &rest, manager).await
}

/// With the resourceVersion, so that nobody else's finalizer is lost; a conflict is tried again.
async fn set_finalizers<K>(
    client: &Client,
    object: &K,
    finalizers: &[String],
    manager: &str,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let (name, meta) = (object.name_any(), object.meta());
    let seen = ObservedMeta {
        name: &name,
        uid: meta.uid.as_deref(),
        resource_version: meta.resource_version.as_deref(),
    };
    patch_finalizers(&api, seen, finalizers, manager).await
}

/// An object as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct ObservedMeta<'a> {
    pub name: &'a str,
    pub uid: Option<&'a str>,
    pub resource_version: Option<&'a str>,
}

/// Sets the finalizers of an object that is still as it was `seen`. One that is gone is left alone.
pub async fn patch_finalizers<K>(
    api: &Api<K>,
    seen: ObservedMeta<'_>,
    finalizers: &[String],
    manager: &str,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let patch = json!({"metadata": {
        "finalizers": finalizers, "resourceVersion": seen.resource_version, "uid": seen.uid,
    }});
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(seen.name, &params, &Patch::Merge(&patch)).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}
